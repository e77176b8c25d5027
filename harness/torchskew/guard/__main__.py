"""`python -m torchskew.guard train.py ...` runs a script with the guard installed."""

from __future__ import annotations

import sys

from torchskew.guard.launch import main

if __name__ == "__main__":
    main(sys.argv[1:])
