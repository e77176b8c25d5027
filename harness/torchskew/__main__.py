"""`python -m torchskew` is the command `torchskew`."""

import sys

from torchskew.cli import main

sys.exit(main())
