"""The bridge of one attempt: one more process in rank 0's agent, at which the ranks meet instead of at rank 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from torchskew.engine.events import Exited, Gone, Milestone, Refused, Unreadable
from torchskew.engine.rank_group import REAP_SECONDS, GroupRank, RankGroup, Seat
from torchskew.errors import AgentError
from torchskew.inside.job import alone
from torchskew.planning.scenario import Scenario
from torchskew.planning.scenario_file import parse_scenario

LISTEN_SECONDS = 10.0  # importing its modules and binding a port take milliseconds
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_NAME: Final = "torchskew-bridge"  # no file of a user's can have this name


class Bridge:
    """A bridge that was started. It lives until `stop`, or until its agent ends."""

    def __init__(self, seat: Seat, rank_id: str, port: int) -> None:
        """Start it beside rank 0 and wait until it listens.

        Raises:
            AgentError: it does not listen, whatever the reason: that is never a version's fault.
        """
        seat.agent.load(scenario())
        self.place = f"{seat.agent.channel.host}:{port}"
        self._group = RankGroup(_NAME)
        self._rank: GroupRank = self._group.add(seat, rank_id)
        self._group.start(self._rank, replace(alone(LISTEN_SECONDS), port=port, check_port=True))
        self._group.wait_until(LISTEN_SECONDS, lambda: self._listens() or self._rank.end is not None)
        if not self._listens():
            why = self._end() or f"it did not listen within {LISTEN_SECONDS:.0f} s"
            self.stop()
            raise AgentError(f"{seat.agent.name}: the bridge at {self.place} could not be started: {why}")

    def _listens(self) -> bool:
        return Milestone.LISTENING in self._rank.milestones

    def lost(self) -> str | None:
        """Where it was and why it no longer serves, or None while it does: no release names the store that it lost."""
        self._group.wait_until(0.0, lambda: self._rank.end is not None)
        why = self._end()
        return None if why is None else f"the bridge at {self.place} ended before its ranks: {why}"

    def _end(self) -> str | None:
        match self._rank.end:
            case None:
                return None
            case Refused(why=why) | Gone(why=why) | Unreadable(why=why):
                return why
            case Exited(report=report, signal=signal, log=log):
                error = report.error if report else None
                what = f"{error.type}: {error.text}" if error else (signal or "it ended by itself")
                return f"{what}\n{log}".strip()

    def stop(self) -> str:
        """Kill it; returns what it wrote: a line for each connection."""
        self._group.signal("KILL")
        self._group.wait_for_ends(REAP_SECONDS)
        return self._rank.end.log if isinstance(self._rank.end, Exited) else ""


@contextmanager
def hosted(seat: Seat, rank_id: str, port: int) -> Iterator[Bridge]:
    """A bridge for the ranks of one attempt, stopped however the attempt ends.

    Raises:
        AgentError: it could not be started, or ended before its ranks had.
    """
    bridge = Bridge(seat, rank_id, port)
    try:
        yield bridge
        if (lost := bridge.lost()) is not None:
            raise AgentError(f"{seat.agent.name}: {lost}")
    finally:
        bridge.stop()


@cache
def scenario() -> Scenario:
    """What an agent loads to become able to host a bridge: the host's text with the bridge's modules in it."""
    path = _PACKAGE / "inside" / "bridge.py"
    files = sorted((_PACKAGE / "bridge").glob("*.py"))
    sources = {_module(file): file.read_text(encoding="utf-8") for file in files}
    text = f"{path.read_text(encoding='utf-8')}\nSOURCES.update({sources!r})\n"
    return parse_scenario(_NAME, text, str(path))


def _module(file: Path) -> str:
    return "torchskew.bridge" if file.stem == "__init__" else f"torchskew.bridge.{file.stem}"
