"""Progress tells how far a run is, and never stops one."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console
from rich.progress import Progress
from torchskew.engine.progress import Live, Plain, in_words, seconds_left, watching
from torchskew.engine.run import Tally


def test_plain_lines_say_each_step_of_a_version_once() -> None:
    out = io.StringIO()
    plain = Plain(out)
    for done in (0, 5, 10):
        plain.step("2.6.0", "downloading", done, 3_100_000_000)
    plain.step("2.6.0", "importing torch once")
    assert out.getvalue() == "  2.6.0: downloading (3.1 GB)\n  2.6.0: importing torch once\n"


def test_nobody_reading_is_no_reason_to_end_a_run() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = os.fdopen(writer, "w")
    Plain(out).say("to nobody")
    with pytest.raises(BrokenPipeError):
        out.close()
    Plain(out).say("to a closed file")


def test_the_tally_in_words() -> None:
    assert in_words(Tally(planned=126, done=94, running=12, waiting=9), 62.0) == (
        "94/126 cells · 12 running, 9 waiting for a timeout of the code under test · about 14 s left"
    )
    assert in_words(Tally(planned=3), 0.1) == "0/3 cells"


@pytest.mark.parametrize(
    ("tally", "elapsed", "left"),
    [
        # The second block of a wide measurement: 40 of 50 done cells were known before or blocked.
        (Tally(planned=1008, done=50, unrun=40), 2.0, 2.0 / 10 * 958),
        # 90 cells wait for their timeouts: their work is done, and the pace is not one cell in five seconds.
        (Tally(planned=1008, done=2, waiting=90, longest=12.0), 10.0, 10.0 / 92 * 916),
        (Tally(planned=100, done=98, waiting=2, longest=28.0), 5.0, 23.0),  # nothing left but to wait
        (Tally(planned=100, done=98, waiting=2, longest=28.0), 40.0, 0.0),  # longer than was predicted
        (Tally(planned=1008, done=400, unrun=400), 3.0, None),  # nothing ran here yet
        (Tally(planned=10, done=5), 0.5, None),
        (Tally(planned=10, done=10), 5.0, None),
    ],
)
def test_the_time_left_follows_from_the_cells_that_ran_here(tally: Tally, elapsed: float, left: float | None) -> None:
    assert seconds_left(tally, elapsed) == (None if left is None else pytest.approx(left))


def test_a_command_stays_on_one_line_whatever_the_width_of_the_terminal() -> None:
    out = io.StringIO()
    command = "torchskew matrix --only 'all_reduce*/2.6.0,2.13.0/*' --no-cache " + "--guard off on " * 10
    with Progress(console=Console(file=out, width=80, force_terminal=True)) as bars:
        Live(bars).say(command)
    assert command in out.getvalue()


def test_a_pipe_gets_plain_lines() -> None:
    with watching(io.StringIO()) as watch:
        assert isinstance(watch, Plain)
