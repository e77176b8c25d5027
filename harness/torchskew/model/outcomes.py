"""The words of a result as enums: outcome of a rank, verdict of a cell, and the conditions it ran under."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


class Outcome(StrEnum):
    """What one rank did, from facts. docs/results.md explains each to a reader."""

    OK = "OK"
    WRONG = "WRONG"
    CLEAR = "CLEAR"
    OPAQUE = "OPAQUE"
    TIMEOUT = "TIMEOUT"
    HANG = "HANG"
    CRASH = "CRASH"
    UNSUPPORTED = "UNSUPPORTED"
    NOT_RUN = "NOT_RUN"


class Verdict(StrEnum):
    """A cell's result, computed once from the outcomes of all its ranks."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"
    BLOCKED = "BLOCKED"


class Kind(StrEnum):
    """How a scenario starts its ranks: all at once, one after another, or one alone."""

    GROUP = "group"
    HANDOVER = "handover"
    SOLO = "solo"


class Tier(StrEnum):
    """How much a gate runs: under a minute, under ten, everything."""

    SMOKE = "smoke"
    CRITICAL = "critical"
    FULL = "full"


class Guard(StrEnum):
    """Which ranks install the guard before init_process_group; host is rank 0."""

    OFF = "off"
    ON = "on"
    HOST = "host"
    JOINERS = "joiners"


class Store(StrEnum):
    """Which store the ranks of a group meet at: the one that rank 0 hosts, or a bridge beside it."""

    STOCK = "stock"
    BRIDGE = "bridge"


class Placement(StrEnum):
    """Where the ranks of a group are: together on one machine, or each on a node of its own."""

    TOGETHER = "together"
    SPREAD = "spread"


class Policy(StrEnum):
    """What a cell promises: right or refused, always right, or always refused."""

    RIGHT_OR_REFUSED = "right-or-refused"
    INTEROPERATE = "interoperate"
    REFUSE = "refuse"


class Phase(StrEnum):
    """How far a rank got."""

    PROVISION = "provision"
    RENDEZVOUS = "rendezvous"
    RUN = "run"
    TEARDOWN = "teardown"
    DONE = "done"
