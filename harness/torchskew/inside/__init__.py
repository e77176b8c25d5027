"""What runs inside each version: standard library and torch only, syntax of Python 3.8."""
