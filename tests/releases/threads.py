"""Reads the public threads, asks explain about each, and counts what is right: `python -m tests.releases.threads`."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from torchskew.releases.breaks import Catalogue, catalogue_from
from torchskew.releases.diagnosis import Diagnosis, Fault, Fit, Line, Material, diagnose
from torchskew.report.catalogue import catalogue

FILE = Path(__file__).with_name("threads.toml")
SHOWN = 100


class Group(StrEnum):
    """When a thread was used; threads.toml says more."""

    SEEN = "seen"
    HELD_OUT = "held out"
    LATER = "later"
    LAST = "last"
    FRESH = "fresh"
    UNSEEN = "unseen"
    SIXTH = "sixth"
    FIRST_SHOT = "first shot"
    SECOND_SHOT = "second shot"
    THIRD_SHOT = "third shot"
    TAUGHT = "taught"
    TESTED = "tested"
    TESTED_AGAIN = "tested again"


class About(StrEnum):
    """What a thread says the cause was."""

    VERSIONS = "versions"
    OTHER = "other"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread. answer: entries that are right. decides: its lines and releases can show the cause."""

    link: str
    group: Group
    about: About
    cause: str
    answer: tuple[str, ...]
    decides: bool
    lines: tuple[str, ...]
    releases: tuple[str, ...]

    @property
    def material(self) -> Material:
        """What explain gets to read."""
        first, second = self.releases or ("", "")
        return Material(lines=tuple(Line(text=text) for text in self.lines), first=first, second=second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A thread with explain's answer. said: the entry that the answer names, or nothing."""

    thread: Thread
    fault: Fault
    said: str

    @property
    def false_blame(self) -> bool:
        """Versions are blamed for what was not about versions."""
        return self.fault is Fault.RELEASES and self.thread.about is not About.VERSIONS

    @property
    def right(self) -> bool:
        """What threads.toml defines as right."""
        if self.fault in (Fault.OPEN, Fault.UNKNOWN):
            return not self.thread.decides
        return self.said in self.thread.answer and not self.false_blame


def threads() -> tuple[Thread, ...]:
    """Every thread of the file."""
    return tuple(_thread(each) for each in tomllib.loads(FILE.read_text(encoding="utf-8"))["thread"])


def judge(thread: Thread, entries: Catalogue) -> Judged:
    """Ask explain about a thread's lines."""
    diagnosis = diagnose(thread.material, entries)
    return Judged(thread=thread, fault=diagnosis.fault, said=_said(diagnosis))


def figures(entries: Catalogue) -> tuple[str, ...]:
    """A line for each group."""
    judged = [judge(each, entries) for each in threads()]
    groups = [(group, [each for each in judged if each.thread.group is group]) for group in Group]
    return tuple(_figure(group, own) for group, own in groups if own)


def table(entries: Catalogue) -> str:
    """Every thread in a row of Markdown, by group."""
    judged = [judge(each, entries) for each in threads()]
    groups = [(group, [each for each in judged if each.thread.group is group]) for group in Group]
    parts = [_part(group, own) for group, own in groups if own]
    return "\n\n".join(parts) + "\n"


def _part(group: Group, judged: Sequence[Judged]) -> str:
    head = [f"### {group.capitalize()}", "", "| thread | error line | cause | explain |", "|---|---|---|---|"]
    return "\n".join([*head, *map(_row, judged)])


def _row(each: Judged) -> str:
    name = each.thread.link.removeprefix("https://github.com/").replace("/issues/", " ").replace("/pull/", " ")
    line = each.thread.lines[-1].replace("|", "\\|").replace("`", "'")
    line = line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
    wrong = "" if each.right else ", wrong"
    return f"| [{name}]({each.thread.link}) | `{line}` | {each.thread.cause} | {each.said or each.fault}{wrong} |"


def _figure(group: Group, judged: Sequence[Judged]) -> str:
    right = sum(each.right for each in judged)
    blamed = sum(each.false_blame for each in judged)
    return f"{group}: {right} of {len(judged)} right ({right / len(judged):.0%}), {blamed} false blame"


def _said(diagnosis: Diagnosis) -> str:
    """The entry that the answer's sentence names."""
    match diagnosis.fault:
        case Fault.RELEASES:
            return diagnosis.matches[0].entry.id
        case Fault.OTHER if diagnosis.others and not (diagnosis.matches and diagnosis.matches[0].fit is Fit.CERTAIN):
            return diagnosis.others[0].cause.id
        case Fault.OTHER:
            return diagnosis.matches[0].entry.id
        case _:
            return ""


def _thread(data: dict[str, Any]) -> Thread:
    return Thread(
        link=data["link"],
        group=Group(data["group"]),
        about=About(data["about"]),
        cause=data["cause"],
        answer=tuple(data["answer"]),
        decides=data["decides"],
        lines=tuple(data["lines"]),
        releases=tuple(data.get("releases", ())),
    )


if __name__ == "__main__":
    other = [catalogue_from(json.loads(Path(each).read_text(encoding="utf-8"))) for each in sys.argv[1:2]]
    sys.stdout.write("\n".join(figures(other[0] if other else catalogue())) + "\n")
