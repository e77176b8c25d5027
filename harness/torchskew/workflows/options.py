"""What a person asked of a run of cells, whatever the command was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torchskew.model.runs import RunKind

DECLARATION, OUT = Path("torchskew.toml"), Path("out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line's wishes; None or empty means: as declared.

    command: the whole line as it was typed, for the record. shard: which part of the plan to run, like 2/5; balance:
    folder of an earlier run whose durations divide it.
    """

    kind: RunKind = RunKind.MATRIX
    declaration: Path = DECLARATION
    out: Path = OUT
    runtime: str | None = None
    versions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    placement: tuple[str, ...] = ()
    pairs: str | None = None
    world_sizes: tuple[int, ...] = ()
    timeout: float | None = None
    seed: int = 0
    jobs: int | None = None
    fleet: str | None = None
    shard: str | None = None
    balance: Path | None = None
    dry_run: bool = False
    resume: bool = False
    cache: bool = True
    colour: bool = False
    command: str = "torchskew matrix"

    @property
    def own_declaration(self) -> tuple[Path, ...]:
        """The declaration where it is not the usual one: what a rerun has to name."""
        return () if self.declaration == DECLARATION else (self.declaration,)

    @property
    def own_out(self) -> tuple[Path, ...]:
        """The folder of results where it is not the usual one."""
        return () if self.out == OUT else (self.out,)

    @property
    def name(self) -> str:
        """The command without its options."""
        return f"torchskew {self.kind}"
