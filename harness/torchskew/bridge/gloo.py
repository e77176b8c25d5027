"""Gloo's addresses in the store, rewritten between the form of 2.1 and the record of 2.2 and later.

2.1: rank r leaves its host name under `rank_<r>`, and under `<r>` one address of 136 bytes for each peer, ascending,
without itself. Since 2.2: one record under `<r>`: host name, one address, and the id of every pair, its own included.
An address is 128 bytes and the i64 id of the pair.
"""

from __future__ import annotations

import re
import struct
from typing import List, Optional, Tuple

PLACE, ADDRESS = 128, 136
MOST_HOST = 255
_U64 = struct.Struct("<Q")
_RANK = re.compile(rb"(?s)(.*/)([0-9]{1,6})")


def rank_of(key: bytes) -> Optional[int]:
    """The rank whose address a key holds, by its last part."""
    match = _RANK.fullmatch(key)
    return int(match.group(2)) if match else None


def host_key(key: bytes) -> Optional[bytes]:
    """Where 2.1 leaves the host name that belongs to an address."""
    match = _RANK.fullmatch(key)
    return match.group(1) + b"rank_" + match.group(2) if match else None


def split_record(value: bytes) -> Optional[Tuple[bytes, bytes, List[bytes]]]:
    """Host name, address and pair ids of a record of 2.2 and later; None for any other value."""
    if len(value) < 16 + ADDRESS:
        return None
    (length,) = _U64.unpack_from(value)
    start = 16 + length
    if length > MOST_HOST or len(value) < start + ADDRESS or _U64.unpack_from(value, 8 + length)[0] != ADDRESS:
        return None
    ids = value[start + ADDRESS :]
    if len(ids) % 8:
        return None
    pairs = [ids[at : at + 8] for at in range(0, len(ids), 8)]
    return value[8 : 8 + length], value[start : start + ADDRESS], pairs


def as_2_1(key: bytes, value: bytes) -> bytes:
    """A record of 2.2 and later as 2.1 reads it; any other value as it is."""
    rank, record = rank_of(key), split_record(value)
    if rank is None or record is None or rank >= len(record[2]):
        return value
    _, address, pairs = record
    return b"".join(address[:PLACE] + pair for peer, pair in enumerate(pairs) if peer != rank)


def as_2_2(key: bytes, value: bytes, host: Optional[bytes]) -> bytes:
    """The addresses of 2.1 as 2.2 and later read them; any other value as it is."""
    rank = rank_of(key)
    if rank is None or host is None or not value or len(value) % ADDRESS or rank > len(value) // ADDRESS:
        return value
    pairs = [value[at + PLACE : at + ADDRESS] for at in range(0, len(value), ADDRESS)]
    pairs.insert(rank, bytes(8))
    return _U64.pack(len(host)) + host + _U64.pack(ADDRESS) + value[:ADDRESS] + b"".join(pairs)
