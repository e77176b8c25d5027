"""PyTorch's own tests as a terminal shows them: a line for each assignment of releases, then what fails only mixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torchskew.judging.controls import PairSummary, of_suite, only_alone, only_mixed, summaries, wrong_ranks
from torchskew.model.cells import Cell
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.planning.suite import is_control
from torchskew.report import view
from torchskew.report.columns import aligned
from torchskew.report.logs import Written
from torchskew.report.text import accounting

_HEAD = ("suite", "ranks", "right", "fail alone too", "fail only mixed", "only alone", "skipped", "lacking", "open")
_MOST = 40
_REASONS = 12


def render(run: Run, decision: Decision, written: Written) -> str:
    """The report as lines without a newline at the end."""
    blocks = [
        "\n".join(aligned([_HEAD, *map(_line, summaries(decision))], right=range(2, len(_HEAD)))),
        "\n".join(_findings(run, decision)),
        "\n".join(_others(run, decision)),
        "\n".join(_alone(decision)),
        "\n".join(_lucky(decision)),
        "\n".join(_skips(decision)),
        "\n".join(_lacks(decision)),
        "\n".join(_end(decision, written)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _ranks(of: PairSummary | Cell) -> str:
    """The releases of the ranks, and where they meet if that is not the suites' own file."""
    return ",".join(of.skew) + (" at a bridge" if of.store is Store.BRIDGE else "")


def _line(pair: PairSummary) -> tuple[str, ...]:
    mixed = len(set(pair.skew)) > 1
    of_mix = (str(pair.only_mixed), str(pair.only_alone)) if mixed else ("", "")
    counts = map(str, (pair.skipped, pair.lacking, pair.undecided))
    return (pair.suite, _ranks(pair), str(pair.right), str(pair.fails_alone), *of_mix, *counts)


def _findings(run: Run, decision: Decision) -> Iterator[str]:
    """What fails only mixed: each rank's class, and what the ranks that are wrong say."""
    items = only_mixed(decision)
    if items:
        yield f"fails only mixed: {len(items)}"
    for item in items[:_MOST]:
        yield from _finding(run, item)
    if len(items) > _MOST:
        yield f"… and {len(items) - _MOST} more: see the report"


def _finding(run: Run, item: Checked) -> Iterator[str]:
    result = item.result
    known = f" (known: {item.expectation.reason})" if item.status is Status.KNOWN_FAILURE and item.expectation else ""
    yield f"  {result.cell.id}  {view.outcome_words(result.outcomes, full=True)}{known}"
    if Outcome.WRONG in result.outcomes:
        yield f"      {result.reason}"
    for rank, seen in wrong_ranks(result):
        facts = result.ranks[rank] if rank < len(result.ranks) else None
        if facts is not None and facts.error is not None:
            yield f"      rank {rank} {seen} ({facts.torch}): {facts.error.type}: {facts.error.headline[:300]}"
        elif seen is not Outcome.WRONG:
            yield f"      rank {rank} {seen}"
    yield f"      rerun: {run.info.rerun.of_cell(result.cell.id)}"


def _others(run: Run, decision: Decision) -> Iterator[str]:
    """What keeps tests from running: a rendezvous or a list that fails, an environment that could not be made."""
    for item in view.unexpected(decision):
        if item.status is not Status.REGRESSION or not of_suite(item.result.cell):
            yield f"{item.status}: {item.result.cell.id}: {item.result.reason.splitlines()[0]}"
    del run


def _alone(decision: Decision) -> Iterator[str]:
    """Tests that fail with one release on all ranks, by test, with the first error."""
    failing: dict[str, list[Checked]] = {}
    for item in decision.checked:
        if of_suite(item.result.cell) and is_control(item.result.cell) and item.result.verdict is Verdict.FAIL:
            failing.setdefault(item.result.cell.name, []).append(item)
    if failing:
        yield f"fail with one release on all ranks, so they say nothing about a mix: {len(failing)} tests"
    for name, items in failing.items():
        releases = ", ".join(dict.fromkeys(f"{len(one.result.cell.skew)} x {one.result.cell.skew[0]}" for one in items))
        yield f"  {name} ({releases}): {items[0].result.reason[:240]}"


def _lucky(decision: Decision) -> Iterator[str]:
    pairs = only_alone(decision)
    if pairs:
        yield f"right mixed although a control fails: {len({item.result.cell.id for item, _ in pairs})}"
    for item, control in pairs[:_MOST]:
        yield f"  {item.result.cell.id}  (control {control.result.cell.id})"


def _skips(decision: Decision) -> Iterator[str]:
    """Why tests were skipped, most frequent first."""
    skipped = [item.result for item in decision.checked if of_suite(item.result.cell) and _skipped(item)]
    reasons = Counter(result.reason.removeprefix("the suite skips it: ") for result in skipped)
    if reasons:
        yield f"skipped: {len(skipped)} cells"
        yield from aligned([(f"  {count}", why[:150]) for why, count in reasons.most_common(_REASONS)])


def _lacks(decision: Decision) -> Iterator[str]:
    """Tests that a release lacks, by reason, and how many cells that leaves out."""
    left_out = [item.result for item in decision.checked if of_suite(item.result.cell) and _lacking(item)]
    reasons = Counter(result.reason for result in left_out if is_control(result.cell))
    if reasons:
        yield f"a release lacks the test: {len(left_out)} cells"
        yield from aligned([(f"  {count}", why[:200]) for why, count in reasons.most_common(_REASONS)])
    if len(reasons) > _REASONS:
        yield f"  … and {len(reasons) - _REASONS} more: see the report"


def _lacking(item: Checked) -> bool:
    return item.result.verdict is Verdict.UNSUPPORTED and not _skipped(item)


def _skipped(item: Checked) -> bool:
    return item.result.verdict is Verdict.UNSUPPORTED and bool(item.result.attempts or item.result.inferred_from)


def _end(decision: Decision, written: Written) -> Iterator[str]:
    counts = written.findings.counts
    yield accounting(counts)
    if counts.cached:
        yield f"cache      {counts.cached} of {counts.planned} cells came from an earlier run"
    if inferred := sum(bool(item.result.inferred_from) for item in decision.checked):
        yield f"inferred   {inferred} cells: the suite skips them with one of their releases alone"
    if written.files:
        first, *rest = written.files.values()
        yield f"report     {' · '.join((str(first), *(path.name for path in rest)))}"
    yield decision.sentence


def markdown(decision: Decision) -> str:
    """The same lines as markdown tables, and each test that fails only mixed with the releases, for docs/suite.md."""
    head = (f"| {' | '.join(_HEAD)} |", f"|{'---|' * 2}{'--:|' * (len(_HEAD) - 2)}")
    lines = (f"| {' | '.join(_line(pair))} |" for pair in summaries(decision))
    tests: dict[str, list[str]] = {}
    for item in only_mixed(decision):
        words = view.outcome_words(item.result.outcomes, full=True)
        tests.setdefault(item.result.cell.name, []).append(f"{_ranks(item.result.cell)} {words}")
    rows = (f"| `{name}` | {'; '.join(places)} |" for name, places in sorted(tests.items()))
    return "\n".join([*head, *lines, "", "| fails only mixed | ranks, and what each did |", "|---|---|", *rows])
