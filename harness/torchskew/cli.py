"""Arguments become a workflow's options, its result an exit code; nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import torchskew
from torchskew.commands import arguments, boundary
from torchskew.commands import gate as gate_command
from torchskew.commands import init as init_command
from torchskew.commands import rehearse as rehearse_command
from torchskew.commands import scenarios as catalogue_page
from torchskew.commands import survey as compatibility
from torchskew.engine import interrupts
from torchskew.errors import HarnessError

EPILOG = """\
exit codes: 0 as expected · 1 not as expected · 2 interrupted · 3 a bug of torchskew · 4 usage or declaration ·
5 nothing was selected. Every command teaches itself: torchskew COMMAND --help."""
INTERRUPTED, BUG = 2, 3
ISSUES = "Please report it with the lines above and the output of `torchskew doctor`."

MATRIX_HELP = """\
Run every cell of the declaration: each scenario, for each assignment of PyTorch releases to ranks.

  torchskew matrix                                  the whole declared matrix
  torchskew matrix --dry-run                        print the plan, run nothing
  torchskew matrix --only 'all_reduce/*'            some cells; patterns match whole cell ids
  torchskew matrix --only '*/2.1.2,2.2.2/*'         one skew: rank 0 runs 2.1.2, rank 1 runs 2.2.2
  torchskew matrix --versions '2.*' --runtime venv  some versions, in virtual environments
  torchskew matrix --resume                         go on where an interrupted run of the same plan stopped"""

GUARD_HELP = """\
Print the guard, one file to vendor; it needs torch and nothing else.

  torchskew guard --print > protocol_version.py
  python protocol_version.py train.py …             no change to the script
  import protocol_version; protocol_version.install()   or one line before init_process_group

With torchskew installed, `python -m torchskew.guard train.py …` does the same. docs/guard.md explains it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors of ours become one clear text, bugs a traceback and exit 3."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    try:
        options = parser.parse_args(words)
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


def _say(text: str, code: int) -> int:
    sys.stderr.write(text.rstrip() + "\n")
    return code


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="torchskew",
        description="Start process groups whose ranks run different PyTorch releases, and say what happened on each.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"torchskew {torchskew.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    init_command.add_parser(commands)
    _add_matrix(commands)
    gate_command.add_parsers(commands)
    rehearse_command.add_parser(commands)
    catalogue_page.add_parser(commands)
    _add_report(commands)
    compatibility.add_parser(commands)
    boundary.add_parser(commands)
    _add_probe(commands)
    _add_guard(commands)
    _add_doctor(commands)
    _add_clean(commands)
    return parser


def _add_matrix(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = arguments.command(commands, "matrix", "run the matrix of the declaration", MATRIX_HELP)
    what = parser.add_argument_group("what to run (all default to the declaration)")
    what.add_argument("--declaration", "-f", type=Path, default=Path("torchskew.toml"), metavar="FILE")
    arguments.add_runtime(what)
    what.add_argument("--versions", nargs="+", default=[], metavar="PATTERN", help="declared versions, as patterns")
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="scenarios, as patterns")
    what.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cell ids; may be repeated")
    what.add_argument("--guard", nargs="+", choices=["off", "on"], default=[])
    pairs = "boundary: all, found by bisection over the releases in order; what follows is not run"
    what.add_argument("--pairs", choices=["all", "boundary", "neighbours"], help=pairs)
    what.add_argument("--world-size", nargs="+", type=arguments.between(2, 64), default=[], metavar="N")
    what.add_argument("--timeout", type=arguments.seconds, metavar="S", help="seconds given to the process group")
    what.add_argument("--seed", type=int, default=0, help="goes to every rank and into the record (0)")
    how = parser.add_argument_group("how to run it")
    how.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    how.add_argument("--resume", action="store_true", help="take up the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run cells again although nothing changed")
    how.add_argument(
        "-j",
        "--jobs",
        type=arguments.between(1, 256),
        metavar="N",
        help="cells that work at once; waiting ones don't count",
    )
    arguments.add_out(how)
    parser.set_defaults(command=run_matrix)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = arguments.command(commands, "report", "show a recorded run again, and write its reports anew")
    text = "a run id, a rehearsal's folder, or latest: the newest recorded run (the default)"
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help=text)
    parser.add_argument("--list", action="store_true", help="list the recorded runs instead")
    arguments.add_out(parser)
    parser.set_defaults(command=run_report)


def _add_probe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "say what listens on a port: a guard, a TCPStore of which era, or something else; harmless to a live store"
    parser = arguments.command(commands, "probe", text)
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.set_defaults(command=run_probe)


def _add_guard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = arguments.command(
        commands, "guard", "print the one file that makes a mixed group fail clearly", GUARD_HELP
    )
    parser.add_argument("--print", action="store_true", required=True, help="write the file to standard output")
    parser.set_defaults(command=run_guard)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = arguments.command(
        commands, "doctor", "check what this machine has for torchskew, with the mend for what it lacks"
    )
    parser.set_defaults(command=run_doctor)


def _add_clean(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = arguments.command(
        commands, "clean", "remove what killed runs of this machine left behind; never anybody else's"
    )
    parser.add_argument("--store", action="store_true", help="also every provisioned environment and image")
    parser.set_defaults(command=run_clean)


def colours(choice: str) -> bool:
    """Colours on a terminal only, unless somebody decided (NO_COLOR counts as deciding)."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def run_matrix(args: argparse.Namespace) -> int:
    """`torchskew matrix`."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.matrix import MATRIX, Options, execute

    options = Options(
        **arguments.options(args),
        versions=tuple(args.versions),
        pairs=args.pairs,
        world_sizes=tuple(args.world_size),
    )
    with watching() as watch:
        return execute(MATRIX, options, watch)


def run_report(args: argparse.Namespace) -> int:
    """`torchskew report`."""
    from torchskew.commands.housekeeping import list_runs, report

    return list_runs(args.out) if args.list else report(args.out, args.run, colour=args.colour)


def run_probe(args: argparse.Namespace) -> int:
    """`torchskew probe`."""
    from torchskew.workflows.probe import probe

    text, code = probe(args.target, as_json=args.json)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return code


def run_guard(args: argparse.Namespace) -> int:
    """`torchskew guard --print`: the file itself, byte for byte."""
    del args
    from torchskew.guard.generate import FILE

    sys.stdout.write(FILE.read_text(encoding="utf-8"))
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """`torchskew doctor`."""
    del args
    from torchskew.commands.housekeeping import doctor

    return doctor()


def run_clean(args: argparse.Namespace) -> int:
    """`torchskew clean`."""
    from torchskew.commands.housekeeping import clean

    return clean(store=args.store)
