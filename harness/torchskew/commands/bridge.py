"""`torchskew bridge`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments

HELP = """\
Run a store that ranks of every PyTorch release from 1.13 on can share, so that they form one gloo group.

  torchskew bridge --port 29500
  torchskew bridge --port 29500 --status

Start every rank with MASTER_ADDR and MASTER_PORT of the bridge, and with
TORCHELASTIC_USE_AGENT_STORE=True and TORCHELASTIC_RESTART_COUNT=0. docs/bridge.md says what was tried, and its limits.
Like TCPStore, it asks nobody for a password: run it on a network that you trust, or give --bind."""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "bridge", "run a store that ranks of different releases can share", HELP)
    parser.add_argument("--port", type=int, default=29500, help="port to listen on (default: 29500; 0: any free port)")
    parser.add_argument("--bind", metavar="HOST", help="IP address to listen on (default: every address)")
    parser.add_argument("--status", action="store_true", help="print the status page of the bridge that runs there")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it, or ask a bridge that runs."""
    from torchskew.bridge.ask import status
    from torchskew.bridge.serve import serve

    return (status if args.status else serve)(args.bind, args.port)
