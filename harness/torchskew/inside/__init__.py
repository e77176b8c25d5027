"""What runs inside each version: standard library and torch only, in the syntax of Python 3.8."""
