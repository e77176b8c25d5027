"""Progress tells how far a run is, and never stops one."""

from __future__ import annotations

import io
import os

import pytest
from torchskew.engine.progress import Plain, size, told, watching
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
    assert told(Tally(planned=126, done=94, running=12, waiting=9), 42.0) == (
        "94/126 cells · 12 running, 9 waiting for a timeout of the code under test · about 14 s left"
    )
    assert told(Tally(planned=3), 0.1) == "0/3 cells"


def test_a_pipe_gets_plain_lines() -> None:
    with watching(io.StringIO()) as watch:
        assert isinstance(watch, Plain)


@pytest.mark.parametrize(
    ("count", "text"),
    [(812, "812 B"), (9_400, "9.4 kB"), (192_000_000, "192 MB"), (3.1e9, "3.1 GB"), (2e13, "20000 GB")],
)
def test_sizes_are_read_by_people(count: float, text: str) -> None:
    assert size(count) == text
