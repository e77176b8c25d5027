"""Writes the compatibility page out of recorded runs: per pair of eras what works, what refuses, what breaks."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import Checked, Decision
from torchskew.model.runs import Run
from torchskew.model.versions import span
from torchskew.report import pairs, view
from torchskew.report.tables import CellTable, tables

_HEAD = """\
# What works between which releases

`make survey` writes this page: it runs `torchskew survey --measure --write docs/compatibility.md`, which measures every
scenario of [compatibility.toml](compatibility.toml) between every two releases, in both orders. An interrupted survey
continues where it stopped. The page holds recorded cells only; this command writes it again from the same record:

    {command}

A pair is written `first,second`: the first release runs rank 0, which hosts the store or writes the file; the second
joins or reads. Every cell was predicted before it ran; the page shows that prediction. `TIME/OPQ`: rank 0 ended with
TIME, rank 1 with OPQ. All cells ran stock PyTorch, without the guard; [guard.md](guard.md) shows the difference.
[scenarios.md](scenarios.md) says what each scenario promises."""
_NAMES = 4  # pairs that are spelled out; of more, the first and how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A recorded run with its decision. origins: the runs in which its cells really ran."""

    run: Run
    decision: Decision
    origins: tuple[str, ...] = ()


def page(runs: Sequence[Measured], command: str) -> str:
    """The whole page as markdown. command: what makes it again from the record."""
    parts = [_HEAD.format(command=command)]
    parts += [
        "## In words\n\n" + "\n".join(f"- **{view.SHORT[outcome]}** {view.MEANING[outcome]}" for outcome in Outcome)
    ]
    for measured in runs:
        parts += [part for part in _run(measured) if part]
    return "\n\n".join(parts) + "\n"


def _run(measured: Measured) -> Iterator[str]:
    run, decision = measured.run, measured.decision
    yield f"## {run.plan.runtime}\n\n{_account(measured)}"
    yield _versions(run)
    yield _eras(run)
    known = dict.fromkeys(cell.name for cell in run.plan.cells)
    between = [_between(those, known) for those in pairs.between(run, decision.checked)]
    yield "\n\n".join(["### Between two eras", *between])
    yield from _tables(run, decision)
    if wide := list(_worlds(decision)):
        yield "### Worlds of three and more\n\n" + "\n".join(wide)
    yield _lacks(decision)
    yield _surprises(run, decision)


def _account(measured: Measured) -> str:
    """Which run this is, how large, how long, and which runs its cells came from."""
    info, counts = measured.run.info, view.counts(measured.run, measured.decision)
    came = ", ".join(f"{count} {verdict.value.lower()}" for verdict, count in counts.verdicts.items())
    took = ""
    if info.finished and not counts.cached:
        spent = dt.datetime.fromisoformat(info.finished) - dt.datetime.fromisoformat(info.started)
        took = f" in {view.seconds(spent.total_seconds())}"
    earlier = " and ".join(f"`{run_id}`" for run_id in measured.origins if run_id != info.run_id)
    kept = f" {counts.cached} of them had not changed since they ran in {earlier}." if counts.cached else ""
    text = f"Run `{info.run_id}`, {info.day}, {info.runtime}: {counts.planned} cells{took}: {came}.{kept}"
    return f"{text} Every line of this part is from that run."


def _versions(run: Run) -> str:
    """What each label was: what the ranks themselves reported, and the identity of the environment."""
    reported = {
        facts.declared: (facts.torch, facts.python)
        for result in run.results
        for facts in result.ranks
        if facts.torch and facts.python
    }
    lines = ["| version | reports | Python | environment |", "|---|---|---|---|"]
    for name in pairs.releases(run):
        torch, python = reported.get(name, ("", ""))
        identity = run.info.environments.get(name, "").removeprefix("sha256:")[:12]
        lines.append(f"| {name} | {torch} | {python} | `{identity}` |")
    return "\n".join(lines)


def _eras(run: Run) -> str:
    lines = ["| era | what its releases speak, by the first release that spoke it |", "|---|---|"]
    return "\n".join([*lines, *(f"| {era.name} | {era.speaks} |" for era in pairs.eras_of(run))])


def _between(those: pairs.Between, known: Iterable[str]) -> str:
    """One pair of eras: what works, what refuses, what breaks and how, what is blocked by what, what is lacking."""
    count = f"{those.pairs} pair{'s' if those.pairs > 1 else ''}, {len(those.items)} cells"
    lines = [f"#### {those.first.name},{those.second.name} ({count})", ""]
    passed = those.named(Verdict.PASS)
    right = {
        name: [item for item in items if Outcome.CLEAR not in item.result.outcomes] for name, items in passed.items()
    }
    refused = {
        name: [item for item in items if Outcome.CLEAR in item.result.outcomes] for name, items in passed.items()
    }
    lists = {
        "works": _names(right, those.pairs, known),
        "refuses clearly": _names(refused, those.pairs, known),
        "breaks": "; ".join(_broken(those)),
        "blocked": ", ".join(_blockers(those)),
        "lacking": _names(those.named(Verdict.UNSUPPORTED), those.pairs, known),
        "not measured": _names(those.named(Verdict.UNKNOWN), those.pairs, known),
    }
    return "\n".join([*lines, *(f"- **{what}**: {text}" for what, text in lists.items() if text)])


def _names(by_scenario: Mapping[str, Sequence[Checked]], count: int, known: Iterable[str]) -> str:
    """Scenarios, each with its number of pairs where that is not all of them."""
    counts = {name: len({item.result.cell.skew for item in items}) for name, items in by_scenario.items() if items}
    every = _short([name for name, pairs_ in counts.items() if pairs_ == count], known)
    return ", ".join([*every, *(f"{name} ({pairs_} of {count})" for name, pairs_ in counts.items() if pairs_ < count)])


def _short(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Variants of one scenario together: `ddp` where all that are known are named, else `ddp.default/hook`."""
    variants: dict[str, set[str]] = {}
    for name in known:
        scenario, _, variant = name.partition(".")
        variants.setdefault(scenario, set()).add(variant)
    mine: dict[str, list[str]] = {}
    for name in names:
        scenario, _, variant = name.partition(".")
        mine.setdefault(scenario, []).append(variant)
    return [
        scenario if set(those) == variants.get(scenario) else f"{scenario}.{'/'.join(those)}"
        for scenario, those in mine.items()
    ]


def _broken(those: pairs.Between) -> Iterator[str]:
    """Each scenario that fails, by the way it does, with the pairs where only some do."""
    for name, items in those.named(Verdict.FAIL).items():
        ways: dict[str, list[str]] = {}
        for item in items:
            ways.setdefault(view.words(item.result), []).append(",".join(item.result.cell.skew))
        for way, where in ways.items():
            yield f"{name} {way}" + ("" if len(where) == those.pairs else f" ({_some(where)})")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES
    return " ".join(names[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _blockers(those: pairs.Between) -> Iterator[str]:
    """How many scenarios could not be tried, by the scenario that blocked them."""
    scenarios: dict[str, set[str]] = {}
    for name, items in those.named(Verdict.BLOCKED).items():
        for item in items:
            if item.result.blocked_by:
                scenarios.setdefault(item.result.blocked_by.name, set()).add(name)
    yield from (
        f"{len(names)} scenario{'s' if len(names) > 1 else ''} by {blocker}" for blocker, names in scenarios.items()
    )


class _Tried(Enum):
    """What a table without a failure shows."""

    MIXED = auto()  # it worked between two releases, or it never mixes releases
    SAME = auto()  # it worked, but only with one release on all ranks
    NOWHERE = auto()  # every cell was blocked, or a release lacks it


def _tables(run: Run, decision: Decision) -> Iterator[str]:
    """A table for each scenario that fails anywhere, releases that act alike on one line; the others by name."""
    order = list(pairs.releases(run))
    names: dict[_Tried, list[str]] = {tried: [] for tried in _Tried}
    broken = []
    for table in tables(run, decision):
        fails = any(item.result.verdict is Verdict.FAIL for item in table.grid.values())
        if fails and len(table.columns) > 1:
            broken.append(_table(table, order))
        elif table.grid and not fails:
            name = table.scenario if "guard off" in table.condition else f"{table.scenario} ({table.condition})"
            names[_tried(table)].append(name)
    known = dict.fromkeys(cell.name for cell in run.plan.cells)
    fine, same, nowhere = (", ".join(_short(names[tried], known)) for tried in _Tried)
    yield (
        "### Never broken\n\nWherever a rendezvous lets them be tried, and where both sides have them: "
        f"{fine or 'nothing'}."
    )
    if same or nowhere:
        lines = [f"- **between two releases**, only with the same release on every rank: {same}"] if same else []
        lines += [f"- **in any pair**, lacking or blocked everywhere: {nowhere}"] if nowhere else []
        yield "\n".join(["### Never tried", "", *lines])
    if broken:
        yield "### Broken somewhere\n\nReleases whose rows and columns are the same share one line."
    yield from broken


def _tried(table: CellTable) -> _Tried:
    """How far the cells of a table without a failure say that the scenario works between releases."""
    items = (*table.grid.values(), *table.wide)
    passed = {len(set(item.result.cell.skew)) > 1 for item in items if item.result.verdict is Verdict.PASS}
    mixes = any(len(set(item.result.cell.skew)) > 1 for item in items)
    if True in passed or (passed and not mixes):
        return _Tried.MIXED
    return _Tried.SAME if passed else _Tried.NOWHERE


def _table(table: CellTable, order: Sequence[str]) -> str:
    """Rows and columns by release, or variants by release where one release runs on all ranks."""

    def word(row: str, column: str) -> str:
        item = table.grid.get((row, column))
        return view.label(item, mark=False) if item else ""

    both = set(table.rows) == set(table.columns)
    columns = [name for name in order if name in table.columns] or list(table.columns)
    groups = pairs.alike(columns, word) if both else tuple((name,) for name in columns)
    rows = groups if both else tuple((name,) for name in table.rows)
    head = f"| {table.corner} | " + " | ".join(map(span, groups)) + " |"
    lines = [f"#### {table.title}", "", head, "|---" * (len(groups) + 1) + "|"]
    for row in rows:
        cells = [word(row[0], column[-1] if row == column else column[0]) for column in groups]
        lines.append(f"| **{span(row)}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _worlds(decision: Decision) -> Iterable[str]:
    """One line per scenario and condition: how many mixed worlds of three ended how."""
    endings: dict[str, Counter[str]] = {}
    for item in decision.checked:
        cell, result = item.result.cell, item.result
        if cell.world_size > len("ab") and len(set(cell.skew)) > 1 and result.verdict is not Verdict.BLOCKED:
            endings.setdefault(f"{cell.scenario}, guard {cell.guard}", Counter())[view.label(item, mark=False)] += 1
    for name, counter in endings.items():
        yield f"- {name}: " + ", ".join(f"{words} {count}" for words, count in counter.most_common())


def _lacks(decision: Decision) -> str:
    """What a release does not have, in its own words: whole scenarios, and single cases that were left out."""
    whole: dict[str, list[tuple[str, str]]] = {}
    cases: dict[str, list[tuple[str, str]]] = {}
    variants = {item.result.cell.name for item in decision.checked}
    for item in decision.checked:
        result = item.result
        name = result.cell.name
        if result.verdict is Verdict.UNSUPPORTED:
            version, _, why = result.reason.partition(": ")
            whole.setdefault(_line(why), []).append((version, name))
        elif result.verdict is not Verdict.BLOCKED:
            for case, reason in result.skipped.items():
                version, _, why = reason.partition(": ")
                if f"{result.cell.scenario}.{case}" not in variants:
                    cases.setdefault(_line(why), []).append((version, f"{result.cell.scenario} {case}"))
    parts = [*_lacking("Whole scenarios:", whole), *_lacking("Single cases, left out of their scenario:", cases)]
    return "\n\n".join(["### What a release lacks, in its own words", *parts]) if parts else ""


def _lacking(title: str, by_reason: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    """A line for each reason: which releases say it, and of what."""
    if by_reason:
        yield title
        lines = []
        for why, where in by_reason.items():
            versions = dict.fromkeys(version for version, _ in where)
            names = dict.fromkeys(name for _, name in where)
            lines.append(f"- {_some(list(names))}: {why} ({', '.join(versions)})")
        yield "\n".join(sorted(lines))


def _line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].replace("|", "\\|")[:200]


def _surprises(run: Run, decision: Decision) -> str:
    """Where observation and prediction differ, alike ones together, each with a command that shows it."""
    groups: dict[tuple[str, str, str], list[Checked]] = {}
    for item in view.surprises(decision):
        result = item.result
        predicted = view.outcome_words(result.cell.predicted)
        groups.setdefault((result.cell.name, predicted, view.words(result)), []).append(item)
    if not groups:
        return "### Otherwise than predicted\n\nNothing."
    lines = ["### Otherwise than predicted", "", "| scenario | predicted | observed | pairs |", "|---|---|---|---|"]
    for (name, predicted, seen), items in sorted(groups.items(), key=lambda each: -len(each[1])):
        where = _some([",".join(item.result.cell.skew) for item in items])
        lines.append(f"| {name} | {predicted} | {seen} | {len(items)}: {where} |")
    example = run.info.rerun.of_cell(next(iter(groups.values()))[0].result.cell.id)
    return "\n".join([*lines, "", "A cell again, really run:", "", f"    {example}"])
