"""What ranks would import for seconds is imported by the agent once, before it forks them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.inside.driver import Driver

AHEAD = (b'"imports": []', b'"imports": ["colorsys", "no_such_module"]')
ASKS = "import sys\ndef rank(job):\n    return {'there': 'colorsys' in sys.modules}\n"


def told(folder: Path, change: tuple[bytes, bytes]) -> tuple[dict, str]:
    with closing(Driver(folder, change=change)) as agent:
        agent.until("ready")
        agent.run(ASKS)
        return agent.exited()["report"], agent.errors.read_text()


def test_ranks_find_what_was_imported_ahead(tmp_path: Path) -> None:
    report, _ = told(tmp_path, AHEAD)
    assert report["payload"] == {"there": True}


def test_nothing_is_imported_ahead_unasked(tmp_path: Path) -> None:
    report, _ = told(tmp_path, (b"", b""))
    assert report["payload"] == {"there": False}


def test_what_cannot_be_imported_ahead_is_said_and_left_to_the_ranks(tmp_path: Path) -> None:
    report, errors = told(tmp_path, AHEAD)
    assert report["finished"]
    assert "not imported ahead: no_such_module: ModuleNotFoundError" in errors
