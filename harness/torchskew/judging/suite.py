"""PyTorch's own tests: the failed assertion of each rank in one line; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchskew.planning.scenario import Report

_SHOWN = 300  # characters of an assertion's text


def failed_assertions(reports: Sequence[Report]) -> dict[int, str]:
    """Why each rank is wrong: the place and the source of the assertion, what it says, and the values it compared."""
    wrong = {}
    for rank, report in enumerate(reports):
        failed: Any = report and report["failed"]
        if failed:
            wrong[rank] = _in_one_line(failed)
    return wrong


def _in_one_line(failed: Mapping[str, Any]) -> str:
    values = "".join(f"; {name} = {value}" for name, value in failed["values"].items())
    text = " ".join(failed["text"].split())
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"{failed['at']} `{failed['line']}`: {text}{values}"
