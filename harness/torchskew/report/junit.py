"""Writes JUnit XML as GitHub's and Jenkins' readers take it: known failures skipped, regressions failed.

Valid by the schema that Jenkins' xUnit plugin checks (junit-10.xsd) and by the stricter one of Ant's report
(JUnit.xsd of windyroad): no attributes on the root, every attribute of a suite, its parts in a fixed order, nothing in
a case but its end. So the facts of ranks are `name=value` lines in the suite's standard output, cell by cell; readers
show that beside each of its cases.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from torchskew.model.reruns import Rerun
from torchskew.model.results import Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.report import view
from torchskew.report.logs import Logs, Written
from torchskew.report.tables import environments

# XML 1.0 has no way to write these, not even escaped; a rank may print any of them.
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FAILURES: Final = (
    Status.REGRESSION,
    Status.FAILS_DIFFERENTLY,
    Status.UNEXPECTED_PASS,
    Status.FLAKY,
    Status.EXPIRED,
)
_ERRORS: Final = (Status.UNKNOWN, Status.MISSING)


def write_junit(run: Run, decision: Decision, written: Written, path: Path) -> None:
    """One suite per scenario, one case per cell; problems of the baseline are failures of a suite of their own."""
    names: dict[str, list[Checked]] = {}
    for item in decision.checked:
        names.setdefault(item.result.cell.name, []).append(item)
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
        for number, (name, items) in enumerate(names.items()):
            counts = _counts([_kind(item) for item in items], sum(item.result.seconds for item in items))
            file.write(_open(run, f"torchskew.{name}", counts, number))
            file.write(_head(run))
            for item in items:
                file.write(ET.tostring(_case(item, name, written.logs, run.info.rerun), encoding="unicode") + "\n")
            facts = (line for item in items for line in _facts(item, written.logs, run.info.rerun))
            file.write(_close("\n".join(facts)))
        if decision.problems:
            file.write(_problems(run, decision.problems, len(names)))
        file.write("</testsuites>\n")


def _close(printed: str) -> str:
    """The end of a suite, after its cases; Ant's schema wants both elements, also where they are empty."""
    out = ET.Element("system-out")
    out.text = _clean(printed)
    return ET.tostring(out, encoding="unicode") + "\n<system-err />\n</testsuite>\n"


def _counts(kinds: Sequence[str], seconds: float) -> dict[str, str]:
    return {
        "tests": str(len(kinds)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
        "time": f"{seconds:.3f}",
    }


def _open(run: Run, name: str, counts: Mapping[str, str], number: int) -> str:
    """The opening tag of a suite; the rest is written case by case."""
    # A suite's cells may run on several hosts, which the facts of each rank name.
    where = {"name": name, "timestamp": run.info.started[:19], "hostname": "localhost"}
    suite = ET.Element("testsuite", {**where, **counts, "id": str(number), "package": "torchskew"})
    return ET.tostring(suite, encoding="unicode").removesuffix(" />") + ">\n"


def _head(run: Run) -> str:
    """What the whole run has in common."""
    info, properties = run.info, ET.Element("properties")
    named = {"run_id": info.run_id, "runtime": info.runtime, "seed": str(info.seed), "plan": info.plan_digest}
    for name, value in {**named, **{f"version.{key}": value for key, value in environments(run).items()}}.items():
        ET.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    return ET.tostring(properties, encoding="unicode") + "\n"


def _kind(item: Checked) -> str:
    """What a reader of JUnit calls it; "" for a plain pass."""
    if item.status in _FAILURES:
        return "failure"
    if item.status in _ERRORS:
        return "error"
    skipped = item.status in (Status.KNOWN_FAILURE, Status.KNOWN_FLAKY, Status.NOT_JUDGED)
    return "skipped" if skipped or item.result.verdict in view.SILENT else ""


def _case(item: Checked, suite: str, logs: Logs, again: Rerun) -> ET.Element:
    """One cell."""
    result = item.result
    where = {"classname": f"torchskew.{suite}", "name": _clean(result.cell.id), "time": f"{result.seconds:.3f}"}
    case = ET.Element("testcase", where)
    kind = _kind(item)
    if kind == "skipped":  # Ant's schema knows no type of what was skipped
        ET.SubElement(case, kind, {"message": _clean(_message(item))})
    elif kind:
        end = ET.SubElement(case, kind, {"type": str(item.status), "message": _clean(_message(item))})
        end.text = _clean(_story(item, logs, again))
    return case


def _message(item: Checked) -> str:
    """One line: why it is skipped, or what came instead of what was expected."""
    result, entry = item.result, item.expectation
    if item.status is Status.KNOWN_FAILURE and entry:
        return f"known failure: {entry.reason}{f' ({entry.link})' if entry.link else ''}"
    if item.status is Status.KNOWN_FLAKY and entry:
        return f"known to flake until {entry.until}: {entry.reason}. This time: {result.reason}"
    if _kind(item) == "skipped":
        return f"{result.verdict.lower()}: {result.reason}"
    return f"expected {view.expected_words(item)}, got {result.verdict} ({view.words(result)}): {result.reason}"


def _story(item: Checked, logs: Logs, again: Rerun) -> str:
    """What a reader needs who sees nothing but this file: each rank, its error, the end of its log."""
    result = item.result
    lines = [result.reason, f"rerun: {again.of_cell(result.cell.id)}"]
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        lines.append(f"rank {facts.rank} {facts.declared} {outcome} in {facts.phase}, {view.seconds(facts.seconds)}")
        if facts.error:
            lines.append(f"{facts.error.type}: {facts.error.text}")
        if tail := logs.tails.get((result.cell.id, facts.rank)):
            lines += [text for text in (tail.stacks, tail.log) if text]
    return "\n".join(lines)


def _facts(item: Checked, logs: Logs, again: Rerun) -> Iterable[str]:
    """The cell, then its facts and those of each rank as `name=value`."""
    result = item.result
    yield str(result.cell.id)
    yield f"verdict={result.verdict}"
    yield f"status={item.status}"
    if result.cell.predicted:
        yield f"predicted={','.join(result.cell.predicted)}"
    yield f"rerun={again.of_cell(result.cell.id)}"
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        rank = f"rank{facts.rank}."
        yield f"{rank}outcome={outcome}"
        for name, value in (("declared", facts.declared), ("torch", facts.torch), ("python", facts.python)):
            if value:
                yield f"{rank}{name}={value}"
        yield f"{rank}phase={facts.phase}"
        yield f"{rank}seconds={facts.seconds:.3f}"
        if facts.signal:
            yield f"{rank}signal={facts.signal}"
        if facts.error:
            yield f"{rank}error={facts.error.type}"
        if log := logs.paths.get((result.cell.id, facts.rank)):
            yield f"{rank}log={log}"


def _problems(run: Run, problems: Sequence[str], number: int) -> str:
    """Faults of the baseline itself: no cell carries them, and they make the run red all the same."""
    text = _open(run, "torchskew.baseline", _counts(["failure"] * len(problems), 0.0), number) + _head(run)
    for count, problem in enumerate(problems, 1):
        where = {"classname": "torchskew.baseline", "name": f"problem {count}", "time": "0.000"}
        case = ET.Element("testcase", where)
        ET.SubElement(case, "failure", {"type": "baseline", "message": _clean(problem)})
        text += ET.tostring(case, encoding="unicode") + "\n"
    return text + _close("")


def _clean(text: str) -> str:
    """Control characters are spelled out, so that the file stays XML whatever a rank printed."""
    return _ILLEGAL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)
