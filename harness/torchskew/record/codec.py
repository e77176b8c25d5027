"""Turns frozen dataclasses into plain JSON values and back, strictly: the one codec of records, plans and facts."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from torchskew.errors import DamagedRecordError
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Json

T = TypeVar("T")
# The field that tells the records of a union apart. A record of a union names its own kind once, for its class:
# `kind: ClassVar[SomeEnum] = SomeEnum.MEMBER`.
KIND = "kind"
# A reader takes a plain value. Where it can't, _MismatchError collects the path on its way up: building paths for
# every value that is right took a third of the time.
_Read = Callable[[Any], Any]


class _MismatchError(Exception):
    """A value that is not what its field holds. path: from the inside out. problem: what is wrong with it."""

    def __init__(self, problem: str, *path: str) -> None:
        super().__init__(problem)
        self.problem, self.path = problem, [*path]


def encode(value: object) -> Json:
    """A record as JSON values; fields that hold their default are left out.

    Raises TypeError for what JSON can't carry: such a value never reaches the record.
    """
    if value is None or value.__class__ in (str, int, float, bool):
        return cast("Json", value)
    if isinstance(value, CellId):
        return str(value)
    if isinstance(value, Enum):
        return cast("Json", value.value)
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return encode_as(type(value), value)
    message = f"{type(value).__name__} can't be recorded"
    raise TypeError(message)


def decode(cls: type[T], value: Json, where: str, *, newer: bool = False) -> T:
    """Build a `cls` from JSON values; DamagedRecordError names the path of what is missing, unknown or mistyped.

    newer: the writer's schema was newer than ours, so fields unknown here are passed over.
    A field that is absent takes its default: fields may be added, and old records stay readable.
    """
    try:
        return cast("T", _reader(cast("Hashable", cls), newer)(value))
    except _MismatchError as error:
        raise DamagedRecordError(f"{where}{''.join(reversed(error.path))} {error.problem}") from None


def encode_as(cls: type[T], value: T) -> dict[str, Json]:
    """The fields of a record that it has as a `cls`: its own class, or one that it extends."""
    own = _kind(cls)
    out: dict[str, Json] = {} if own is None else {KIND: own}
    for name, default in _defaults(cast("Hashable", cls)):
        item = getattr(value, name)
        if item is default or (default is not MISSING and item == default and type(item) is type(default)):
            continue
        out[name] = encode(item)
    return out


def _kind(cls: Any) -> str | None:
    """What tells a record apart from the others of its union; None for a record that belongs to none."""
    kind = getattr(cls, KIND, None)
    return str(kind.value) if isinstance(kind, Enum) else None


@cache
def _defaults(cls: Hashable) -> tuple[tuple[str, object], ...]:
    """Name and default of every field; MISSING where there is none."""
    return tuple((item.name, _default(item)) for item in fields(cast("Any", cls)) if item.init)


def _default(item: Field[Any]) -> object:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


@cache
def _reader(annotation: Hashable, newer: bool) -> _Read:
    """The reader of one annotation, made once: reading 10,000 cells must take a second, not ten."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union(arguments, newer)
    if origin is tuple:
        return _tuple(_reader(arguments[0], newer))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(arguments[0], _reader(arguments[1], newer))
    if is_dataclass(annotation):
        return _record(cast("type", annotation), newer)
    kind = cast("type", annotation)
    if issubclass(kind, CellId):
        return _cell_id
    return _enum(kind) if issubclass(kind, Enum) else _scalar(kind)


def _cell_id(value: Any) -> CellId:
    try:
        return CellId.parse(_scalar(str)(value))
    except ValueError:
        raise _mismatch("a cell's id", value) from None


def _scalar(kind: type) -> _Read:
    if kind is float:
        return _float

    def read(value: Any) -> Any:
        if value.__class__ is not kind:
            raise _mismatch(kind.__name__, value)
        return value

    return read


def _float(value: Any) -> float:
    if value.__class__ is not float and value.__class__ is not int:
        raise _mismatch("float", value)
    return float(value)


def _union(arguments: tuple[Any, ...], newer: bool) -> _Read:
    if any(get_origin(item) in (dict, list) for item in arguments):
        return lambda value: value  # Json, spelled as the union that it is
    records = {kind: item for item in arguments if (kind := _kind(item)) is not None}
    if len(records) > 1:
        return _tagged(records, newer, optional=types.NoneType in arguments)
    read_text = _scalar(str) if str in arguments else None
    others = [_reader(item, newer) for item in arguments if item not in (types.NoneType, str)]
    optional = types.NoneType in arguments

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        if read_text and (value.__class__ is str or not others):
            return read_text(value)
        return others[0](value)

    return read


def _tagged(records: Mapping[str, Any], newer: bool, *, optional: bool) -> _Read:
    """One of several records, told apart by the kind that each of them wrote."""
    readers = {kind: _reader(item, newer) for kind, item in records.items()}

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        kind = value.get(KIND) if value.__class__ is dict else None
        if not isinstance(kind, str) or kind not in readers:
            raise _mismatch(f"one of {', '.join(readers)}", kind, f".{KIND}")
        return readers[kind](value)

    return read


def _tuple(item: _Read) -> _Read:
    def read(value: Any) -> Any:
        if value.__class__ is not list:
            raise _mismatch("list", value)
        items: list[Any] = []
        try:
            for entry in value:
                items.append(item(entry))  # noqa: PERF401 - the length is the index of the entry that is wrong
        except _MismatchError as error:
            error.path.append(f"[{len(items)}]")
            raise
        return tuple(items)

    return read


def _mapping(key: type, item: _Read) -> _Read:
    def read(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _mismatch("mapping", value)
        items, name = {}, ""
        try:
            for name, entry in value.items():
                items[_key(key, name)] = item(entry)
        except _MismatchError as error:
            error.path.append(f'."{name}"')
            raise
        return items

    return read


def _key(kind: type, name: str) -> Any:
    if kind is str:
        return name
    try:
        return kind(name)
    except ValueError:
        raise _mismatch(f"{kind.__name__} as key", name) from None


def _enum(kind: type[Enum]) -> _Read:
    members = {member.value: member for member in kind}

    def read(value: Any) -> Any:
        member = members.get(value) if value.__class__ is str else None
        if member is None:
            raise _mismatch(f"one of {', '.join(members)}", value)
        return member

    return read


def _plain(annotation: Hashable) -> frozenset[type]:
    """The classes whose values a field holds as they are, so that no reader need be asked about most fields."""
    origin = get_origin(annotation)
    kinds = get_args(annotation) if origin in (Union, types.UnionType) else (annotation,)
    return frozenset(kinds) & {bool, float, int, str, types.NoneType}


def _record(cls: type, newer: bool) -> _Read:
    hints = get_type_hints(cls)
    readers = {item.name: _reader(hints[item.name], newer) for item in fields(cls) if item.init}
    plain = {name: _plain(hints[name]) for name in readers}
    required = [name for name, default in _defaults(cls) if default is MISSING]
    own = _kind(cls)

    def read(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _mismatch(cls.__name__, value)
        if own is not None:
            value = _without_kind(value, own)
        known, name = {}, ""
        try:
            for name, item in value.items():
                if name in readers:
                    known[name] = item if item.__class__ in plain[name] else readers[name](item)
        except _MismatchError as error:
            error.path.append(f".{name}")
            raise
        for name in required:
            if name not in known:
                raise _MismatchError("is missing", f".{name}")
        if len(known) < len(value) and not newer:
            raise _MismatchError("is unknown", f".{min(set(value) - set(readers))}")
        return cls(**known)

    return read


def _without_kind(value: dict[str, Any], own: str) -> dict[str, Any]:
    """The fields of a record of a union, once its kind is the right one."""
    if value.get(KIND) != own:
        raise _mismatch(own, value.get(KIND), f".{KIND}")
    return {name: item for name, item in value.items() if name != KIND}


def _mismatch(wanted: str, value: object, *path: str) -> _MismatchError:
    return _MismatchError(f"must be {wanted}, got {value!r:.80}", *path)


def dumps(value: object) -> str:
    """`encode` as one line of JSON, ASCII only: what a rank printed may hold lone surrogates."""
    return to_text(encode(value))


def to_text(value: Json) -> str:
    """Encoded values as one line of JSON."""
    return json.dumps(value, separators=(",", ":"))


def loads(cls: type[T], text: str | bytes, where: str, *, newer: bool = False) -> T:
    """`decode` from text; DamagedRecordError as well where that is not JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DamagedRecordError(f"{where} is not JSON ({error})") from None
    return decode(cls, value, where, newer=newer)
