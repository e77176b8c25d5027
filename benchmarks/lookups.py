"""Runs a script in a release's Python with name look-ups answered at once, as in the venv runtime."""

from __future__ import annotations

from pathlib import Path

_QUIET = Path(__file__).resolve().parent.parent / "harness" / "torchskew" / "inside" / "quiet.py"
_START = (
    "import runpy, sys; runpy.run_path(sys.argv[1]); del sys.argv[:2]; runpy.run_path(sys.argv[0], None, '__main__')"
)


def without_lookups(python: str, script: Path, *words: str) -> list[str]:
    """The command; its environment has TORCHSKEW_ETC, a folder that launch.write_etc() filled."""
    return [python, "-W", "ignore", "-c", _START, str(_QUIET), str(script), *words]
