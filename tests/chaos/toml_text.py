"""Writes a tree as TOML, inline below the first level, wrong values included."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping


def to_toml(tree: Mapping[str, object]) -> str:
    """A document with a table for each key of the tree."""
    lines: list[str] = []
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            lines += [f"[{key(name)}]", *(f"{key(each)} = {text(inner)}" for each, inner in value.items()), ""]
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for table in value:
                lines += [f"[[{key(name)}]]", *(f"{key(each)} = {text(inner)}" for each, inner in table.items()), ""]
        else:
            lines.insert(0, f"{key(name)} = {text(value)}")
    return "\n".join(lines) + "\n"


def key(name: str) -> str:
    """A key as TOML wants it."""
    return json.dumps(name, ensure_ascii=False)


def text(value: object) -> str:
    """A value on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key(name)} = {text(inner)}" for name, inner in value.items()) + " }"
    return _scalar(value)


def _scalar(value: object) -> str:
    match value:
        case bool():
            written = str(value).lower()
        case str():
            written = json.dumps(value, ensure_ascii=False)
        case int() if value > 1 << 64:  # Python does not print or read more than 4,300 decimal digits
            written = hex(value)
        case dt.date() | dt.time():
            written = value.isoformat()
        case _:
            written = str(value)
    return written
