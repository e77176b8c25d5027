"""Ctrl-C is never lost, also where Python can't raise it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from torchskew.engine import interrupts

from tests.patience import PATIENCE


class Interrupted:
    """Ctrl-C comes while this goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_destructor_reaches_the_program() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.kept():  # noqa: PT012 - it may come at any of these lines
        Interrupted()
        threading.Event().wait(PATIENCE)


@pytest.fixture
def default_terminate() -> Iterator[None]:
    """SIGTERM as a program finds it; whoever measures the tests may have a handler of their own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_terminate")
def test_a_request_to_terminate_interrupts_as_control_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.kept():  # noqa: PT012 - it may come at any of these lines
        signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(PATIENCE)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_somebody_else_stays_theirs() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with interrupts.kept():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_what_else_a_destructor_raises_is_reported_as_ever() -> None:
    told: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda args: told.append(args.exc_type)

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    try:
        with interrupts.kept():
            Broken()
        Broken()
    finally:
        sys.unraisablehook = before
    assert told == [ValueError, ValueError]


@pytest.mark.slow
def test_a_command_that_is_interrupted_in_a_destructor_ends_as_interrupted() -> None:
    program = """if True:
        import argparse, signal, sys, time
        from torchskew import cli

        class Gone:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        def command(options):
            Gone()
            time.sleep(600)

        def make_parser():
            parser = argparse.ArgumentParser()
            parser.set_defaults(command=command)
            return parser

        cli.make_parser = make_parser
        sys.exit(cli.main([]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (2, "interrupted\n")
