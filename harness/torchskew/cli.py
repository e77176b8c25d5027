"""From the command line to a command to its exit code; imports nothing heavy before it is needed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

import torchskew
from torchskew.commands import COMMANDS
from torchskew.engine import interrupts
from torchskew.errors import HarnessError

EPILOG = """\
exit codes: 0 as expected · 1 not as expected · 2 interrupted · 3 a bug of torchskew · 4 usage or declaration ·
5 nothing was selected. Every command explains itself: torchskew COMMAND --help."""
INTERRUPTED, BUG = 2, 3
ISSUES = "Report it with the lines above and the output of `torchskew doctor`."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: an error of ours is one clear text, a bug a traceback and exit 3."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    own, extra = _split(words)
    try:
        options = parser.parse_args(own)
        if extra and not hasattr(options, "extra"):
            options = parser.parse_args(words)
        options.extra = extra
    except SystemExit as stop:  # argparse exits with 2, which means interrupted here
        return 4 if stop.code else 0
    options.line = shlex.join(["torchskew", *words])
    options.colour = colours(getattr(options, "color", "never"))
    try:
        with interrupts.kept():
            code: int = options.command(options)
    except KeyboardInterrupt:
        code = _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except HarnessError as error:
        code = _say(f"torchskew: {error}", error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        code = _say(f"torchskew: the machine refused: {error.strerror or error}{where}", 1)
    except Exception:  # noqa: BLE001 - the last net: a bug of ours, shown whole
        traceback.print_exc()
        code = _say(f"torchskew {torchskew.__version__}: this is a bug of torchskew. {ISSUES}", BUG)
    return code


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first `--`, and those after it, which a command that runs others passes on."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _say(text: str, code: int) -> int:
    sys.stderr.write(text.rstrip() + "\n")
    return code


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="torchskew",
        description="Run process groups whose ranks use different PyTorch releases, and report on every rank.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"torchskew {torchskew.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def colours(choice: str) -> bool:
    """Whether to use colours: on a terminal only, unless the user chose (NO_COLOR is a choice)."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
