"""What travels into a rehearsed rank: standard library and torch only, syntax of Python 3.8."""
