"""Shows that each line of the contract in docs/guard.md is held: its test goes red when the rule is broken.

broken.toml has one edit of the guard for each line. It is made in a copy of the tree, never in the tree itself, and
the test that the line names runs there. A line is red where a case of the test fails that passes without the edit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "guard.md"
EDITS = Path(__file__).with_name("broken.toml")
GUARD = Path("harness") / "torchskew" / "guard"
COPIED = ("harness", "tests", "scenarios", "images", "pyproject.toml", "torchskew.toml")
_ROW = re.compile(r"\| (?P<rule>.*) \| `(?P<file>test_\w+\.py)`: `(?P<test>test_\w+)` \|")
# Seconds for a test with a rule broken, and those after which it gives up what never comes: many such tests get there.
LIMIT, PATIENCE = 400.0, "60"
RED, GREEN, STALE, OPEN = "red", "STILL GREEN", "edit no longer applies", "not shown"


class Row(NamedTuple):
    """A line of the contract: what it says, and the test that holds it."""

    rule: str
    file: str
    test: str

    @property
    def node(self) -> str:
        """The test as pytest names it."""
        return f"tests/guard/{self.file}::{self.test}"


class Edit(NamedTuple):
    """What breaks one rule, as broken.toml describes it."""

    rule: str
    file: str
    text: str
    instead: str
    case: str = ""


class Ran(NamedTuple):
    """What became of a test: its cases that passed, what each other one says, and whether it had to be ended."""

    passed: frozenset[str]
    failed: dict[str, str]
    skipped: dict[str, str]
    seconds: float
    endless: bool


def contract() -> list[Row]:
    """The lines of the contract; ValueError where one does not name its test."""
    table = PAGE.read_text(encoding="utf-8").partition("## The contract")[2].partition("\n\n|")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("|") and not line.startswith("|-")]
    rows = [_ROW.fullmatch(line) for line in lines]
    if None in rows:
        raise ValueError(f"no test is named by: {lines[rows.index(None)]}")
    return [Row(**match.groupdict()) for match in rows if match]


def edits() -> dict[str, Edit]:
    """Each edit by the rule that it breaks."""
    listed = tomllib.loads(EDITS.read_text(encoding="utf-8"))["broken"]
    return {each["rule"]: Edit(**each) for each in listed}


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the tests need, without bytecode."""
    with tempfile.TemporaryDirectory(prefix="skew") as folder:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        yield Path(folder)


def ran(tree: Path, arguments: list[str], limit: float, **settings: str) -> Ran:
    """Run pytest in a tree, for this many seconds at most."""
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    paths = os.pathsep.join([str(tree / "harness"), str(tree)])
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **settings}
    process = subprocess.Popen(command, cwd=tree, env=env, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that the test takes down what it made, such as networks
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30.0)
        return Ran(frozenset(), {}, {}, limit, endless=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _read(report)


def _read(report: Path) -> Ran:
    """The results in pytest's report; an error outside of the tests themselves is none of them."""
    passed, failed, skipped, seconds = set(), {}, {}, 0.0
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        name, seconds = case.get("name", ""), seconds + float(case.get("time", "0"))
        failure, left_out = case.find("failure"), case.find("skipped")
        if failure is not None:
            failed[name] = failure.get("message", "").strip()
        elif left_out is not None:
            skipped[name] = left_out.get("message", "")
        elif case.find("error") is None:
            passed.add(name)
    return Ran(frozenset(passed), failed, skipped, seconds, endless=False)


def unbroken(rows: list[Row]) -> dict[str, Ran]:
    """What becomes of each row's test without an edit, by its name."""
    with copied() as tree:
        whole = ran(tree, [row.node for row in rows], 3600.0)
    found = {}
    for row in rows:
        own = re.compile(rf"{row.test}(\[.*)?$", re.DOTALL)
        passed = frozenset(filter(own.match, whole.passed))
        failed, skipped = ({name: why for name, why in each.items() if own.match(name)}
                           for each in (whole.failed, whole.skipped))  # fmt: skip
        found[row.test] = Ran(passed, failed, skipped, whole.seconds, whole.endless)
    return found


def apply(edit: Edit, tree: Path) -> str:
    """Make the edit in a tree, and the guard's one file from it; why that is not possible, "" where it is done."""
    path = tree / GUARD / edit.file
    text = path.read_text(encoding="utf-8")
    if text.count(edit.text) != 1:
        return f"{edit.file} has its text {text.count(edit.text)} times"
    path.write_text(text.replace(edit.text, edit.instead), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tree / "harness"), "PYTHONDONTWRITEBYTECODE": "1"}
    made = subprocess.run([sys.executable, "-m", "torchskew.guard.generate"], cwd=tree, env=env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    return made.stderr.strip().splitlines()[-1] if made.returncode else ""


def verdict(row: Row, edit: Edit | None, before: Ran) -> tuple[str, str]:
    """What the test of a row does with its rule broken, and why."""
    if edit is None:
        return OPEN, "broken.toml has no edit"
    if not before.passed or before.failed:
        why = next(iter([*before.failed.values(), *before.skipped.values()]), "it did not run")
        return OPEN, f"without an edit: {_line(why)}"
    with copied() as tree:
        stale = apply(edit, tree)
        if stale:
            return STALE, _line(stale)
        chosen = ["-x", row.node, *(["-k", edit.case] if edit.case else [])]
        return _judged(before, ran(tree, chosen, LIMIT, TORCHSKEW_TEST_PATIENCE=PATIENCE))


def _judged(before: Ran, result: Ran) -> tuple[str, str]:
    """What a run with an edit shows: only a case that passed before can turn red."""
    failed = [why for name, why in result.failed.items() if name in before.passed]
    if failed:
        return RED, _line(failed[0])
    if result.endless:
        return OPEN, f"it has not ended after {result.seconds:.0f} s"
    return (GREEN, "") if result.passed else (OPEN, "no case of it ran")


def _line(text: str) -> str:
    """The first line of a message, short enough for a list."""
    return (text.splitlines() or [""])[0][:160]


def main() -> int:
    """Print one line for each rule; 1 unless all are red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="rules or tests with any of these")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first rule that is not red")
    options = parser.parse_args()
    rows = [row for row in contract() if any(words in f"{row.rule} {row.node}" for words in options.only)]
    listed, before, others = edits(), unbroken(rows), 0
    for row in rows:
        found, why = verdict(row, listed.get(row.rule), before[row.test])
        others += found != RED
        sys.stdout.write(f"{found}: {row.rule} ({row.test}){': ' if why else ''}{why}\n")
        sys.stdout.flush()
        if others and not options.keep_going:
            break
    return int(others > 0 or not rows)


if __name__ == "__main__":
    sys.exit(main())
