"""`python -m torchskew.bridge PORT [HOST]`."""

from __future__ import annotations

import sys

from torchskew.bridge.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
