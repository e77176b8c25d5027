"""Whatever keeps the guard from its work is one line, and the job goes on: the border between the guard and a job."""

from __future__ import annotations

from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.notice import say, warn
from torchskew.guard.place import AGENTS, Place
from torchskew.guard.settings import SettingError


class Seat:
    """Around all that the guard does before an init: only what the mode allows comes out.

    That is ProtocolVersionError where the group is known not to work, under strict also where that could not be found
    out, and nothing under warn.
    """

    def __init__(self, mode: str) -> None:
        """The block sets the place as soon as it knows it."""
        self.mode = mode
        self.place: Place | None = None

    def __enter__(self) -> Seat:  # noqa: PYI034 - typing has no Self in Python 3.8
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> bool:
        if isinstance(problem, ProtocolVersionError):
            if self.mode == "warn":
                warn(problem.rank, str(problem))
            return self.mode == "warn"
        if isinstance(problem, Exception):
            _step_aside(problem, self.mode, self.place)
            return True
        return False


def _step_aside(problem: Exception, mode: str, place: Place | None) -> None:
    """Say in one line that nothing was compared; under strict, that is an error. So is a misspelt setting, except
    under warn.
    """
    rank, noun = (place.rank, "agent" if place.method in AGENTS else "rank") if place else (-1, "rank")
    if isinstance(problem, SettingError) and mode != "warn":
        raise problem
    if mode == "strict":
        text = "The releases of this process group could not be compared (detected on %s %d): %s\nRemedy: %s"
        remedy = "remove the cause, or set TORCHSKEW_GUARD=enforce to go on without the comparison."
        raise ProtocolVersionError(text % (noun, rank, problem, remedy), kind="unverified", rank=rank, remedy=remedy)
    what = str(problem) if isinstance(problem, Unverified) else "%s: %s" % (type(problem).__name__, problem)
    say(rank, "%s. The init goes on without a comparison of the releases." % what, noun)
