"""`python -m harness` is the command `torchskew`."""

import sys

from harness.cli import main

sys.exit(main())
