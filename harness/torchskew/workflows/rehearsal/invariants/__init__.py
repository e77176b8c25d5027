"""The sixteen promises of a rehearsal, each a pure function from what was observed to a verdict."""
