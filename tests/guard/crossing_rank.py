"""One rank of tests.guard.crossing: that of the bridge's trial, in a process that the guard covers. On Python 3.8."""

import runpy
import sys
from pathlib import Path

from torchskew.guard.install import install

install()
sys.argv[0] = str(Path(__file__).resolve().parents[1] / "bridge" / "rank.py")
runpy.run_path(sys.argv[0], run_name="__main__")
