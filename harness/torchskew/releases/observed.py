"""Facts that no source had told and a run has shown; predictions take them in, each names the cell that shows it.

A border stands where the next measured release was otherwise; between two of those it may lie anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from torchskew.guard.table import parse
from torchskew.model.outcomes import Outcome

OK, WRONG, OPAQUE = Outcome.OK, Outcome.WRONG, Outcome.OPAQUE
TIMEOUT, HANG, CRASH = Outcome.TIMEOUT, Outcome.HANG, Outcome.CRASH
RUN = "20261121-160550-a9bd37"  # 11 releases, 1.13.1 to 2.15.0, every ordered pair, in virtual environments


@dataclass(frozen=True, slots=True)
class Row:
    """One fact about two ranks. scenario: pattern over names with variants.

    first, second: releases of rank 0 (host, or writer) and of the other. outcomes: theirs. cell: what shows it.
    either: the same holds in the other order.
    """

    scenario: str
    first: str
    second: str
    outcomes: tuple[Outcome, Outcome]
    cell: str
    either: bool = False

    def speaks_of(self, scenario: str, first: str, second: str) -> bool:
        """Whether this is about two ranks of these releases."""
        orders = [(first, second), (second, first)] if self.either else [(first, second)]
        return fnmatchcase(scenario, self.scenario) and any(
            _within(one, self.first) and _within(other, self.second) for one, other in orders
        )


ROWS: tuple[Row, ...] = (
    # A builder that was killed leaves the lock file; up to 2.13 its being there is the lock.
    Row("stale_lock.killed", "", "<2.14", (OK, HANG), "2.13.0,2.13.0"),
    # From 2.14 on a finished build leaves the file as well (flock).
    Row("stale_lock.finished", ">=2.14", "<2.14", (OK, HANG), "2.14.1,2.13.0"),
    Row("extension_cache", ">=2.14", "<2.14", (OK, HANG), "2.14.1,2.13.0"),
    # `Serialized version 1 does not match our current schema version 2`; the archive changed in 2.13.
    Row("export_files", "<2.2", ">=2.2", (OK, OPAQUE), "2.1.2,2.2.2", either=True),
    Row("export_files", "<2.3", ">=2.3", (OK, OPAQUE), "2.2.2,2.3.1", either=True),
    Row("export_files", "<2.4", ">=2.4", (OK, OPAQUE), "2.3.1,2.4.1"),
    Row("export_files", "<2.5", ">=2.5", (OK, OPAQUE), "2.4.1,2.5.1", either=True),
    Row("export_files", "<2.6", ">=2.6", (OK, OPAQUE), "2.5.1,2.6.0", either=True),
    Row("export_files", ">=2.13", "<2.13", (OK, OPAQUE), "2.13.0,2.6.0"),
    # From one state, the next bernoulli, multinomial and exponential draws differ; 1.13 and 2.13 agree again. So do
    # Debian's builds of 2.6: this is of the wheels, not of the release.
    Row("rng_state", ">=2.0,<2.13", "<2.0", (OK, WRONG), "2.0.1,1.13.1", either=True),
    Row("rng_state", ">=2.0,<2.13", ">=2.13", (OK, WRONG), "2.6.0,2.13.0", either=True),
    # Hashed names of groups: 2.6 takes their number in, 2.14 lets them count. Each side waits for its own name.
    Row("new_group.local", "<2.6", ">=2.6", (HANG, HANG), "2.5.1,2.6.0", either=True),
    Row("new_group.after_local", "<2.6", ">=2.6", (HANG, HANG), "2.5.1,2.6.0", either=True),
    Row("new_group.after_local", "<2.14", ">=2.14", (HANG, HANG), "2.13.0,2.14.1", either=True),
    Row("device_mesh.two_d", ">=2.13", "<2.13", (TIMEOUT, TIMEOUT), "2.13.0,2.6.0"),
    Row("device_mesh.two_d", "<2.13", ">=2.13", (HANG, TIMEOUT), "2.6.0,2.13.0"),
    # One side sends more than the other waits for, and gloo aborts whom it reaches (op.preamble.length <= op.nbytes).
    Row("dtensor", ">=2.4", "<2.4", (OPAQUE, CRASH), "2.4.1,2.3.1"),
    Row("dtensor", "<2.4", ">=2.4", (CRASH, OPAQUE), "2.3.1,2.4.1"),
    Row("ddp.unused", ">=2.4", "<2.4", (CRASH, OPAQUE), "2.4.1,2.3.1"),
    Row("ddp.unused", "<2.4", ">=2.4", (OPAQUE, CRASH), "2.3.1,2.4.1"),
    Row("fsdp.wrapped", "<2.3", ">=2.3", (TIMEOUT, TIMEOUT), "2.2.2,2.3.1", either=True),
    # Pickled by the module's new name, or by the old one.
    Row("object_collectives.moved", "<2.5", ">=2.5", (OPAQUE, OPAQUE), "2.5.1,2.4.1", either=True),
    # The older side refuses it or does it in another way; the newer one is done before it notices.
    Row("reduce_scatter.tensor", ">=2.3", "<2.3", (OK, OPAQUE), "2.3.1,2.2.2"),
    Row("reduce_scatter.tensor", "<2.3", ">=2.3", (OPAQUE, OK), "2.2.2,2.3.1"),
    # 2.2 and 2.3 leave what is no tensor as it was, in silence; 2.4 misses the keys of it that older ones wrote whole.
    Row("checkpoint_dcp.one", "", ">=2.2,<2.4", (OK, WRONG), "2.2.2,2.2.2"),
    Row("checkpoint_dcp.one", "<2.4", ">=2.4,<2.5", (OK, OPAQUE), "2.3.1,2.4.1"),
    # Opcode 7 is WATCH_KEY up to 2.0 and DELETE_KEY in 2.1.
    Row("store_operations.delete", "<2.1", ">=2.1", (TIMEOUT, TIMEOUT), "2.0.1,2.1.2"),
    Row("store_operations.delete", ">=2.1", "<2.1", (HANG, HANG), "2.1.2,2.0.1"),
    # A wait that times out is cancelled by an opcode that 2.0 does not have.
    Row("store_operations.wait", "<2.1", ">=2.1", (TIMEOUT, OPAQUE), "2.0.1,2.1.2"),
    Row("rpc", "<2.1", ">=2.1", (HANG, HANG), "2.0.1,2.1.2", either=True),
    # The agent of 2.5 on hosts the workers' store.
    Row("torchrun_worker", ">=2.5", "<2.2", (OK, TIMEOUT), "2.5.1,2.1.2"),
    # Heartbeats got a time zone in 2.6 (`can't compare offset-naive and offset-aware datetimes`), the state a field in
    # 2.3; ranks are told by other keys since 2.4, and by the agent's own store since 2.5. Who reads whose state is up
    # to who comes first: 2.2.2,2.3.1 has also come to OK,OK (20261121-164255-1cc95a).
    Row("torchrun", ">=2.6", "<2.6", (OPAQUE, OPAQUE), "2.6.0,2.5.1", either=True),
    Row("torchrun", ">=2.5", "<2.5", (TIMEOUT, TIMEOUT), "2.5.1,2.4.1"),
    Row("torchrun", ">=2.4", ">=2.3,<2.4", (TIMEOUT, TIMEOUT), "2.4.1,2.3.1"),
    Row("torchrun", ">=2.3,<2.4", ">=2.4", (HANG, TIMEOUT), "2.3.1,2.4.1"),
    Row("torchrun", "<2.3", ">=2.3", (OPAQUE, OPAQUE), "2.2.2,2.3.1"),
    Row("torchrun", ">=2.4", "<2.3", (OPAQUE, OPAQUE), "2.4.1,2.2.2"),
)


def outcomes(scenario: str, numbers: tuple[tuple[int, ...], ...]) -> tuple[Outcome, ...] | None:
    """What two ranks of these releases come to where a row speaks of them, else None. numbers: rank 0's first."""
    if len(numbers) != len("ab"):
        return None
    first, second = (".".join(map(str, number)) for number in numbers)
    return next((row.outcomes for row in ROWS if row.speaks_of(scenario, first, second)), None)


@cache
def _within(release: str, bounds: str) -> bool:
    """Whether a release keeps to every bound, as in ">=2.0,<2.13"; "" has none."""
    number = parse(release) or ()
    return all(_keeps(number, bound) for bound in bounds.split(",") if bound)


def _keeps(number: tuple[int, ...], bound: str) -> bool:
    limit = parse(bound.lstrip("<>=")) or ()
    if not limit or not bound.startswith((">=", "<")) or bound.startswith("<="):
        raise ValueError(f"a bound is >=RELEASE or <RELEASE, got {bound!r}")
    return number >= limit if bound.startswith(">=") else number < limit
