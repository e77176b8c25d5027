"""What several commands share: their parser, common options, and types with bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torchskew.model.runtimes import choices, listed

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands: TypeAlias = _SubParsersAction[argparse.ArgumentParser]


def command(
    commands: Commands, name: str, help_: str, text: str = "", *, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A command whose help keeps its own line breaks."""
    return commands.add_parser(
        name,
        aliases=aliases,
        help=help_,
        description=text or f"{help_[0].upper()}{help_[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_declaration(group: argparse._ActionsContainer, default: str = "torchskew.toml") -> None:
    """Which declaration to read."""
    text = f"the declaration ({default})"
    group.add_argument("--declaration", "-f", type=Path, default=Path(default), metavar="FILE", help=text)


def add_out(group: argparse._ActionsContainer) -> None:
    """Where record and reports are written, and whether the terminal shows colours."""
    group.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the record and the reports (out)"
    )
    colours = ["auto", "always", "never"]
    group.add_argument("--color", choices=colours, default="auto", help="auto: on a terminal, unless NO_COLOR is set")


def add_runtime(group: argparse._ActionsContainer) -> None:
    """How versions are provided: every runtime that has a row."""
    group.add_argument("--runtime", choices=choices(), help=f"what ranks run in: {listed()}; auto: the first that fits")


def add_store(group: argparse._ActionsContainer) -> None:
    """Which stores the ranks of groups meet at."""
    text = "the store that rank 0 hosts, a bridge beside it (docs/bridge.md), or both"
    group.add_argument("--store", nargs="+", choices=["stock", "bridge"], default=[], help=text)


def add_placement(group: argparse._ActionsContainer) -> None:
    """Where the ranks of groups are."""
    text = "ranks of a group on one machine, each on a node of its own (needs a fleet, docs/fleet.md), or both"
    group.add_argument("--placement", nargs="+", choices=["together", "spread"], default=[], help=text)


def add_fleet(group: argparse._ActionsContainer) -> None:
    """Which machines cells run on."""
    text = "run cells on the nodes of a Ray cluster: local:N (N nodes here), auto, HOST:PORT; off: on this machine"
    group.add_argument("--fleet", type=fleet, metavar="ADDRESS", help=text)


def fleet(text: str) -> str:
    """The address of a fleet; ArgumentTypeError where it is none."""
    from torchskew.declaration.fleet import problems_of

    if problem := problems_of(text):
        raise argparse.ArgumentTypeError(problem)
    return text


def add_shard(group: argparse._ActionsContainer) -> None:
    """Which part of the plan to run."""
    group.add_argument("--shard", metavar="I/N", help="run the I-th of N parts of the plan; torchskew merge decides")
    text = "balance the parts by the durations in an earlier --out"
    group.add_argument("--balance", type=Path, metavar="DIR", help=text)


def parts(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of Options that say which part of the plan to run."""
    return {"shard": args.shard, "balance": args.balance}


def options(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a workflow's Options that the matrix and the gate share."""
    return {
        **of_cells(args),
        "scenarios": tuple(args.scenarios),
        "guard": tuple(args.guard),
        "timeout": args.timeout,
        "seed": args.seed,
    }


def of_cells(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of Options that every run of cells has."""
    return {
        "declaration": args.declaration,
        "out": args.out,
        "runtime": args.runtime,
        "only": tuple(args.only),
        "jobs": args.jobs,
        "fleet": getattr(args, "fleet", None),
        "dry_run": args.dry_run,
        "resume": args.resume,
        "cache": not args.no_cache,
        "colour": args.colour,
        "command": args.line,
    }


def seconds(text: str) -> float:
    """A timeout; ArgumentTypeError outside 0 to an hour."""
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most 3600 seconds, got {text}")
    return value


def between(low: int, high: int) -> Callable[[str], int]:
    """The type of a whole number within bounds, both included."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {text}")
        return value

    return number
