"""Declarations that nobody would write: each is a valid plan, or an error that names the field.

The fields are those that the readers in torchskew.declaration know, so a new field is tried as soon as it is read.
"""

from __future__ import annotations

import copy
import datetime as dt
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchskew.declaration import baseline, checks, declare, gate, rehearsal

from tests.chaos.toml_text import to_toml
from tests.chaos.trials import Said, Trial, ran

Tree = dict[str, Any]
PLENTY = 1 << 16
FIELDS: Mapping[str, Sequence[str]] = {
    "versions": declare.VERSION_FIELDS,
    "matrix": declare.MATRIX_FIELDS,
    "gate": gate._FIELDS,
    "rehearsal": rehearsal.FIELDS,
    "checks": checks._FIELDS,
    "ranks": ("pythonpath", "warm", "data"),
    "scenarios": ("path",),
    "expect": baseline.EXPECT_FIELDS,
    "flaky": baseline.FLAKY_FIELDS,
}
# Which command reads a table, and with it [versions].
READERS: Mapping[str, Sequence[str]] = {
    "gate": ["gate"], "rehearsal": ["rehearse"], "checks": ["check"], "matrix": ["matrix"],
    "ranks": ["matrix"], "scenarios": ["matrix"], "expect": ["matrix"], "flaky": ["matrix"],
    "versions": ["matrix", "gate", "rehearse", "check"],
}  # fmt: skip
BASELINE = ("expect", "flaky")
COMMANDS = ("matrix", "gate", "rehearse", "check")
# Files that the right declaration names.
BESIDE: Mapping[str, bytes] = {"baseline.toml": b"", "src/a.py": b""}


def right() -> Tree:
    """A declaration and its baseline, with a value in nearly every field; a list of tables is in the baseline."""
    return {
        "versions": {
            "2.1": {"pip": "torch==2.1.2", "requires": ["numpy<2"], "env": {"A": "1"}, "torch": "2.1.2"},
            "2.6": {"pip": "torch==2.6.0", "python": "3.11", "index": "https://index.invalid/simple"},
            "wheel": {"wheel": "dist/torch-2.16.0-cp311-cp311-linux_x86_64.whl", "reports": "2.16.0"},
            "here": {"interpreter": "/opt/venv/bin/python", "torch": "2.13.0"},
        },
        "matrix": {
            "runtime": "venv", "versions": ["2.1", "2.6", "wheel", "here"], "pairs": "all", "world_sizes": [2, 3],
            "worlds": [["2.1", "2.6", "2.1"]], "scenarios": ["rendezvous_tcp", "torch_save"], "guard": ["off", "on"],
            "timeout": 5.0, "venv": {"timeout": 6}, "docker": {"versions": ["2.6"]},
        },
        "gate": {
            "candidate": "pip:torch==2.15.0", "against": ["2.1", "2.6"], "baseline": "baseline.toml", "tier": "smoke",
            "runtime": "venv", "requires": ["numpy"], "slower": "5 %", "larger": "10 %",
        },
        "rehearsal": {
            "from": "2.1", "to": "2.6", "runtime": "venv", "nodes": 4, "strategy": ["rolling", "group:2"],
            "policy": "auto", "faults": ["kill"], "steps": 40, "every": 5, "seed": 1, "seeds": 1, "rollback": "last",
            "timeout": 5.0, "pace": 0.03, "checkpoint": ["plain"], "clock_skew": 0.0,
        },
        "checks": {
            "tags": ["nightly"],
            "unit": {
                "command": ["{python}", "-c", "pass"], "requires": ["pytest"], "run_on": ["default", "nightly"],
                "on_versions": ">=2.1", "timeout": 60, "memory": "1 GB", "processes": 64, "network": False,
                "pre_commands": ["true"], "stop_on_fail": False, "inputs": ["src/**/*.py"], "env": {"B": "2"},
            },
        },
        "ranks": {"pythonpath": ["."], "warm": ["json"], "data": ["."]},
        "expect": [{"cells": ["rendezvous_tcp/2.1,2.6/*"], "verdict": "FAIL", "reason": "known", "until": "2.17"}],
        "flaky": [{"cells": "torch_save/*", "reason": "a lottery", "until": dt.date(2099, 1, 1)}],
    }  # fmt: skip


VALUES: Sequence[object] = (
    "", " ", "\0", "\u202e", "no\nlines", "ü" * 40, "x" * PLENTY, "*", "[", "../..", "/", "~", "{", "{nope}", "%s",
    "torch", "torch==", "torch>=2,<1", "torch @ file:///nowhere", "numpy==1; python_version<'3'", "-e .", "-e", "pip:",
    "interpreter:", "0", "-1", "1e999", "2.6.0", "2.1", "group:0", "group:99999999999", "all", "true", "1,3", "5 %",
    "99999999999999999999 %", "9" * 5000, "9 GB", ">=2.1", "1/0", "2099-01-01", "off", "FAIL", "\u0661", "\xb2",
    True, False, 0, 1, -1, 2, 3, 64, 65, 1 << 31, 1 << 64, 10**400, 0.0, -0.5, 1e-300, 1e308, float("inf"),
    float("-inf"), float("nan"), dt.date(1, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(1, 2),
    [], [[]], [""], [0], [True], [{}], [["2.1"]], [["2.1", 2]], ["2.1", 2], ["2.6"] * 300, [["2.1", "2.6"]] * 40,
    [1.5], {}, {"": {}}, {"a": {"b": {"c": 1}}}, {"pip": "torch==2.6.0"}, {"x": [1, {"y": "z"}]},
)  # fmt: skip


@dataclass(slots=True)
class Mutant:
    """A changed declaration. touched: the names of what was changed; tables: those that hold it."""

    tree: Tree
    touched: set[str] = field(default_factory=set)
    tables: list[str] = field(default_factory=list)

    def note(self, path: Sequence[str | int]) -> None:
        self.touched.update([part for part in path if isinstance(part, str)][-2:])
        self.touched |= {"run_on"} if "tags" in path else set()  # a tag is wrong where a check names it
        self.tables.append(str(path[0]))


def places(tree: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything in a tree."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in inside:
        yield (*path, name)
        yield from places(value, (*path, name))


def holder(tree: Tree, path: Sequence[str | int]) -> Any:
    """The table or list that holds the last part of a path."""
    inside: Any = tree
    for part in path[:-1]:
        inside = inside[part]
    return inside


def mutate(chance: random.Random, mutant: Mutant) -> None:
    """Change one thing somewhere."""
    path = chance.choice(list(places(mutant.tree)))
    inside, last = holder(mutant.tree, path), path[-1]
    mutant.note(path)
    match chance.randrange(7):
        case 0 | 1:
            inside[last] = copy.deepcopy(chance.choice(VALUES))
        case 2:
            del inside[last]
        case 3:
            other = chance.choice(list(places(mutant.tree)))
            inside[last] = copy.deepcopy(holder(mutant.tree, other)[other[-1]])
        case 4:
            inside[last] = [inside[last]] * chance.choice((1, 2, 9))
        case 5 if isinstance(inside, dict):
            name = chance.choice((str(last)[:-1], f"{last}s", str(last).upper(), "", "a.b", "é", "x" * 300))
            inside[name] = inside.pop(last)
            mutant.touched.add(name)
        case _:
            _give_a_field(chance, mutant, path)


def _give_a_field(chance: random.Random, mutant: Mutant, path: Sequence[str | int]) -> None:
    """Some field that a reader knows, with any value at all, in the table or beside where it belongs."""
    name = chance.choice(FIELDS.get(str(path[0]), FIELDS["matrix"]))
    value = copy.deepcopy(chance.choice(VALUES))
    tables = [each for each in (path[:2], path[:1]) if isinstance(_at(mutant.tree, each), dict)]
    if tables:
        _at(mutant.tree, tables[0])[name] = value
        mutant.note((*tables[0], name))


def _at(tree: Tree, path: Sequence[str | int]) -> Any:
    inside: Any = tree
    for part in path:
        if not isinstance(inside, dict | list) or (isinstance(inside, dict) and part not in inside):
            return None
        inside = inside[part]  # type: ignore[index]
    return inside


def garbled(chance: random.Random, text: str) -> bytes:
    """The text with one wound of the kind that editors, copies and merges leave."""
    data, at = text.encode("utf-8", "replace"), chance.randrange(len(text) + 1)
    nested = b"\nx = " + b"[" * 20000 + b"]" * 20000
    return chance.choice((
        data[:at], data[:at] + data[at + 1 :], data[:at] + bytes([chance.randrange(256)]) + data[at:],
        b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r"), data + data,
        data.decode("utf-8", "replace").encode("utf-16"), data + nested, data + b"\nx = " + b"9" * 9000, b"",
        data + b"\n<<<<<<< HEAD\n", data[at:] + data[:at], data + b"\nx." + b"y." * 3000 + b"z = 1\n",
    ))  # fmt: skip


def trial(seed: int, folder: Path) -> Trial:
    """One declaration out of a seed, read by a dry run of one command that reads what was changed."""
    chance = random.Random(f"declaration {seed}")
    mutant = Mutant(right())
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        mutate(chance, mutant)
    baseline_part = {name: mutant.tree.pop(name) for name in BASELINE if name in mutant.tree}
    texts = {"torchskew.toml": to_toml(mutant.tree), "expectations.toml": to_toml(baseline_part)}
    data = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    if wounded := chance.random() < 0.1:
        name = chance.choice(list(texts))
        data[name] = garbled(chance, texts[name])
        mutant.touched.add(name)
        mutant.tables.append("expect" if name == "expectations.toml" else "versions")
    for name, content in {**data, **BESIDE}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    command = chance.choice(READERS.get(mutant.tables[-1], COMMANDS))
    said = ran([command, "--dry-run", "-f", str(folder / "torchskew.toml")])
    done = f"seed {seed}: {'garbled' if wounded else 'changed'} {', '.join(sorted(mutant.touched))[:120]}; {command}"
    return Trial(done=done, wrong=wrong_with(said, mutant.touched), said=said.err)


def wrong_with(said: Said, touched: set[str]) -> str:
    """What is wrong with the answer to a declaration; empty: nothing."""
    if said.broken:
        return said.broken
    match said.code:
        case 0:
            return "" if said.out.strip() else "exit 0 without a plan"
        case 1:  # a declaration may ask for an engine that this machine lacks
            return "" if "no Docker engine answers" in said.err else f"exit 1: {said.err[-200:]}"
        case 5:
            return "" if said.err.strip() else "exit 5 without a reason"
        case 4:
            said_names = said.err.replace("-", "_")
            named = any(name.removesuffix("s").replace("-", "_") in said_names for name in touched if name)
            return "" if named or "" in touched else f"names none of {sorted(touched)}: {said.err[:300]}"
    return f"exit code {said.code}"
