"""The runtimes: one class, one file, one row in RUNTIMES."""
