"""What a failed test shows of torchskew itself: the call that was wrong, and none of the harness's own frames."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from torchskew.errors import HarnessError

_ROOM = Path(__file__).parent
_PACKAGE = _ROOM.parent


def end_at_the_call(error: BaseException) -> None:
    """Cut the traceback of an error that torchskew raised in words where the test called torchskew.

    A defect of torchskew, or of a test's own oracle, keeps all of its frames.
    """
    frames = _frames(error.__traceback__)
    ours = [_PACKAGE in Path(each.tb_frame.f_code.co_filename).parents for each in frames]
    if True not in ours[1:]:
        return
    # A keyword that does not exist is a TypeError, as in any call of Python.
    misused = isinstance(error, TypeError) and _ROOM in Path(frames[-1].tb_frame.f_code.co_filename).parents
    if misused or isinstance(error, HarnessError):
        frames[ours.index(True, 1) - 1].tb_next = None


def _frames(traceback: TracebackType | None) -> list[TracebackType]:
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    return frames
