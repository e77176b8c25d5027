"""The report a terminal shows: tables, accounting, what needs somebody, and the decision as the last line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.model import Checked, Decision, Outcome, RankFacts, Run, Status, Verdict
from harness.report import view
from harness.report.logs import Logs

_WIDTH: Final = 100
_MOST: Final = 20
_GAP: Final = "    "
_STYLES: Final = {
    Outcome.OK: "32",
    Outcome.CLEAR: "36",
    Outcome.OPAQUE: "33",
    Outcome.TIMEOUT: "33",
    Outcome.UNSUPPORTED: "2",
    Outcome.NOT_RUN: "2",
}
_BAD: Final = "31"
_TITLES: Final = {
    Status.REGRESSION: "regression",
    Status.FAILS_DIFFERENTLY: "fails differently",
    Status.UNEXPECTED_PASS: "unexpected pass",
    Status.FLAKY: "flaky",
    Status.EXPIRED: "expired expectation",
    Status.UNKNOWN: "unknown",
    Status.MISSING: "never ran",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the reports lie; logs names the ranks that have a log file."""

    folder: Path
    html: Path
    json: Path
    junit: Path
    markdown: Path
    text: Path
    logs: Logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How to print: terminal colours or none, columns available, entries shown of a long list."""

    colour: bool = False
    width: int = _WIDTH
    most: int = _MOST


def render(
    run: Run, decision: Decision, *, paths: Paths | None = None, colour: bool = False, look: Look | None = None
) -> str:
    """The report as lines without a newline at the end. look: width and length, instead of a terminal's defaults."""
    look = look or Look(colour=colour)
    logs = paths.logs if paths else Logs()
    blocks = [
        _changed(decision),
        *([] if decision.difference else _tables(view.tables(run, decision), look)),
        _legend(decision),
        _unexpected(decision, logs, look),
        _surprises(decision, look),
        _known(decision, look),
        _flaky(decision, look),
        _end(run, decision, paths, look),
    ]
    return "\n\n".join(block for block in blocks if block)


def head(run: Run) -> str:
    """The lines that a run prints as it starts, for a report that is rendered later."""
    info = run.info
    versions = " · ".join(f"{name} {identity[:19]}" for name, identity in info.environments.items())
    lines = [
        f"{info.command} · {info.runtime} ({info.runtime_why}) · seed {info.seed}",
        f"versions   {versions or 'none could be made'}",
        f"run        {info.run_id} · {info.started} to {info.finished or 'unfinished'} · torchskew {info.torchskew}",
    ]
    return "\n".join(lines)


def accounting(counts: view.Tally) -> str:
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
    return f"{counts.planned} planned = {' + '.join(parts)}"


def _tables(tables: Sequence[view.Table], look: Look) -> Iterator[str]:
    """Tables of one scenario stand side by side while there is room."""
    shelf: list[list[str]] = []
    name = ""
    for table in tables:
        block = _table(table, look)
        if shelf and (table.scenario != name or _wide([*shelf, block]) > look.width):
            yield _beside(shelf)
            shelf = []
        shelf, name = [*shelf, block], table.scenario
    if shelf:
        yield _beside(shelf)


def _table(table: view.Table, look: Look) -> list[str]:
    """One table as lines; the first column names rank 0's version."""
    lines = [_paint(table.title, "1", look)]
    texts = {at: view.label(item) for at, item in table.grid.items()}
    first = max(map(len, (table.corner, *table.rows)), default=0)
    widths = [max(len(name), *(len(texts.get((row, name), "·")) for row in table.rows)) for name in table.columns]
    if table.columns:
        names = (name.ljust(width) for name, width in zip(table.columns, widths, strict=True))
        lines.append("  ".join((table.corner.ljust(first), *names)).rstrip())
    for row in table.rows:
        entries = (
            _entry(table.grid.get((row, column)), texts.get((row, column), "·"), width, look)
            for column, width in zip(table.columns, widths, strict=True)
        )
        lines.append("  ".join((row.ljust(first), *entries)).rstrip())
    return [*lines, *_worlds(table.wide, look)]


def _worlds(wide: Sequence[Checked], look: Look) -> list[str]:
    """Worlds of three and more ranks, one line each."""
    names = [",".join(item.result.cell.skew) for item in wide]
    longest = max(map(len, names), default=0)
    return [
        f"{name.ljust(longest)}  {_entry(item, view.label(item), 0, look)}"
        for name, item in zip(names, wide, strict=True)
    ]


def _entry(item: Checked | None, text: str, width: int, look: Look) -> str:
    return _paint(text, _style(item) if item else "2", look) + " " * (width - len(text))


def _style(item: Checked) -> str:
    if view.shut(item):
        return f"1;{_BAD}"
    if item.result.verdict in view.SILENT:
        return "2"
    worst = max(item.result.outcomes, key=[*Outcome].index)
    return _STYLES.get(worst, _BAD)


def _paint(text: str, style: str, look: Look) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if look.colour and text.strip() else text


def _wide(blocks: Sequence[list[str]]) -> int:
    return sum(max(map(_seen, block)) for block in blocks) + len(_GAP) * (len(blocks) - 1)


def _seen(line: str) -> int:
    """Columns a line takes; the colours take none."""
    return (
        len(line) if "\x1b" not in line else sum(len(part.partition("m")[2]) for part in f"\x1b[m{line}".split("\x1b["))
    )


def _beside(blocks: Sequence[list[str]]) -> str:
    """Blocks next to each other, the shorter ones filled with blanks."""
    height = max(map(len, blocks))
    widths = [max(map(_seen, block)) for block in blocks]
    lines = []
    for index in range(height):
        parts = [block[index] if index < len(block) else "" for block in blocks]
        lines.append(_GAP.join(part + " " * (width - _seen(part)) for part, width in zip(parts, widths, strict=True)))
    return "\n".join(line.rstrip() for line in lines)


def _legend(decision: Decision) -> str:
    """What the words that were used mean."""
    ran = [item for item in decision.checked if item.result.verdict not in view.SILENT]
    used = {outcome for item in ran for outcome in item.result.outcomes}
    if used <= {Outcome.OK}:
        return ""
    lines = [f"{view.SHORT[one]:<8} {_full(one)}{view.MEANING[one]}" for one in Outcome if one in used]
    lines.append(f"{'A/B':<8} rank 0 came to A, rank 1 to B")
    if any(view.shut(item) for item in decision.checked):
        lines.append(f"{'!':<8} not as expected")
    return "\n".join(lines)


def _full(outcome: Outcome) -> str:
    return "" if view.SHORT[outcome] == outcome else f"{outcome}: "


def _unexpected(decision: Decision, logs: Logs, look: Look) -> str:
    """Everything that needs somebody: what, where, each rank's facts, how to run it again."""
    found = view.unexpected(decision)
    blocks = [f"problem    {problem}" for problem in decision.problems]
    blocks += [_needs_somebody(item, logs, look) for item in found[: look.most]]
    blocks += _more(len(found), look)
    return "\n\n".join(blocks)


def _needs_somebody(item: Checked, logs: Logs, look: Look) -> str:
    result = item.result
    lines = [
        _paint(f"{_TITLES[item.status]}: {result.cell.id}", f"1;{_BAD}", look),
        f"  {_one_line(result.reason)}",
        f"  expected {view.expected_words(item)}, got {result.verdict}"
        + (f" ({view.outcome_words(result.outcomes, full=True)})" if result.outcomes else ""),
        *(line for facts, outcome in _ranks(item) for line in _rank(item, facts, outcome, logs)),
        *(f"  attempt {one.number}: {one.fault}" for one in result.attempts if one.fault),
        f"  rerun: {view.rerun_command(result.cell)}",
    ]
    return "\n".join(lines)


def _ranks(item: Checked) -> Iterable[tuple[RankFacts, Outcome]]:
    return zip(item.result.ranks, item.result.outcomes, strict=False)


def _rank(item: Checked, facts: RankFacts, outcome: Outcome, logs: Logs) -> Iterator[str]:
    """One rank's facts, its error and its log."""
    end = facts.signal or ("" if facts.exit is None else f"exit {facts.exit}")
    parts = [f"torch {facts.torch or facts.declared}", f"python {facts.python}" if facts.python else ""]
    parts += [f"{facts.phase} after {view.seconds(facts.seconds)}", end, "stopped by us" if facts.killed else ""]
    yield f"  rank {facts.rank}  {outcome:<11} {' · '.join(part for part in parts if part)}"
    if facts.error:
        yield f"          {facts.error.type}: {_one_line(facts.error.text)}"
    for text in (facts.machine, facts.unsupported):
        if text:
            yield f"          {_one_line(text)}"
    if path := logs.paths.get((item.result.cell.id, facts.rank)):
        yield f"          log {path}"


def _surprises(decision: Decision, look: Look) -> str:
    """Where observation and prediction differ; an unexpected cell was shown in full above."""
    found = view.surprises(decision)
    lines = []
    for item in found[: look.most]:
        result = item.result
        predicted = view.outcome_words(result.cell.predicted, full=True)
        lines.append(f"{result.cell.id}   predicted {predicted}, observed {view.observed_words(result)}")
        lines.append(f"rerun: {view.rerun_command(result.cell)}")
    return _list("surprises", len(found), [*lines, *_more(len(found), look)])


def _changed(decision: Decision) -> str:
    """What changed since the run that this one is compared with; then nothing needs a table of the rest."""
    return f"changed\n{decision.difference}" if decision.difference else ""


def _flaky(decision: Decision, look: Look) -> str:
    """Cells that failed and are known to flake, with the reason and until when that is accepted."""
    found = view.flaky(decision)
    lines = []
    for item in found[: look.most]:
        entry = item.expectation
        why = f"{_one_line(entry.reason)} (until {entry.until})" if entry else ""
        lines.append(f"{item.result.cell.id}   {_one_line(item.result.reason)}; {why}")
    return _list("flaky", len(found), [*lines, *_more(len(found), look)])


def _known(decision: Decision, look: Look) -> str:
    """Known failures by reason: how many cells, an example, the link."""
    found = view.known_failures(decision)
    lines = []
    for (reason, link), items in [*found.items()][: look.most]:
        lines.append(f"{len(items)}x {_one_line(reason)}{f' ({link})' if link else ''}")
        rest = f" and {len(items) - 1} more" if items[1:] else ""
        lines.append(f"    {items[0].result.cell.id} {view.label(items[0])}{rest}")
    return _list("known", sum(map(len, found.values())), [*lines, *_more(len(found), look)])


def _list(title: str, count: int, lines: Sequence[str]) -> str:
    """A heading with its count in front of the first line, the rest below it."""
    if not count:
        return ""
    first = f"{title:<10} {count:<3} "
    return "\n".join((first if index == 0 else " " * len(first)) + line for index, line in enumerate(lines))


def _more(count: int, look: Look) -> list[str]:
    return [f"… and {count - look.most} more: see the report"] if count > look.most else []


def _end(run: Run, decision: Decision, paths: Paths | None, look: Look) -> str:
    """Accounting, where the reports lie, and the decision as the last line."""
    counts = view.tally(run, decision)
    lines = [accounting(counts)]
    if counts.cached:
        every = "every cell" if counts.cached == counts.planned else f"{counts.cached} of {counts.planned} cells"
        lines.append(f"cache      {every} came from an earlier run: nothing they depend on has changed")
    if paths:
        names = " · ".join(path.name for path in (paths.json, paths.junit, paths.markdown, paths.text))
        lines.append(f"report     {paths.html} · {names}")
        if paths.logs.left_out:
            lines.append(f"logs       {paths.logs.left_out} more stand in the record only")
    lines.append(_paint(decision.sentence, "1;32" if decision.exit_code == 0 else f"1;{_BAD}", look))
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """The first line, without what would move the cursor."""
    first = next((line for line in text.splitlines() if line.strip()), "").strip()
    return "".join(char if char.isprintable() else "?" for char in first)
