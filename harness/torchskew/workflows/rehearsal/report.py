"""What a rehearsal came to: as text for the terminal, and as one HTML page with the timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal import timeline
from torchskew.workflows.rehearsal.judge import PAUSE
from torchskew.workflows.rehearsal.model import Finding, Observed, State
from torchskew.workflows.rehearsal.stages import stages
from torchskew.workflows.rehearsal.text import sentence, tree

HERE = Path(__file__).resolve().parent
ARROW = "--> "


def text(seen: Observed, finding: Finding, command: str) -> str:
    """The whole report for a terminal; its last line is what the operator reads."""
    parts = []
    if finding.verdict is not Verdict.PASS:
        parts += [tree(seen.plan, _marks(seen, finding)), _failure(seen, finding, command)]
    parts += [invariants(finding), staged(seen), costs(seen, finding), answer(seen, finding)]
    return "\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _marks(seen: Observed, finding: Finding) -> dict[int, str]:
    marks = {result.number: "   x" for result in seen.results if result.state is State.FAILED}
    marks |= {result.number: "   -" for result in seen.results if result.state is State.SKIPPED}
    return marks | ({finding.first_bad: ARROW} if finding.first_bad else {})


def _failure(seen: Observed, finding: Finding, command: str) -> str:
    """The step that failed first, the versions around it, the seed and the command."""
    if finding.first_bad is None:
        return f"seed {seen.plan.spec.seed} · {command}\n"
    step = seen.plan.steps[finding.first_bad - 1] if finding.first_bad <= len(seen.plan.steps) else seen.plan.steps[-1]
    result = next((one for one in seen.results if one.number == step.number), None)
    lines = [f"step {step.number}: {sentence(step, seen.plan.spec)}"]
    if result:
        lines.append(f"  {result.state} after {result.seconds:.1f} s{': ' if result.why else ''}{result.why}")
        lines += table(("node", "before", "after"), _nodes(result.before, result.after))
    lines.append(f"seed {seen.plan.spec.seed} · plan {seen.plan.digest} · rerun: {command}")
    return "\n".join(lines) + "\n"


def _nodes(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, ...]]:
    return [(str(node), old, new) for node, (old, new) in enumerate(zip(before, after, strict=False))]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns, the last one as it is."""
    every = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head) - 1)]
    return ["  " + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in every]


def invariants(finding: Finding) -> str:
    """One line an invariant."""
    rows = [(one.name, str(one.verdict), one.promise, one.evidence) for one in finding.invariants]
    lines = []
    for name, verdict, promise, evidence in rows:
        shown = "not tested" if verdict == Verdict.UNSUPPORTED else verdict
        lines += [f"  {name:<4} {shown:<10} {promise}", f"  {'':<15} {evidence}"]
    return "\n".join(lines) + "\n"


def staged(seen: Observed) -> str:
    """A line a stage: which group there was, what it came to, and what that cost."""
    head = ("stage", "nodes", "steps", "redone", "without progress", "came to")
    rows = [
        (one.name, one.group, str(one.steps), str(one.redone), f"{one.idle:.1f} s", one.came_to)
        for one in stages(seen, PAUSE)
    ]
    return "\n".join(table(head, rows)) + "\n"


def costs(seen: Observed, finding: Finding) -> str:
    """Time and memory."""
    memory = ", ".join(f"{name} {size / 1024:.0f} MB a node" for name, size in seen.memory.items())
    return (
        f"{len(seen.plan.steps)} steps in {seen.seconds:.0f} s · {len(seen.generations)} starts of the job · "
        f"{finding.redone} of {seen.plan.spec.steps} training steps redone · {finding.idle:.0f} s without progress · "
        f"{memory or 'memory unknown'}"
    )


def answer(seen: Observed, finding: Finding) -> str:
    """The last line: what to do with the real cluster."""
    spec = seen.plan.spec
    return f"{spec.old.name} to {spec.new.name} in {spec.strategy} mode: {finding.answer}, because {finding.because}"


def compared(results: Sequence[tuple[Observed, Finding]]) -> str:
    """Several strategies side by side, and the answer for each."""
    rows = [
        (seen.plan.spec.strategy, finding.answer, str(finding.redone), f"{finding.idle:.0f} s", f"{seen.seconds:.0f} s")
        for seen, finding in results
    ]
    lines = table(("strategy", "answer", "redone", "without progress", "took"), rows)
    return "\n".join([*lines, *(answer(seen, finding) for seen, finding in results)]) + "\n"


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html.j2")


def page(seen: Observed, finding: Finding, command: str) -> str:
    """The report as one HTML page that needs nothing else."""
    from markupsafe import Markup

    spec = seen.plan.spec
    results = {result.number: result for result in seen.results}
    steps = [
        {
            "number": step.number,
            "stage": step.stage,
            "what": sentence(step, spec),
            "versions": step.versions,
            "result": results.get(step.number),
            "first_bad": step.number == finding.first_bad,
        }
        for step in seen.plan.steps
    ]
    rendered: str = _template().render(
        spec=spec,
        seen=seen,
        finding=finding,
        steps=steps,
        answer=answer(seen, finding),
        costs=costs(seen, finding),
        command=command,
        stages=stages(seen, PAUSE),
        lanes=Markup(timeline.lanes(seen)),  # noqa: S704 - made of escaped parts
        curve=Markup(timeline.curve(seen)),  # noqa: S704 - the same
        legend=[(spec.old.name, timeline.OLD), (spec.new.name, timeline.NEW)],
    )
    return rendered
