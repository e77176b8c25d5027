"""The folder of a rehearsal: its facts, which can be judged again, and its findings as data for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torchskew
from torchskew.errors import DamagedRecordError, RecordError
from torchskew.model.outcomes import Json, Outcome
from torchskew.record import codec
from torchskew.workflows.rehearsal.answer import held_state
from torchskew.workflows.rehearsal.findings import Finding, Invariant
from torchskew.workflows.rehearsal.observed import Observation
from torchskew.workflows.rehearsal.plan_text import prediction_text
from torchskew.workflows.rehearsal.planned import Collective, InjectFault, Rejoin, StartJob, Step
from torchskew.workflows.rehearsal.stage_summary import StageSummary, summarise

SCHEMA = "2.1"
FACTS, RESULTS, PLAN = "facts.json", "results.json", "plan.json"
PREFIX = "rehearsal-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRehearsal:
    """What a rehearsal observed, and the folder that holds it."""

    folder: Path
    observation: Observation

    @property
    def rerun(self) -> str:
        """The command that carries out the same plan again."""
        return f"torchskew rehearse --plan {self.folder / PLAN}"


def facts(observation: Observation) -> str:
    """Everything observed, as `read` takes it."""
    fields = {"schema": SCHEMA, "torchskew": torchskew.__version__, "seen": codec.encode(observation)}
    return json.dumps(fields) + "\n"


def read(folder: Path) -> ArchivedRehearsal:
    """What `facts` wrote into a folder; RecordError where that is damaged or of another major schema."""
    path = folder / FACTS
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        major, minor = (int(part) for part in str(fields["schema"]).split("."))
        observation = fields["seen"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: does not hold the facts of a rehearsal: {error}. Rehearse again.") from None
    ours, newest = (int(part) for part in SCHEMA.split("."))
    if major != ours:
        fix = "Rehearse again." if major < ours else "Use a newer torchskew."
        raise RecordError(f"{path}: its schema is {fields['schema']}, this torchskew reads {SCHEMA}. {fix}")
    try:
        decoded = codec.decode(Observation, observation, str(path), newer=minor > newest)
    except DamagedRecordError as error:
        raise RecordError(f"{error.problem}. The file was damaged or edited: rehearse again.") from None
    return ArchivedRehearsal(folder=folder, observation=decoded)


def folders(out: Path, name: str | None = None) -> Iterator[Path]:
    """Folders of rehearsals' strategies: of one by its name or path, or of all in `out`; in the order they ran."""
    places = [out / name, Path(name)] if name else sorted(out.glob(f"{PREFIX}*"))
    for place in places:
        files = [place / FACTS] if (place / FACTS).is_file() else place.glob(f"*/{FACTS}") if place.is_dir() else []
        yield from (path.parent for path in sorted(files, key=lambda path: path.stat().st_mtime))


def logs(observation: Observation) -> Iterator[tuple[str, str]]:
    """Of every rank that did not end well: a file's name, and what it printed, its error and its stacks."""
    for generation in observation.generations:
        for fact, outcome in zip(generation.facts, generation.outcomes, strict=False):
            if outcome is not Outcome.OK:
                error = (
                    f"{fact.error.type}: {fact.error.text}" if fact.error else fact.machine or "no error was reported"
                )
                where = f"generation {generation.number}, rank {fact.rank} ({fact.declared})"
                parts = [f"{where}: {outcome}; {generation.end}", error, fact.log, fact.stacks]
                name = f"generation-{generation.number}-rank-{fact.rank}.txt"
                yield name, "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def results(archived: ArchivedRehearsal, finding: Finding) -> str:
    """What a rehearsal found, for programs; docs/rehearsal.md states the schema."""
    observation, plan = archived.observation, archived.observation.plan
    fields: dict[str, Json] = {
        "schema": SCHEMA,
        "torchskew": torchskew.__version__,
        **_asked_for(observation),
        "unsupported": dict(plan.unsupported),
        "predicted": [prediction_text(prediction) for prediction in plan.predictions],
        "plan": plan.digest,
        "holds": [*held_state(observation)],
        "answer": finding.answer,
        "because": finding.because,
        "verdict": finding.verdict,
        "first_bad": finding.first_bad,
        "redone": finding.redone,
        "idle_seconds": round(finding.idle, 3),
        "seconds": round(observation.seconds, 3),
        "memory_kilobytes": dict(observation.memory),
        "starts": len(observation.generations),
        "left": [*observation.left_behind],
        "rerun": archived.rerun,
        "invariants": [_invariant(invariant) for invariant in finding.invariants],
        "stages": [_stage(summary) for summary in summarise(observation)],
        "steps": [_step(step, observation) for step in plan.steps],
    }
    return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def _asked_for(observation: Observation) -> dict[str, Json]:
    spec, reports = observation.plan.spec, observation.reports
    return {
        "from": {"name": spec.old.name, "torch": reports.get(spec.old.name)},
        "to": {"name": spec.new.name, "torch": reports.get(spec.new.name)},
        "strategy": str(spec.strategy),
        "policy": spec.policy,
        "runtime": spec.runtime,
        "nodes": spec.nodes,
        "every": spec.checkpoint_every,
        "seed": spec.seed,
        "script_name": spec.script.name if spec.script else None,
        "training_steps": spec.training_steps,
        "formats": [*spec.formats],
        "faults": [*spec.faults],
    }


def _invariant(invariant: Invariant) -> Json:
    return {
        "name": invariant.name,
        "promise": invariant.promise,
        "verdict": invariant.verdict,
        "evidence": invariant.evidence,
        "bad": [*invariant.steps],
    }


def _stage(summary: StageSummary) -> Json:
    return {
        "stage": str(summary.stage),
        "versions": [*summary.versions],
        "result": summary.result,
        "bad": summary.bad,
        "steps": summary.steps,
        "redone": summary.redone,
        "idle_seconds": summary.idle,
        "seconds": summary.seconds,
    }


def _step(step: Step, observation: Observation) -> Json:
    result = next((result for result in observation.results if result.number == step.number), None)
    action = step.action
    planned: dict[str, Json] = {
        "number": step.number,
        "stage": str(step.stage),
        "do": action.kind,
        "versions": [*step.versions],
        "nodes": [*step.nodes],
        "fault": action.fault if isinstance(action, InjectFault) else None,
        "expect": _expect(step),
    }
    if result is None:
        return planned | {"state": None, "why": "not reached", "seconds": None, "evidence": None}
    return planned | {
        "state": result.state,
        "why": result.why,
        "seconds": round(result.seconds, 3),
        "evidence": codec.encode(result.evidence),
    }


def _expect(step: Step) -> Json:
    match step.action:
        case StartJob(expect=expect) | Collective(expect=expect):
            return expect
        case Rejoin():
            return "refuse"
        case _:
            return None
