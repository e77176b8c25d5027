"""Command lines that a tired person, a shell or a script gets wrong: each is a valid run, or a text that says why.

Nothing is started: `matrix`, `gate`, `check` and `rehearse` only plan, the others only read. What would provision,
serve or change an environment (`suite`, `bridge`, `clean`, `survey --measure`, `guard --into`) is left out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from torchskew.cli import make_parser

from tests.chaos.declarations import BASELINE, BESIDE, right
from tests.chaos.toml_text import to_toml
from tests.chaos.trials import Said, Trial, ran

PLANS = ("matrix", "gate", "check", "rehearse")
LINES: Sequence[Sequence[str]] = (
    ("matrix", "--versions", "2.1", "2.6", "--only", "rendezvous_tcp/*", "--guard", "on", "-j", "4", "--seed", "3"),
    ("matrix", "--pairs", "boundary", "--world-size", "2", "3", "--timeout", "5", "--shard", "1/2", "--resume"),
    ("gate", "--candidate", "pip:torch==2.15.0", "--against", "2.1,2.6", "--tier", "smoke", "--repeat", "2"),
    ("gate", "--base", "pip:torch==2.14.1", "--against-last", "2", "--torch", "2.15.0", "--baseline", "baseline.toml"),
    ("check", "unit", "--tag", "default", "--versions", "2.1", "--exclude-newer", "2026-01-01", "--stop-on-fail"),
    ("check", "unit", "--shard", "1/1", "--", "-x", "-k", "store"),
    ("rehearse", "--from", "2.1", "--to", "2.6", "--nodes", "4", "--strategy", "rolling", "--faults", "kill,pause"),
    ("rehearse", "--seeds", "3", "--faults", "random", "--rollback", "all", "--save-plan", "plan.json"),
    ("report", "latest", "--out", "out", "--color", "never"), ("diff", "2026", "latest"), ("flakes", "out"),
    ("merge", "part1", "part2", "--out", "out"), ("boundary", "latest"), ("scenarios", "ddp"),
    ("explain", "Connection reset by peer"), ("advise", "--from", "2.2.2", "--to", "2.15.0"),
    ("init", "2.6.0", "2.13.0", "--print"), ("survey", "--facts", "facts.json", "--write", "page.md"),
    ("probe", "127.0.0.1:1", "--json"), ("images",), ("guard", "--print"),
)  # fmt: skip
VALUES: Sequence[str] = (
    "", " ", "-", "--", "---", "-x", "*", "[", "[!", "**/", "\\", "\n", "\udcff", "ü", "x" * 5000, "0", "-1", "1e9",
    "nan", "inf", "1/0", "0/1", "2/1", "1/1/1", "9" * 5000, "1e400", "2.1", "2.1,", ",", "2.1,2.1", "pip:",
    "pip:torch", "wheel:x.whl", "interpreter:", "interpreter:/nowhere/python", "image:", "1.x", "2.6.0.dev1+cpu",
    "latest", "no.toml", "torchskew.toml", "/dev/null", "/dev/null/x", "/proc/nowhere/x", "..", ".", "~nobody/x",
    "%s", "{}", "$HOME", "true", "None", "docker", "2026-13-01", "2026-01-01T00:00:00+99:00", "--help", "@file", "=",
    "--=", "out/../out", "127.0.0.1:99999", ":", "[::1]:1", "kill", "kill+pause", "all", "last", "1,2", "group:0",
    "random", "dcp", "plain",
)  # fmt: skip
# Options that do more than plan or read, in any abbreviation.
NEVER: Mapping[str, tuple[str, ...]] = {"survey": ("--me", "--m"), "guard": ("--i", "--r"), "images": ("--l",)}
TARGETS = (
    "127.0.0.1:1",
    "127.0.0.1:99999",
    "",
    ":",
    "x",
    "127.0.0.1",
    "127.0.0.1:",
    ":1",
    "[::1]:1",
    "127.0.0.1:a",
    "--json",
)


@cache
def options_of(command: str) -> tuple[str, ...]:
    """The options that a command's parser knows."""
    parser = make_parser()
    [commands] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return tuple(name for action in commands.choices[command]._actions for name in action.option_strings)


def mutated(chance: random.Random, words: list[str]) -> set[str]:
    """Change one thing behind the command's name; returns what is new or gone."""
    at = chance.randrange(1, len(words) + 1)
    old, value = words[at : at + 1], chance.choice(VALUES)
    match chance.randrange(6):
        case 0:
            words[at : at + 1] = [value]
        case 1:
            words[at : at + 1] = []
        case 2:
            words[at:at] = [chance.choice(options_of(words[0])), value]
            return {words[at], value}
        case 3:
            words[at:at] = [chance.choice(options_of(words[0]))]
            return {words[at]}
        case 4 if old and old[0]:
            place = chance.randrange(len(old[0]))
            words[at] = old[0][:place] + chance.choice(("", "x", "-", "=", "0")) + old[0][place + 1 :]
        case _:
            other = chance.randrange(1, len(words) + 1)
            words[at : at + 1] = [*words[other : other + 1], value]
    return {*old, *words[at : at + 2], value}


def harmless(chance: random.Random, words: list[str]) -> list[str]:
    """The line without what would do more than plan or read."""
    command = words[0]
    if command == "probe":  # no other host is asked
        return [command, *(word if word in TARGETS else chance.choice(TARGETS) for word in words[1:])]
    kept = [word for word in words[1:] if not word.startswith(NEVER.get(command, ("\0",)))]
    return [command, *(["--dry-run"] if command in PLANS else []), *kept]


def trial(seed: int, folder: Path) -> Trial:
    """One command line out of a seed, in a folder with a right declaration. The folder is the current one."""
    chance = random.Random(f"command line {seed}")
    words = list(chance.choice(LINES))
    touched: set[str] = set()
    for _ in range(chance.choice((1, 1, 2, 3))):
        touched |= mutated(chance, words)
    words = harmless(chance, words)
    tree = right()
    beside = {name: tree.pop(name) for name in BASELINE}
    texts = {"torchskew.toml": to_toml(tree).encode(), "expectations.toml": to_toml(beside).encode(), **BESIDE}
    for name, data in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    said = ran(words)
    shown = " ".join(word if len(word) < 40 else f"{word[:40]}…" for word in words)
    return Trial(done=f"seed {seed}: torchskew {shown!a}", wrong=wrong_with(said, words, touched), said=said.err)


def wrong_with(said: Said, words: Sequence[str], touched: set[str]) -> str:
    """What is wrong with the answer to a command line; empty: nothing."""
    text = said.err.strip() or said.out.strip()
    lacking = ("no Docker engine answers", "there is no record")  # --resume reads it in a dry run as well
    if said.broken:
        return said.broken
    named = "required" in text or any(not word.strip() for word in words) or _names(text, {*words[1:], *touched})
    right = {
        0: True,
        1: bool(text) and (words[0] not in PLANS or any(each in text for each in lacking)),
        4: bool(text) and named,
        5: bool(text),
    }
    return "" if right.get(said.code) else f"exit {said.code}, and this text names nothing of the line: {text[:300]}"


def _names(text: str, words: set[str]) -> bool:
    """Whether a text repeats a word, or a part of one that the harness takes apart."""
    parts = {part for word in words for part in (word, word.lstrip("-"), *word.split(","), *word.split("="))}
    return any(part and (part in text or repr(part)[1:-1] in text or part[:100] in text) for part in parts)
