"""The command `torchskew images`: what was built here, how it compares with the committed lock, and a new lock."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments

HELP = """\
List the images that were built on this machine, and say whether they hold the packages of images/lock.toml.

  torchskew images                            what was built here
  torchskew images --lock                     write what was built here into images/lock.toml of a checkout
  torchskew images --lock pip-torch-2-13-0    only this image, or one that the file lacks"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "images", "list the Docker images built here, or lock them", HELP)
    parser.add_argument("--lock", nargs="*", metavar="IMAGE", help="write these (default: those locked already)")
    parser.set_defaults(command=run_images)


def run_images(args: argparse.Namespace) -> int:
    """List or lock."""
    from torchskew.runtimes.docker import lock

    if args.lock is not None:
        names = lock.commit(args.lock)
        sys.stdout.write(f"wrote {', '.join(names) or 'nothing'} into {lock.committed_path()}\n")
        return 0
    built, committed = lock.read(lock.built_path()), lock.read(lock.committed_path())
    width = max(map(len, built), default=0)
    lines = [
        f"{name:<{width}}  torch {entry.torch or 'none'}, Python {entry.python}, {entry.made} on {entry.date}: "
        f"{lock.standing(name, entry, committed)}\n"
        for name, entry in built.items()
    ]
    sys.stdout.write("".join(lines) or "no image was built here; torchskew matrix --runtime docker builds them\n")
    return 0
