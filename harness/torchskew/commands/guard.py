"""`torchskew guard`."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments
from torchskew.errors import ConfigError, MachineError

HELP = """\
The guard makes a group of different PyTorch releases fail with one clear error on every rank. Two ways to use it:

  torchskew guard --into /opt/venv/bin/python       guard every job of an environment, without a change to any script
  torchskew guard --remove /opt/venv/bin/python     take it out again

  torchskew guard --print > protocol_version.py     one file to vendor; it needs torch and nothing else
  python protocol_version.py train.py …             no change to the script
  import protocol_version; protocol_version.install()   or one line before init_process_group

With torchskew installed, `python -m torchskew.guard train.py …` does the same. Where torchskew is installed beside
torch 2.5 or later, TORCHSKEW_GUARD=enforce is enough: `import torch` loads the guard. docs/guard.md explains it."""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "guard", "guard an environment's jobs, or print the guard's one file", HELP)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--print", action="store_true", help="write the file to standard output")
    action.add_argument("--into", metavar="PYTHON", help="put the file and a start-up hook into this environment")
    action.add_argument("--remove", metavar="PYTHON", help="take them out of this environment")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the file itself, byte for byte; or change an environment."""
    from torchskew.guard import environment
    from torchskew.guard.generate import FILE

    if args.print:
        sys.stdout.write(FILE.read_text(encoding="utf-8"))
        return 0
    try:
        sentence = environment.into(args.into) if args.into else environment.remove(args.remove)
    except ValueError as problem:
        raise ConfigError(str(problem)) from problem
    except OSError as problem:
        raise MachineError(f"{problem}. Run this as the user who owns the environment.") from problem
    sys.stdout.write(sentence + "\n")
    return 0
