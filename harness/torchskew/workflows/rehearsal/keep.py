"""Keep: what a rehearsal leaves in its folder, as data for programs, and read back to be judged again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torchskew
from torchskew.errors import RecordError
from torchskew.model.outcomes import Json, Outcome
from torchskew.record import codec
from torchskew.workflows.rehearsal.judge import PAUSE
from torchskew.workflows.rehearsal.model import Finding, Invariant, Observed, Step
from torchskew.workflows.rehearsal.stages import Stage, stages

SCHEMA = "1.0"
FACTS, RESULTS, PLAN = "facts.json", "results.json", "plan.json"
PREFIX = "rehearsal-"
# Fields of a spec that results.json holds under their own names.
COPIED = ("strategy", "policy", "runtime", "nodes", "every", "seed", "script_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a rehearsal saw, as it lies in a folder."""

    folder: Path
    seen: Observed

    @property
    def rerun(self) -> str:
        """The command that carries the same plan out again."""
        return f"torchskew rehearse --plan {self.folder / PLAN}"


def facts(seen: Observed) -> str:
    """Everything seen, as `read` takes it."""
    return json.dumps({"schema": SCHEMA, "torchskew": torchskew.__version__, "seen": codec.encode(seen)}) + "\n"


def read(folder: Path) -> Kept:
    """What `facts` wrote into a folder; RecordError where that is damaged or of a later major schema."""
    path = folder / FACTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        major, minor = (int(part) for part in str(found["schema"]).split("."))
        told = found["seen"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: holds no facts of a rehearsal: {error}. Rehearse again.") from None
    ours, newest = (int(part) for part in SCHEMA.split("."))
    if major != ours:
        raise RecordError(f"{path}: its schema is {found['schema']}, this torchskew reads {SCHEMA}. Use the newer one.")
    return Kept(folder=folder, seen=codec.decode(Observed, told, str(path), newer=minor > newest))


def folders(out: Path, name: str | None = None) -> Iterator[Path]:
    """Folders of rehearsals' strategies: of one by its name or path, or of all in `out`; in the order they ran."""
    places = [out / name, Path(name)] if name else sorted(out.glob(f"{PREFIX}*"))
    for place in places:
        found = [place / FACTS] if (place / FACTS).is_file() else place.glob(f"*/{FACTS}") if place.is_dir() else []
        yield from (path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime))


def logs(seen: Observed) -> Iterator[tuple[str, str]]:
    """Of every rank that did not end well: a file's name, and what it printed, its error and its stacks."""
    for generation in seen.generations:
        for fact, outcome in zip(generation.facts, generation.outcomes, strict=False):
            if outcome is not Outcome.OK:
                error = f"{fact.error.type}: {fact.error.text}" if fact.error else fact.machine or "no error was told"
                head = (
                    f"generation {generation.number}, rank {fact.rank} ({fact.declared}): {outcome}; {generation.why}"
                )
                parts = [head, error, fact.log, fact.stacks]
                name = f"generation-{generation.number}-rank-{fact.rank}.txt"
                yield name, "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def results(kept: Kept, finding: Finding) -> str:
    """What a rehearsal came to, for programs; docs/rehearsal.md states the schema."""
    seen, spec = kept.seen, kept.seen.plan.spec
    told: dict[str, Json] = {
        "schema": SCHEMA,
        "torchskew": torchskew.__version__,
        "from": {"name": spec.old.name, "torch": seen.reports.get(spec.old.name)},
        "to": {"name": spec.new.name, "torch": seen.reports.get(spec.new.name)},
        **{name: getattr(spec, name) for name in COPIED},
        "training_steps": spec.steps,
        "formats": [*spec.formats],
        "faults": [*spec.faults],
        "unsupported": dict(seen.plan.unsupported),
        "predicted": [*seen.plan.notes],
        "plan": seen.plan.digest,
        "answer": finding.answer,
        "because": finding.because,
        "verdict": finding.verdict,
        "first_bad": finding.first_bad,
        "redone": finding.redone,
        "idle_seconds": round(finding.idle, 3),
        "seconds": round(seen.seconds, 3),
        "memory_kilobytes": dict(seen.memory),
        "starts": len(seen.generations),
        "left": [*seen.left],
        "rerun": kept.rerun,
        "invariants": [_invariant(one) for one in finding.invariants],
        "stages": [_stage(one) for one in stages(seen, PAUSE)],
        "steps": [_step(step, seen) for step in seen.plan.steps],
    }  # fmt: skip
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _invariant(one: Invariant) -> dict[str, Json]:
    told: dict[str, Json] = {"name": one.name, "promise": one.promise, "verdict": one.verdict}
    return told | {"evidence": one.evidence, "bad": [*one.bad]}


def _stage(one: Stage) -> dict[str, Json]:
    costs: dict[str, Json] = {"steps": one.steps, "redone": one.redone, "idle_seconds": one.idle}
    versions: list[Json] = [*one.versions]
    return {
        "stage": one.name,
        "versions": versions,
        "came_to": one.came_to,
        "bad": one.bad,
        **costs,
        "seconds": one.seconds,
    }


def _step(step: Step, seen: Observed) -> dict[str, Json]:
    result = next((one for one in seen.results if one.number == step.number), None)
    told: dict[str, Json] = {"number": step.number, "stage": step.stage, "do": step.do, "versions": [*step.versions]}
    told |= {"nodes": [*step.nodes], "fault": step.fault, "expect": step.expect}
    if result is None:
        return told | {"state": None, "why": "not reached", "seconds": None, "evidence": {}}
    return told | {
        "state": result.state, "why": result.why, "seconds": round(result.seconds, 3), "evidence": dict(result.evidence)
    }  # fmt: skip
