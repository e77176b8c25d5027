"""A rehearsal's report as one HTML page that needs nothing else: failures first, details folded away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal import timeline
from torchskew.workflows.rehearsal.findings import Finding, Invariant
from torchskew.workflows.rehearsal.observed import Observation, State, StepResult
from torchskew.workflows.rehearsal.plan_text import group_text, left_out, prediction_text, sentence
from torchskew.workflows.rehearsal.planned import Step
from torchskew.workflows.rehearsal.stage_summary import StageSummary, summarise
from torchskew.workflows.rehearsal.terminal import answer, costs

HERE = Path(__file__).resolve().parent
NOT_PASSED = (Verdict.FAIL, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step as the page shows it. first_bad: whether it was the first to break something."""

    step: Step
    what: str
    result: StepResult | None
    first_bad: bool

    @property
    def state(self) -> str:
        """How it ended, in a word or two."""
        return str(self.result.state) if self.result else "not reached"

    @property
    def group(self) -> str:
        """How many nodes run each version once the step is done."""
        return group_text(self.step.versions)

    @property
    def failed(self) -> bool:
        """Whether it broke something; what was not reached or had nothing to do did not."""
        return self.first_bad or (self.result is not None and self.result.state is State.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRows:
    """A stage and its steps; the page unfolds it where one of them failed."""

    summary: StageSummary
    steps: tuple[StepRow, ...]

    @property
    def failed(self) -> bool:
        """Whether a step of it broke something."""
        return any(row.failed for row in self.steps)


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html.j2")


def html(observation: Observation, finding: Finding, command: str) -> str:
    """The page. command: carries out the same plan again."""
    from markupsafe import Markup

    spec = observation.plan.spec
    rows = _rows(observation, finding)
    rendered: str = _template().render(
        spec=spec,
        observation=observation,
        finding=finding,
        failures=_failures(finding),
        failed_steps=[row for row in rows if row.result and row.result.state is State.FAILED],
        stages=_stages(observation, rows),
        predictions=[prediction_text(prediction) for prediction in observation.plan.predictions],
        answer=answer(observation, finding),
        left_out=left_out,
        costs=costs(observation, finding),
        command=command,
        lanes=Markup(timeline.lanes(observation)),  # noqa: S704 - made of escaped parts
        curve=Markup(timeline.curve(observation)),  # noqa: S704 - the same
        legend=[(spec.old.name, timeline.OLD), (spec.new.name, timeline.NEW)],
    )
    return rendered


def _failures(finding: Finding) -> list[Invariant]:
    """What did not pass, the failures first."""
    return [each for verdict in NOT_PASSED for each in finding.invariants if each.verdict is verdict]


def _rows(observation: Observation, finding: Finding) -> list[StepRow]:
    results = {result.number: result for result in observation.results}
    return [
        StepRow(
            step=step,
            what=sentence(step, observation.plan.spec),
            result=results.get(step.number),
            first_bad=step.number == finding.first_bad,
        )
        for step in observation.plan.steps
    ]


def _stages(observation: Observation, rows: Sequence[StepRow]) -> list[StageRows]:
    return [
        StageRows(summary=summary, steps=tuple(row for row in rows if row.step.stage == summary.stage))
        for summary in summarise(observation)
    ]
