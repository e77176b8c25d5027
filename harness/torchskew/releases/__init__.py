"""What each release speaks, as facts with their sources, and the outcomes that follow; pure."""
