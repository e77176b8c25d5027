"""Runs the rehearsal that proves an advice, and says whether what it showed is what the advice said."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from torchskew.engine.progress import Watch
from torchskew.model.outcomes import Verdict
from torchskew.releases.advice import Advice
from torchskew.releases.diagnosis import Line, Material, diagnose
from torchskew.report.catalogue import catalogue
from torchskew.report.columns import labelled
from torchskew.workflows.rehearsal import reports
from torchskew.workflows.rehearsal.findings import Breach, Finding
from torchskew.workflows.rehearsal.workflow import REHEARSE, Options, Rehearsals
from torchskew.workflows.steps import Exit, execute


def prove(advice: Advice, options: Options, watch: Watch) -> int:
    """Rehearse, and compare. The exit code is that of the rehearsal."""
    with ExitStack() as resources:
        given = {Options: options, Watch: watch, ExitStack: resources, Advice: advice}
        return execute(PROVE, given)


def report_and_compare(rehearsals: Rehearsals, advice: Advice) -> Exit:
    """The reports of the rehearsal, and below its answer whether that was to be expected."""
    code = reports.show(rehearsals.judged)
    says = compared(advice, [each.finding for each in rehearsals.judged])
    sys.stdout.write(labelled("check", says, indent=0, gutter=11) + "\n")
    return Exit(code=code)


def compared(advice: Advice, findings: Sequence[Finding]) -> str:
    """Whether a rehearsal showed what an advice said, in one sentence."""
    listed = dict.fromkeys(entry.id for entry in (*advice.direct.breaks, *advice.forward, *advice.back, *advice.silent))
    if undecided := [each.because for each in findings if each.verdict is Verdict.UNKNOWN]:
        return f"not decided, because {undecided[0]}"
    shown: dict[str, None] = {}
    for name, breach in _breaches(findings):
        known = [each for each in _breaks_of(breach, advice) if each in listed]
        if not known:
            return f"not as advised: {name} failed, and no break that the advice lists shows this: {breach.text}"
        shown |= dict.fromkeys(known)
    if shown:
        return f"as advised: what failed is {', '.join(shown)}"
    rest = f"; this job met none of {', '.join(listed)}" if listed else ""
    return f"as advised: every invariant holds{rest}"


def _breaches(findings: Sequence[Finding]) -> Iterator[tuple[str, Breach]]:
    """What failed, with the name of the invariant. What follows from a cause has no cause of its own."""
    failed = [(each.name, breach) for finding in findings for each in finding.invariants
              if each.verdict is Verdict.FAIL for breach in each.breaches]  # fmt: skip
    with_cause = [each for each in failed if each[1].cause]
    yield from with_cause or failed


def _breaks_of(breach: Breach, advice: Advice) -> list[str]:
    """The breaks between the two releases that show this error."""
    lines = tuple(Line(text=line) for line in (breach.cause or breach.text).splitlines())
    material = Material(lines=lines, first=advice.question.old, second=advice.question.new)
    return [match.entry.id for match in diagnose(material, catalogue()).matches]


PROVE = (*REHEARSE[:-1], report_and_compare)
