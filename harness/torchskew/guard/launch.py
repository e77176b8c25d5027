"""Refuse a mixed process group with one clear error on every rank, before init_process_group can fail.

One file that a training job copies: standard library and torch only, Python 3.8 or later, torch 1.7 to 2.15. Call
install() once (uninstall() undoes it), call check() before one init_process_group, or run
`python torchskew_guard.py train.py`, which also covers every Python that the script forks, spawns or starts. Settings:
TORCHSKEW_GUARD (enforce, warn, off, strict, bridge), TORCHSKEW_GUARD_POLICY (era, minor, exact,
allow:2.6.0,2.13.0), TORCHSKEW_GUARD_PORT, TORCHSKEW_GUARD_SECRET. docs/guard.md describes them and the wire format.
"""

from __future__ import annotations

import os
import runpy
import sys

from torchskew.guard.children import reach_children
from torchskew.guard.errors import ProtocolVersionError, revive
from torchskew.guard.install import install
from torchskew.guard.notice import say
from torchskew.guard.relay import Carrier


def main(args: list[str]) -> None:
    """Run a script (or -m module) with its arguments, guarded."""
    if not args or args[0] in ("-h", "--help") or args == ["-m"]:
        sys.exit((__doc__ or "").strip() + "\n\nusage: python torchskew_guard.py [-m] train.py [arguments]")
    _name_this_file()
    install()
    _cover_children()
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(args[0]))
        runpy.run_path(args[0], run_name="__main__")


def _name_this_file() -> None:
    """The script takes the name __main__ over, but pickled errors and the relay's text are found by their module."""
    if __name__ == "__main__":
        name = _own_name()
        sys.modules[name] = sys.modules["__main__"]
        ProtocolVersionError.__module__ = revive.__module__ = Carrier.__module__ = name


def _own_name() -> str:
    """The name under which this one file is imported."""
    return getattr(__spec__, "name", None) or os.path.splitext(os.path.basename(__file__))[0]


def _cover_children() -> None:
    """Reach the processes that the script starts, too; where that fails, one line says so, and the script runs."""
    packaged = ProtocolVersionError.__module__ == "torchskew.guard.errors"
    try:
        if packaged:
            reach_children("torchskew.guard.install")
        else:
            reach_children(_own_name(), os.path.abspath(__file__))
    except (OSError, TypeError) as problem:
        say(int(os.environ.get("RANK") or -1), "processes that this one starts run unguarded: %s" % problem)


if __name__ == "__main__":
    main(sys.argv[1:])
