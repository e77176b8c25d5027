"""Every ordered group of these interpreters' releases under TORCHSKEW_GUARD=bridge, and whether it computed.

python -m tests.guard.crossing PYTHON PYTHON [PYTHON …]
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from tests.bridge.trial import answers, free_port, ranks, release, right
from tests.conftest import ROOT

RANK = Path(__file__).with_name("crossing_rank.py")
SETTINGS = {"TORCHSKEW_GUARD": "bridge", "PYTHONPATH": str(ROOT / "harness"), "PYTHONWARNINGS": "ignore"}


def main(pythons: list[str]) -> int:
    """Try every pair of two different ones, and one group of all of them in both orders; how many were not right."""
    groups = list(itertools.permutations(pythons, 2))
    groups += [tuple(pythons), tuple(reversed(pythons))] if len(pythons) > 2 else []
    failed = 0
    for group in groups:
        with ranks(list(group), free_port(), SETTINGS, RANK) as running:
            result = right(answers(running))
        failed += result != "right"
        sys.stdout.write(f"{', '.join(map(release, group))}: {result}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
