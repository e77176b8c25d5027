"""What every run planned, tried and found, kept in SQLite; nothing here decides anything."""
