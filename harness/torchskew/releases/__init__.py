"""What each release speaks, with sources, and the outcomes that follow. Pure."""
