"""The groups that a failed test leaves alive: says at once how to look inside, and lets pytest's end wait for it."""

from __future__ import annotations

import contextlib
import sys

import pytest

ALIVE = "alive until pytest ends"
_ALONE = (
    "torchskew-keep needs the tests in pytest's own process. Add -n0: a worker of xdist ends, and its ranks with it, "
    "as soon as no test is left."
)


def refuse_workers(config: pytest.Config) -> None:
    """Raises UsageError where groups are to be kept by workers, which end before anyone has read of them."""
    if config.getoption("--torchskew-keep") and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"--{_ALONE}")


class KeptGroups:
    """Says how to look inside kept ranks, when their test has failed and again when all tests are over.

    The report of a failure comes only after the last test, and the ranks would end before it.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Nothing is kept yet."""
        self._config = config
        self.commands: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the commands of a failed test, below its outcome."""
        new = [f"{title.partition(':')[0]}: {text}" for title, text in report.sections if title.endswith(ALIVE)]
        self.commands += new
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if new and terminal is not None:
            terminal.ensure_newline()
            for line in new:
                terminal.write_line(f"{ALIVE}: {line}")

    def wait_for_reader(self) -> None:
        """Hold pytest's end until Enter or Ctrl-C, where someone sits at the terminal; return at once elsewhere."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if not self.commands or terminal is None:
            return
        if capture is not None:
            capture.suspend(in_=True)  # pytest closes the standard input while tests run
        if sys.stdin is None or not sys.stdin.isatty():
            return
        for line in self.commands:
            terminal.write_line(line)
        terminal.write_line("These ranks are alive. Press Enter to end them and pytest.")
        terminal.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()
