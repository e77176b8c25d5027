"""What every run planned, tried and observed, in SQLite; decides nothing."""
