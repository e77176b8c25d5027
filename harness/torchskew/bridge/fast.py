"""The common operations, read from complete messages without a generator: half of the bridge's time was in reading.

A parser takes the received bytes and the place after the opcode, and gives the arguments and the place after them. It
gives None where a message is not whole or breaks a cap: reader.py then reads the same bytes and says so.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from torchskew.bridge.eras import OPCODES, Era, Operation
from torchskew.bridge.limits import Limits
from torchskew.bridge.reader import INTEGER, LENGTH

Parsed = Optional[Tuple[List[Any], int]]
Parser = Callable[[bytes, int, Limits], Parsed]
_length, _integer = LENGTH.unpack_from, INTEGER.unpack_from


def _counted(data: bytes, at: int, most: int) -> Parsed:
    """Bytes after their length, at most so many."""
    start = at + 8
    if start > len(data):
        return None
    size = _length(data, at)[0]
    end = start + size
    if size > most or end > len(data):
        return None
    return [data[start:end]], end


def _key(data: bytes, at: int, limits: Limits) -> Parsed:
    return _counted(data, at, limits.key)


def _key_and_value(data: bytes, at: int, limits: Limits) -> Parsed:
    key = _key(data, at, limits)
    value = _counted(data, key[1], limits.value) if key else None
    return (key[0] + value[0], value[1]) if key and value else None


def _key_and_integer(data: bytes, at: int, limits: Limits) -> Parsed:
    parsed = _key(data, at, limits)
    if parsed is None or parsed[1] + 8 > len(data):
        return None
    arguments, at = parsed
    arguments.append(_integer(data, at)[0])
    return arguments, at + 8


def _one_key_of_one(data: bytes, at: int, limits: Limits) -> Parsed:
    if at + 8 > len(data) or _length(data, at)[0] != 1:
        return None
    parsed = _key(data, at + 8, limits)
    return None if parsed is None else ([parsed[0]], parsed[1])


_PARSERS: Dict[Operation, Parser] = {
    Operation.SET: _key_and_value,
    Operation.GET: _key,
    Operation.ADD: _key_and_integer,
    Operation.CHECK: _one_key_of_one,
    Operation.WAIT: _one_key_of_one,
}


# opcode -> the operation and its parser, by era; none of them tells eras apart, so all eras with values have them
FAST: Dict[Era, Dict[int, Tuple[Operation, Parser]]] = {
    era: {number: (operation, _PARSERS[operation]) for number, operation in opcodes.items() if operation in _PARSERS}
    for era, opcodes in OPCODES.items()
}
