"""A rehearsal's report as text for the terminal; its last line is the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchskew.model.outcomes import Verdict
from torchskew.report.columns import aligned
from torchskew.workflows.rehearsal.findings import Finding
from torchskew.workflows.rehearsal.observed import Observation, State
from torchskew.workflows.rehearsal.plan_text import sentence, tree
from torchskew.workflows.rehearsal.stage_summary import summarise

ARROW = "--> "
MARKS = {State.FAILED: "   x", State.SKIPPED: "   -"}


def text(observation: Observation, finding: Finding, command: str) -> str:
    """The whole report. command: carries out the same plan again."""
    parts = []
    if finding.verdict is not Verdict.PASS:
        parts += [tree(observation.plan, _marks(observation, finding)), _failure(observation, finding, command)]
    parts += [invariants(finding), stage_table(observation), costs(observation, finding), answer(observation, finding)]
    return "\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _marks(observation: Observation, finding: Finding) -> dict[int, str]:
    marks = {result.number: MARKS[result.state] for result in observation.results if result.state in MARKS}
    return marks | ({finding.first_bad: ARROW} if finding.first_bad else {})


def _failure(observation: Observation, finding: Finding, command: str) -> str:
    """The step that failed first, the versions around it, the seed and the command."""
    plan = observation.plan
    if finding.first_bad is None:
        return f"seed {plan.spec.seed} · {command}\n"
    step = plan.steps[finding.first_bad - 1] if finding.first_bad <= len(plan.steps) else plan.steps[-1]
    result = next((result for result in observation.results if result.number == step.number), None)
    lines = [f"step {step.number}: {sentence(step, plan.spec)}"]
    if result:
        lines.append(f"  {result.state} after {result.seconds:.1f} s{': ' if result.why else ''}{result.why}")
        lines += table(("node", "before", "after"), _nodes(result.before, result.after))
    lines.append(f"seed {plan.spec.seed} · plan {plan.digest} · rerun: {command}")
    return "\n".join(lines) + "\n"


def _nodes(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, ...]]:
    return [(str(node), old, new) for node, (old, new) in enumerate(zip(before, after, strict=False))]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns below their heads, indented."""
    return [f"  {line}" for line in aligned([head, *rows])]


def invariants(finding: Finding) -> str:
    """Two lines per invariant: its verdict and promise, then the evidence."""
    lines = []
    for each in finding.invariants:
        lines += [f"  {each.name:<4} {each.shown_verdict:<10} {each.promise}", f"  {'':<15} {each.evidence}"]
    return "\n".join(lines) + "\n"


def stage_table(observation: Observation) -> str:
    """A line per stage: which group ran, what became of it, and what that cost."""
    head = ("stage", "nodes", "steps", "redone", "without progress", "result")
    rows = [
        (str(each.stage), each.group, str(each.steps), str(each.redone), f"{each.idle:.1f} s", each.result)
        for each in summarise(observation)
    ]
    return "\n".join(table(head, rows)) + "\n"


def costs(observation: Observation, finding: Finding) -> str:
    """Time and memory."""
    plan = observation.plan
    memory = ", ".join(f"{name} {size / 1024:.0f} MB a node" for name, size in observation.memory.items())
    return (
        f"{len(plan.steps)} steps in {observation.seconds:.0f} s · {len(observation.generations)} starts of the job · "
        f"{finding.redone} of {plan.spec.training_steps} training steps redone · "
        f"{finding.idle:.0f} s without progress · {memory or 'memory unknown'}"
    )


def answer(observation: Observation, finding: Finding) -> str:
    """The last line: what to do with the real cluster."""
    spec = observation.plan.spec
    return f"{spec.old.name} to {spec.new.name} in {spec.strategy} mode: {finding.answer}, because {finding.because}"


def comparison(rehearsals: Sequence[tuple[Observation, Finding]]) -> str:
    """Several strategies side by side, and the answer for each."""
    head = ("strategy", "seed", "answer", "redone", "without progress", "took")
    rows = [
        (
            str(observation.plan.spec.strategy),
            str(observation.plan.spec.seed),
            finding.answer,
            str(finding.redone),
            f"{finding.idle:.0f} s",
            f"{observation.seconds:.0f} s",
        )
        for observation, finding in rehearsals
    ]
    return "\n".join([*table(head, rows), *_answers(rehearsals)]) + "\n"


def _answers(rehearsals: Sequence[tuple[Observation, Finding]]) -> list[str]:
    """Each answer; where seeds differ, each distinct one with the seeds that came to it."""
    seeds: dict[str, list[int]] = {}
    for observation, finding in rehearsals:
        seeds.setdefault(answer(observation, finding), []).append(observation.plan.spec.seed)
    if len({seed for each in seeds.values() for seed in each}) < 2:
        return list(seeds)
    return [f"{line} (seed{'s' if len(each) > 1 else ''} {', '.join(map(str, each))})" for line, each in seeds.items()]
