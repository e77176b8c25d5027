"""The report a terminal shows: tables, what needs attention, accounting, and the decision as the last line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.model.versions import EnvironmentFailure
from torchskew.report import view
from torchskew.report.columns import aligned
from torchskew.report.failures import FailureGroup, among
from torchskew.report.findings import Findings, findings_of
from torchskew.report.grid import BAD, Look, paint, tables_text
from torchskew.report.logs import Logs, Written
from torchskew.report.tables import CellTable, environments

RESULTS: Final = "results.json"
_TITLES: Final = {
    Status.REGRESSION: "regression",
    Status.FAILS_DIFFERENTLY: "fails differently",
    Status.UNEXPECTED_PASS: "unexpected pass",
    Status.FLAKY: "flaky",
    Status.EXPIRED: "expired expectation",
    Status.UNKNOWN: "unknown",
    Status.MISSING: "never ran",
}


_FOR_A_FILE: Final = Look(width=160, most=1_000_000, whole=True)


def write_text(run: Run, decision: Decision, written: Written, path: Path) -> None:
    """What the terminal shows, with nothing shortened."""
    text = f"{head(run)}\n\n{render(run, decision, written=written, look=_FOR_A_FILE)}\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def render(
    run: Run, decision: Decision, *, written: Written | None = None, colour: bool = False, look: Look | None = None
) -> str:
    """The report as lines without a newline at the end. look: width and length, instead of a terminal's defaults."""
    look = look or Look(colour=colour)
    written = written or Written(findings=findings_of(run, decision))
    findings = written.findings
    blocks = [
        _changed(decision),
        *([] if decision.difference else _tables(findings.tables, look)),
        _legend(decision),
        _unexpected(run, decision, written, look),
        _surprises(run, findings, look),
        _known(findings, look),
        _flaky(decision, look),
        _unsupported(decision, look),
        _notes(decision, look),
        _end(decision, written, look),
    ]
    return "\n\n".join(block for block in blocks if block)


def _tables(laid_out: Sequence[CellTable], look: Look) -> Iterator[str]:
    """Every table; of more than twice a long list, those in which something is not right."""
    many = len(laid_out) > 2 * look.most
    shown = [table for table in laid_out if not (many and _right(table))]
    yield from tables_text(shown, look)
    if len(shown) < len(laid_out):
        yield f"… and {len(laid_out) - len(shown)} more tables, in which every cell is right: see the report"


def _right(table: CellTable) -> bool:
    items = (*table.grid.values(), *table.wide)
    return all(item.status is Status.EXPECTED and item.result.verdict is Verdict.PASS for item in items)


def head(run: Run) -> str:
    """The lines that a run prints as it starts, for a report that is rendered later."""
    info = run.info
    versions = " · ".join(f"{name} {identity[:19]}" for name, identity in environments(run).items())
    lines = [
        f"{info.command} · {info.runtime} ({info.runtime_why}) · seed {info.seed}",
        f"versions   {versions or 'none could be made'}",
        f"run        {info.run_id} · {info.started} to {info.finished or 'unfinished'} · torchskew {info.torchskew}",
    ]
    return "\n".join(lines)


def accounting(counts: view.Counts) -> str:
    """Planned = the sum, always; what does not add up is named."""
    fails = f"{counts.known} known, {counts.regressions} {'regression' if counts.regressions == 1 else 'regressions'}"
    fails += f", {counts.apart} flaky or not judged" if counts.apart else ""
    passes = counts.statuses.get(Status.UNEXPECTED_PASS, 0)
    parts = [
        f"{counts.verdicts[Verdict.PASS]} pass{f' ({passes} unexpected)' if passes else ''}",
        f"{counts.verdicts[Verdict.FAIL]} fail ({fails})",
        f"{counts.verdicts[Verdict.UNKNOWN]} unknown{f' ({counts.missing} never ran)' if counts.missing else ''}",
        f"{counts.verdicts[Verdict.UNSUPPORTED]} unsupported",
        f"{counts.verdicts[Verdict.BLOCKED]} blocked",
    ]
    times = f", each {counts.repeat} times ({counts.planned * counts.repeat} runs)" if counts.repeat > 1 else ""
    return f"{counts.planned} planned{times} = {' + '.join(parts)}"


def _legend(decision: Decision) -> str:
    """What the words that were used mean."""
    ran = [item for item in decision.checked if item.result.verdict not in view.SILENT]
    used = {outcome for item in ran for outcome in item.result.outcomes}
    if used <= {Outcome.OK}:
        return ""
    rows = [(view.SHORT[outcome], f"{_full(outcome)}{view.MEANING[outcome]}") for outcome in Outcome if outcome in used]
    if any(len(set(item.result.outcomes)) > 1 for item in ran):
        rows.append(("A/B", "A on rank 0, B on rank 1"))
    if any(view.shut(item) for item in decision.checked):
        rows.append(("!", "not as expected"))
    return "\n".join(aligned(rows))


def _full(outcome: Outcome) -> str:
    return "" if view.SHORT[outcome] == outcome else f"{outcome}: "


def _unexpected(run: Run, decision: Decision, written: Written, look: Look) -> str:
    """What needs attention, cells that fail in one way together; none is shown twice."""
    findings, again = written.findings, run.info.rerun
    unexpected = [item for item in findings.unexpected if item.result.cell.id not in decision.changed]
    together = among(findings.failures, [item for item in unexpected if item.result.unprovisioned is None])
    blocks = [f"problem    {problem}" for problem in decision.problems]
    blocks += _without_environment(unexpected, again, look)
    for group in together[: look.most]:
        blocks += _group(group, written.logs, again, look)
    blocks += _more(len(together), look)
    return "\n\n".join(blocks)


def _without_environment(items: Sequence[Checked], again: Rerun, look: Look) -> Iterator[str]:
    """The cells that could not run, by the version that has no environment, each reason once."""
    by_failure: dict[EnvironmentFailure, list[CellResult]] = {}
    for item in items:
        if item.result.unprovisioned:
            by_failure.setdefault(item.result.unprovisioned, []).append(item.result)
    for failure, results in by_failure.items():
        cells = "1 cell" if len(results) == 1 else f"{len(results)} cells"
        lines = [
            paint(f"unknown: {cells}: no environment for {failure.version}", f"1;{BAD}", look),
            f"  {_one_line(failure.reason)}",
            *(f"  {result.cell.id}" for result in results[: look.most]),
            *(f"  {more}" for more in _more(len(results), look)),
            f"  rerun: {again.of_cell(results[0].cell.id)}",
        ]
        yield "\n".join(lines)


def _group(group: FailureGroup, logs: Logs, again: Rerun, look: Look) -> Iterator[str]:
    """A group: what is known of it, then its first cell in full; in a file, every cell."""
    shown = group.items if look.whole else group.items[:1]
    if len(group.items) > 1 or group.entry:
        yield _of_group(group, again, look)
    yield from (_needs_attention(item, logs, again, look) for item in shown)


def _of_group(group: FailureGroup, again: Rerun, look: Look) -> str:
    count = f"{len(group.items)} cells" if len(group.items) > 1 else "1 cell"
    lines = [paint(f"{_TITLES[group.status]}: {count}, {group.title}", f"1;{BAD}", look)]
    if group.entry:
        lines += [f"  cause    {group.entry.cause}", f"  now      {group.entry.remedy.now}"]
    if len(group.items) > 1:
        lines += [f"  where    {', '.join(group.scenarios)} · {group.pairs}", f"  rerun    {group.rerun(again)}"]
    lines.append(f"  {'each' if look.whole else 'one'} of them:" if len(group.items) > 1 else "  the cell:")
    return "\n".join(lines)


def _needs_attention(item: Checked, logs: Logs, again: Rerun, look: Look) -> str:
    result = item.result
    # Where every rank that failed has an error of its own, the reason would only repeat them.
    failed = [facts for facts, outcome in _ranks(item) if outcome is not Outcome.OK]
    repeated = all(facts.error for facts in failed) if failed else result.verdict is Verdict.PASS
    lines = [
        paint(f"{_TITLES[item.status]}: {result.cell.id}", f"1;{BAD}", look),
        f"  expected {view.expected_words(item)}, got {result.verdict}{_seen_words(result)}",
        *([] if repeated else [f"  {_one_line(result.reason)}"]),
        *(line for facts, outcome in _ranks(item) for line in _rank(item, facts, outcome, logs)),
        *(f"  attempt {attempt.number}: {attempt.fault}" for attempt in result.attempts if attempt.fault),
        f"  rerun: {again.of_cell(result.cell.id)}",
    ]
    return "\n".join(lines)


def _seen_words(result: CellResult) -> str:
    """Outcomes, and whether the table of eras foresaw them."""
    if not result.outcomes:
        return ""
    predicted = view.outcome_words(result.cell.predicted, full=True) if result.cell.predicted else "nothing"
    foreseen = "as predicted" if result.outcomes == result.cell.predicted else f"predicted {predicted}"
    return f" ({view.outcome_words(result.outcomes, full=True)}), {foreseen}"


def _ranks(item: Checked) -> Iterable[tuple[RankFacts, Outcome]]:
    return zip(item.result.ranks, item.result.outcomes, strict=False)


def _rank(item: Checked, facts: RankFacts, outcome: Outcome, logs: Logs) -> Iterator[str]:
    """One rank's facts, its error and its log."""
    end = facts.signal or ("" if facts.exit is None else f"exit {facts.exit}")
    parts = [f"torch {facts.torch or facts.declared}", f"python {facts.python}" if facts.python else ""]
    parts += [f"numpy {facts.numpy}" if facts.numpy else ""]
    spent = facts.seconds if facts.error_after is None else facts.error_after
    parts += [f"{facts.phase} after {view.seconds(spent)}", end, "stopped by us" if facts.killed else ""]
    yield f"  rank {facts.rank}  {outcome:<11} {' · '.join(part for part in parts if part)}"
    if facts.error:
        yield f"          {facts.error.type}: {_one_line(facts.error.text)}"
    for text in (facts.machine, facts.prevented, facts.unsupported):
        if text:
            yield f"          {_one_line(text)}"
    if path := logs.paths.get((item.result.cell.id, facts.rank)):
        yield f"          log {path}"


def _surprises(run: Run, findings: Findings, look: Look) -> str:
    """Where observation and prediction differ; an unexpected cell was shown in full above."""
    items = findings.surprises
    lines = []
    for item in items[: look.most]:
        result = item.result
        predicted = view.outcome_words(result.cell.predicted, full=True)
        lines.append(f"{result.cell.id}   predicted {predicted}, observed {view.observed_words(result)}")
        lines.append(f"rerun: {run.info.rerun.of_cell(result.cell.id)}")
    return _list("surprises", len(items), [*lines, *_more(len(items), look)])


def _changed(decision: Decision) -> str:
    """What changed since the run that this one is compared with; then no tables of the rest are needed."""
    return f"changed\n{decision.difference}" if decision.difference else ""


def _flaky(decision: Decision, look: Look) -> str:
    """Cells that failed and are known to flake, with the reason and until when that is accepted."""
    items = view.flaky(decision)
    lines = []
    for item in items[: look.most]:
        entry = item.expectation
        why = f"{_one_line(entry.reason)} (until {entry.until})" if entry else ""
        lines.append(f"{item.result.cell.id}   {_one_line(item.result.reason)}; {why}")
    return _list("flaky", len(items), [*lines, *_more(len(items), look)])


def _known(findings: Findings, look: Look) -> str:
    """Known failures by reason: how many cells, the link, an example: one that hung, with where its ranks waited."""
    groups = findings.known
    lines = []
    for (reason, link), items in [*groups.items()][: look.most]:
        lines.append(f"{len(items)}x {_one_line(reason)}{f' ({link})' if link else ''}")
        rest = f" and {len(items) - 1} more" if items[1:] else ""
        hung = next((item for item in items if Outcome.HANG in item.result.outcomes), None)
        example = hung or items[0]
        lines.append(f"    {example.result.cell.id} {view.label(example)}{rest}")
        lines += [f"    {_one_line(hung.result.reason)}"] if hung else []
    return _list("known", sum(map(len, groups.values())), [*lines, *_more(len(groups), look)])


def _unsupported(decision: Decision, look: Look) -> str:
    """What could not be tried, by reason: how many cells, an example."""
    by_reason = view.unsupported(decision)
    shown = look.most // 4
    lines = []
    for reason, items in [*by_reason.items()][:shown]:
        rest = f" and {len(items) - 1} more" if items[1:] else ""
        lines += [f"{len(items)}x {_one_line(reason)}", f"    {items[0].result.cell.id}{rest}"]
    more = [f"… and {len(by_reason) - shown} more: see the report"] if len(by_reason) > shown else []
    return _list("not tried", sum(map(len, by_reason.values())), [*lines, *more])


def _notes(decision: Decision, look: Look) -> str:
    """What judges say of cells that pass; in a large run, that is for the report."""
    results = view.noted(decision)
    if len(decision.checked) > look.most:
        return ""
    lines = [line for result in results for line in (str(result.cell.id), f"    {_one_line(result.note)}")]
    return _list("notes", len(results), lines)


def _list(title: str, count: int, lines: Sequence[str]) -> str:
    """A heading with its count in front of the first line, the rest below it."""
    if not count:
        return ""
    first = f"{title:<10} {count:<3} "
    return "\n".join((first if index == 0 else " " * len(first)) + line for index, line in enumerate(lines))


def _more(count: int, look: Look) -> list[str]:
    return [f"… and {count - look.most} more: see the report"] if count > look.most else []


def _end(decision: Decision, written: Written, look: Look) -> str:
    """Accounting, the paths of the reports, and the decision as the last line."""
    counts = written.findings.counts
    lines = [accounting(counts)]
    if counts.cached:
        every = "every cell" if counts.cached == counts.planned else f"{counts.cached} of {counts.planned} cells"
        lines.append(f"cache      {every} came from an earlier run: nothing they depend on has changed")
    if follows := [item.result for item in decision.checked if item.result.inferred_from]:
        basis = {cell_id for result in follows for cell_id in result.inferred_from}
        lines.append(f"inferred   {len(follows)} cells (~) follow from {len(basis)} that ran; named in {RESULTS}")
    if written.files:
        first, *others = written.files.values()
        lines.append(f"report     {' · '.join((str(first), *(path.name for path in others)))}")
    if written.logs.left_out:
        lines.append(f"logs       {written.logs.left_out} more are in the record only")
    fine = "1" if decision.part else "1;32"
    lines.append(paint(decision.sentence, fine if decision.exit_code == 0 else f"1;{BAD}", look))
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """The first line, without what would move the cursor."""
    first = next((line for line in text.splitlines() if line.strip()), "").strip()
    return first if first.isprintable() else "".join(char if char.isprintable() else "?" for char in first)
