"""Writes JUnit XML as GitHub's and Jenkins' readers take it: known failures skipped, regressions failed.

Valid by the schema that Jenkins' xUnit plugin checks (junit-10.xsd). That allows properties on a suite only, so
the facts of ranks stand as `name=value` lines in a case's standard output.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
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
    suites: dict[str, list[Checked]] = {}
    for item in decision.checked:
        suites.setdefault(item.result.cell.name, []).append(item)
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        file.write(_open("testsuites", "torchskew", decision.checked, len(decision.problems)))
        for name, items in suites.items():
            file.write(_open("testsuite", f"torchskew.{name}", items, 0, timestamp=run.info.started[:19]))
            file.write(_head(run))
            for item in items:
                file.write(ET.tostring(_case(item, name, written.logs, run.info.rerun), encoding="unicode") + "\n")
            file.write("</testsuite>\n")
        if decision.problems:
            file.write(_problems(decision.problems))
        file.write("</testsuites>\n")


def _open(tag: str, name: str, items: Iterable[Checked], problems: int, **more: str) -> str:
    """The opening tag with its counts; the rest is written case by case."""
    items = [*items]
    kinds = [_kind(item) for item in items]
    counts = {
        "name": name,
        "tests": str(len(items) + problems),
        "failures": str(kinds.count("failure") + problems),
        "errors": str(kinds.count("error")),
    }
    if tag == "testsuite":
        counts["skipped"] = str(kinds.count("skipped"))
    counts["time"] = f"{sum(item.result.seconds for item in items):.3f}"
    text = ET.tostring(ET.Element(tag, counts | more), encoding="unicode")
    return text.removesuffix(" />") + ">\n"


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
    if kind := _kind(item):
        said = ET.SubElement(case, kind, {"type": str(item.status), "message": _clean(_message(item))})
        if kind != "skipped":
            said.text = _clean(_story(item, logs, again))
    lines = (f"{name}={value}" for name, value in _facts(item, logs, again))
    ET.SubElement(case, "system-out").text = _clean("\n".join(lines))
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
    """What somebody needs who sees nothing but this file: each rank, its error, the end of its log."""
    result = item.result
    lines = [result.reason, f"rerun: {again.of_cell(result.cell.id)}"]
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        lines.append(f"rank {facts.rank} {facts.declared} {outcome} in {facts.phase}, {view.seconds(facts.seconds)}")
        if facts.error:
            lines.append(f"{facts.error.type}: {facts.error.text}")
        if tail := logs.tails.get((result.cell.id, facts.rank)):
            lines += [text for text in (tail.stacks, tail.log) if text]
    return "\n".join(lines)


def _facts(item: Checked, logs: Logs, again: Rerun) -> Iterable[tuple[str, str]]:
    """Facts by name, rank by rank; readers show them beside the case."""
    result = item.result
    yield "verdict", result.verdict
    yield "status", item.status
    if result.cell.predicted:
        yield "predicted", ",".join(result.cell.predicted)
    yield "rerun", str(again.of_cell(result.cell.id))
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        named = {"outcome": outcome, "declared": facts.declared, "torch": facts.torch, "python": facts.python}
        named |= {"phase": facts.phase, "seconds": f"{facts.seconds:.3f}", "signal": facts.signal}
        named |= {"error": facts.error.type if facts.error else None}
        named |= {"log": logs.paths.get((result.cell.id, facts.rank))}
        yield from ((f"rank{facts.rank}.{name}", value) for name, value in named.items() if value)


def _problems(problems: tuple[str, ...]) -> str:
    """Faults of the baseline itself: no cell carries them, and they make the run red all the same."""
    count = str(len(problems))
    suite = ET.Element("testsuite", {"name": "torchskew.baseline", "tests": count, "failures": count, "errors": "0"})
    for number, problem in enumerate(problems, 1):
        case = ET.SubElement(suite, "testcase", {"classname": "torchskew.baseline", "name": f"problem {number}"})
        ET.SubElement(case, "failure", {"type": "baseline", "message": _clean(problem)})
    return ET.tostring(suite, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Control characters are spelled out, so that the file stays XML whatever a rank printed."""
    return _ILLEGAL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
