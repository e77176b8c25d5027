"""What ranks up to 2.0 need beside later ones: addresses of a relay, and keys that later ranks name or leave otherwise.

Up to 2.0 each pair of ranks has a listening socket of its own, and the id of a pair is -1. Up to 2.0 a group also waits
until every rank has added to a key of its barrier, and for the sequence number that its rank 0 leaves.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Optional, Set, Tuple

from torchskew.bridge import gloo
from torchskew.bridge.relay import Relay

if TYPE_CHECKING:
    from torchskew.bridge.state import Client, Store

UNSET = struct.pack("<q", -1)
BARRIER, SEQUENCE = b"/store_based_barrier_key:", b"SEQ_NUM_STORE_KEY"
FIRST = struct.pack("<q", 1)  # the sequence number that a later rank 0 is taken to have left
MOST = 4096  # ranks of a group, and ranks of 1.13 in all groups
_ROOT = b"/default_pg/"
_OF_1_13 = re.compile(rb"([0-9]+)/(0/(?:rank_)?[0-9]+|SEQ_NUM_STORE_KEY)")
_INIT_BARRIER = b"store_based_barrier_key:1"


def as_since_2_0(key: bytes, client: Client) -> bytes:
    """A key as 2.0 and later name it, where gloo's own keys have told that the client is of 1.13 or older.

    Up to 1.13 they name no device, and the default group's store, in which the other groups' keys are, has no prefix.
    """
    if not key.startswith(_ROOT):
        return key
    rest = key[len(_ROOT) :]
    gloos = _OF_1_13.fullmatch(rest)
    if gloos is not None:
        client.of_1_13 = True
        group, name = gloos.groups()
        return _ROOT + (b"" if group == b"0" else b"0//") + group + b"//cpu//" + name
    return _ROOT + b"0//" + rest if client.of_1_13 and rest != _INIT_BARRIER else key


def is_oldest(value: bytes) -> bool:
    """Whether these are the addresses of a rank up to 2.0."""
    whole = bool(value) and len(value) % gloo.ADDRESS == 0
    return whole and value[gloo.PLACE : gloo.ADDRESS] == UNSET and gloo.split_record(value) is None


def address_for(value: bytes, rank: int, peer: int) -> Optional[Tuple[bytes, bytes]]:
    """A rank's own address for one peer and the id of that pair, from what it left in the store, in any form."""
    record = gloo.split_record(value)
    if record is not None:
        return (record[1][: gloo.PLACE], record[2][peer]) if peer < len(record[2]) else None
    at = (peer if peer < rank else peer - 1) * gloo.ADDRESS
    one = value[at : at + gloo.ADDRESS]
    return (one[: gloo.PLACE], one[gloo.PLACE :]) if len(one) == gloo.ADDRESS else None


def world_of(value: bytes) -> int:
    """How many ranks the group has whose rank left this value."""
    record = gloo.split_record(value)
    return min(MOST, len(record[2]) if record is not None else len(value) // gloo.ADDRESS + 1)


class Older:
    """The part of a store that is about ranks up to 2.0."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.relay = Relay()
        self.of_1_13: Set[bytes] = set()  # addresses of ranks up to 1.13

    def note(self, key: bytes, value: bytes, client: Client) -> None:
        """A rank has left its addresses: which one the client is, and the sequence number that its peers wait for."""
        prefix, rank = _split(key)
        self.store.join(prefix, rank, client)
        values = self.store.values
        if client.of_1_13 and len(self.of_1_13) < MOST:
            self.of_1_13.add(key)
        first, number = values.get(prefix + b"0", b""), prefix[:-2] + SEQUENCE
        # A rank 0 of 1.13 leaves it after the barrier, at which a peer of 2.0 comes once it has the number.
        leaves = is_oldest(first) and prefix + b"0" not in self.of_1_13
        if not first or leaves or not prefix.endswith(b"/0/") or number in values:
            return
        peers = [prefix + b"%d" % each for each in (range(1, world_of(value)) if rank == 0 else [rank])]
        if any(
            is_oldest(values.get(peer, b"")) and (peer not in self.of_1_13 or not is_oldest(first)) for peer in peers
        ):
            self.store.put(number, FIRST, client)
            self.store.derived.add(number)

    def read(self, key: bytes, value: bytes, client: Client) -> Optional[bytes]:
        """A peer's addresses as the relay's, where one of the two ranks is older than 2.1 and the other is not."""
        prefix, rank = _split(key)
        mine = client.groups.get(prefix)
        own = self.store.values.get(prefix + b"%d" % mine) if mine is not None else None
        if mine is None or own is None or mine == rank or is_oldest(own) == is_oldest(value):
            return None
        address = address_for(own, mine, rank)
        if address is None:
            return None
        later = not is_oldest(own)
        pair = (prefix, *((rank, mine) if later else (mine, rank)))
        relayed = self.relay.address(pair, later, address, client.reached())
        return None if relayed is None else self._in_form(key, relayed, world_of(value), client)

    def _in_form(self, key: bytes, address: bytes, world: int, client: Client) -> bytes:
        """An address in the form that the client's release reads."""
        if client.before_2_2:
            return (address + UNSET) * (world - 1)
        host = self.store.values.get(gloo.host_key(key) or b"", b"")
        record = struct.pack("<Q", len(host)) + host + struct.pack("<Q", gloo.ADDRESS) + address + UNSET
        return record + UNSET * world

    def missing(self, client: Client) -> int:
        """How many ranks of the client's first group never add to a barrier's key, because they are later than 2.0."""
        if not client.groups:
            return 0
        prefix, rank = next(iter(client.groups.items()))
        values = self.store.values
        own = values.get(prefix + b"%d" % rank, b"")
        if not is_oldest(own):
            return 0
        return sum(bool(each) and not is_oldest(each)
                   for each in (values.get(prefix + b"%d" % peer, b"") for peer in range(world_of(own))))  # fmt: skip


def _split(key: bytes) -> Tuple[bytes, int]:
    """A group's prefix and the rank, of a key that holds addresses."""
    at = key.rindex(b"/") + 1
    return key[:at], int(key[at:])
