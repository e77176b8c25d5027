"""The sixteen promises that a rehearsal checks, each a pure function over what was observed."""
