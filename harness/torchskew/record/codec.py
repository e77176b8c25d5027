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
# A reader takes a plain value and the path of its field.
_Read = Callable[[Any, str], Any]


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
        return _encode_record(value)
    message = f"{type(value).__name__} can't be recorded"
    raise TypeError(message)


def decode(cls: type[T], value: Json, where: str, *, newer: bool = False) -> T:
    """Build a `cls` from JSON values; DamagedRecordError names the path of what is missing, unknown or mistyped.

    newer: the writer's schema was newer than ours, so fields unknown here are passed over.
    A field that is absent takes its default: fields may be added, and old records stay readable.
    """
    return cast("T", _reader(cast("Hashable", cls), newer)(value, where))


def _encode_record(value: object) -> Json:
    own = _kind(type(value))
    out: dict[str, Json] = {} if own is None else {KIND: own}
    for name, default in _defaults(cast("Hashable", type(value))):
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
    return tuple((item.name, _default(item)) for item in fields(cast("Any", cls)))


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


def _cell_id(value: Any, where: str) -> CellId:
    try:
        return CellId.parse(_scalar(str)(value, where))
    except ValueError as error:
        raise DamagedRecordError(f"{where}: {error}") from None


def _scalar(kind: type) -> _Read:
    accepted = (int, float) if kind is float else (kind,)

    def read(value: Any, where: str) -> Any:
        if value.__class__ not in accepted:
            raise _mismatch(where, kind.__name__, value)
        return kind(value)

    return read


def _union(arguments: tuple[Any, ...], newer: bool) -> _Read:
    if any(get_origin(item) in (dict, list) for item in arguments):
        return lambda value, _: value  # Json, spelled as the union that it is
    records = {kind: item for item in arguments if (kind := _kind(item)) is not None}
    if len(records) > 1:
        return _tagged(records, newer, optional=types.NoneType in arguments)
    read_text = _scalar(str) if str in arguments else None
    others = [_reader(item, newer) for item in arguments if item not in (types.NoneType, str)]

    def read(value: Any, where: str) -> Any:
        if value is None and types.NoneType in arguments:
            return None
        if read_text and (value.__class__ is str or not others):
            return read_text(value, where)
        return others[0](value, where)

    return read


def _tagged(records: Mapping[str, Any], newer: bool, *, optional: bool) -> _Read:
    """One of several records, told apart by the kind that each of them wrote."""
    readers = {kind: _reader(item, newer) for kind, item in records.items()}

    def read(value: Any, where: str) -> Any:
        if value is None and optional:
            return None
        kind = value.get(KIND) if value.__class__ is dict else None
        if not isinstance(kind, str) or kind not in readers:
            raise _mismatch(f"{where}.{KIND}", f"one of {', '.join(readers)}", kind)
        return readers[kind](value, where)

    return read


def _tuple(item: _Read) -> _Read:
    def read(value: Any, where: str) -> Any:
        if value.__class__ is not list:
            raise _mismatch(where, "list", value)
        return tuple([item(entry, f"{where}[{index}]") for index, entry in enumerate(value)])

    return read


def _mapping(key: type, item: _Read) -> _Read:
    def read(value: Any, where: str) -> Any:
        if value.__class__ is not dict:
            raise _mismatch(where, "mapping", value)
        return {_key(key, name, where): item(entry, f'{where}."{name}"') for name, entry in value.items()}

    return read


def _key(kind: type, name: str, where: str) -> Any:
    try:
        return kind(name)
    except ValueError:
        raise _mismatch(f'{where}."{name}"', f"{kind.__name__} as key", name) from None


def _enum(kind: type[Enum]) -> _Read:
    members = {member.value: member for member in kind}

    def read(value: Any, where: str) -> Any:
        found = members.get(value) if value.__class__ is str else None
        if found is None:
            raise _mismatch(where, f"one of {', '.join(members)}", value)
        return found

    return read


def _record(cls: type, newer: bool) -> _Read:
    hints = get_type_hints(cls)
    readers = {item.name: _reader(hints[item.name], newer) for item in fields(cls)}
    required = [name for name, default in _defaults(cls) if default is MISSING]
    own = _kind(cls)

    def read(value: Any, where: str) -> Any:
        if value.__class__ is not dict:
            raise _mismatch(where, cls.__name__, value)
        if own is not None:
            if value.get(KIND) != own:
                raise _mismatch(f"{where}.{KIND}", own, value.get(KIND))
            value = {name: item for name, item in value.items() if name != KIND}
        known = {name: readers[name](item, f"{where}.{name}") for name, item in value.items() if name in readers}
        for name in required:
            if name not in known:
                raise DamagedRecordError(f"{where}.{name} is missing")
        if len(known) < len(value) and not newer:
            raise DamagedRecordError(f"{where}.{min(set(value) - set(readers))} is unknown")
        return cls(**known)

    return read


def _mismatch(where: str, wanted: str, value: object) -> DamagedRecordError:
    return DamagedRecordError(f"{where} must be {wanted}, got {value!r:.80}")


def dumps(value: object) -> str:
    """`encode` as one line of JSON, ASCII only: what a rank printed may hold lone surrogates."""
    return json.dumps(encode(value), separators=(",", ":"))


def loads(cls: type[T], text: str | bytes, where: str, *, newer: bool = False) -> T:
    """`decode` from text; DamagedRecordError as well where that is not JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DamagedRecordError(f"{where} is not JSON ({error})") from None
    return decode(cls, value, where, newer=newer)
