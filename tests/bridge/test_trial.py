"""The trial judges what a group did, not how fast its machine imports or ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bridge import trial
from tests.patience import PATIENCE

IMPORTS = """\
import pathlib, sys
pathlib.Path({mark!r}).touch()
print("imported", flush=True)
sys.stdin.readline()
print(11)
"""


def test_an_import_may_take_longer_than_a_group_has(tmp_path: Path) -> None:
    # A rank 0 that had printed the right sum was called a hang: the deadline had begun before its import.
    mark, script = tmp_path / "imported", tmp_path / "rank.py"
    script.write_text(IMPORTS.format(mark=str(mark)))

    def clock() -> float:
        return time.monotonic() + (3600 if mark.exists() else 0)  # an hour passes during the import

    with trial.ranks([sys.executable] * 2, 1, {}, script) as group:
        assert trial.answers(group, clock) == ["11", "11"]


def test_a_rank_that_is_right_and_does_not_end_is_no_hang(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text("import time\nprint('11', flush=True)\ntime.sleep(900)\n")
    with trial.ranks([sys.executable], 1, {}, script) as group:
        assert trial.answer(group[0], PATIENCE, 0.01) == "11, but it did not end"


def test_a_rank_that_says_nothing_is_a_hang_and_one_that_fails_says_why(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text("import sys, time\nsys.exit('no way') if sys.argv[1] == '1' else time.sleep(900)\n")
    with trial.ranks([sys.executable] * 2, 1, {}, script) as group:
        assert trial.answer(group[0], 0.01) == "hang"
        assert trial.answer(group[1], PATIENCE) == "no way"
