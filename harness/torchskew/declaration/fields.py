"""Typed getters over parsed TOML that remember the whole path of a field and collect every problem."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torchskew.errors import ConfigError

T = TypeVar("T")

_MOST = 10**300  # beyond it, a float has no number
KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}


def join(path: str, key: str) -> str:
    """`versions` and `2.x` give `versions."2.x"`, as TOML would write it."""
    quoted = key if key.replace("_", "").replace("-", "").isalnum() else f'"{key}"'
    return f"{path}.{quoted}" if path else quoted


def last_part(path: str) -> str:
    """The file name of a path."""
    return path.replace("\\", "/").rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The text of a file, with its path for messages."""

    path: str
    text: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return last_part(self.path)


@dataclass(slots=True)
class Problems:
    """Every problem of one file, so that a person fixes them all at once."""

    file: str
    texts: list[str] = field(default_factory=list)

    def add(self, path: str, text: str) -> None:
        """Add a problem of one field."""
        self.texts.append(f"{self.file}: {path} {text}" if path else f"{self.file}: {text}")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file, with its path there."""

    problems: Problems
    path: str
    values: Mapping[str, object]

    def unknown(self, known: Iterable[str]) -> None:
        """Report every unknown key, with the nearest known one."""
        names = list(known)
        for key in self.values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                fix = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(names)}."
                self.problems.add(join(self.path, key), f"is not a field; {fix}")

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The field's value; default when it is absent, or of another type, which is a problem."""
        if key not in self.values:
            return default
        value = self.values[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST:
            value = float(value)
        endless = isinstance(value, float) and not math.isfinite(value)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) and not endless:
            return value
        self.problems.add(join(self.path, key), f"must be {KINDS.get(kind, kind.__name__)}, got {value!r}.")
        return default

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts; one text alone is a list of one."""
        value = self.values.get(key, None)
        if value is None:
            return default
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.problems.add(join(self.path, key), f"must be a list of strings, got {value!r}.")
        return default

    def tables(self, key: str) -> list[tuple[str, Table]]:
        """The sub-tables of a table, by name."""
        value = self.get(key, dict, {})
        out = []
        for name, item in value.items():
            path = join(join(self.path, key), str(name))
            if isinstance(item, dict):
                out.append((str(name), Table(self.problems, path, item)))
            else:
                self.problems.add(path, f'must be a table like {{ pip = "torch==2.6.0" }}, got {item!r}.')
        return out

    def choice(self, key: str, parse: Callable[[str], T], names: Iterable[str], default: T) -> T:
        """A text that must be one of names."""
        if key not in self.values:
            return default
        value = self.values[key]
        known = [str(name) for name in names]
        if isinstance(value, str) and value in known:
            return parse(value)
        text = f"must be one of {', '.join(known)}, got {value!r}.{_nearest(value, known)}"
        self.problems.add(join(self.path, key), text)
        return default

    def choices(
        self, key: str, parse: Callable[[str], T], names: Iterable[str], default: tuple[T, ...]
    ) -> tuple[T, ...]:
        """A list of texts, each one of names; one text alone is a list of one."""
        if key not in self.values:
            return default
        known = [str(name) for name in names]
        texts = self.texts(key, ())
        for text in texts:
            if text not in known:
                problem = f"must hold only {', '.join(known)}, got {text!r}.{_nearest(text, known)}"
                self.problems.add(join(self.path, key), problem)
        return tuple(parse(text) for text in texts if text in known)


def _nearest(value: object, known: list[str]) -> str:
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(value).casefold(), folded, n=1)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def parse(document: Document) -> Mapping[str, object]:
    """The parsed TOML, or a ConfigError that says which line is wrong."""
    try:
        return tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{document.name}: is not valid TOML: {error}. Fix that line.") from None
    except RecursionError:
        raise ConfigError(
            f"{document.name}: nests lists or tables too deeply to be read. Remove some levels."
        ) from None
    except ValueError:  # Python refuses to read such a number
        raise ConfigError(f"{document.name}: holds a number of thousands of digits. Write a smaller one.") from None
