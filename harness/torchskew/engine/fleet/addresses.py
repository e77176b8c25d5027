"""Under which address and interface ranks of this machine are reached by those of others."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from torchskew.errors import MachineError

_SIOCGIFADDR = 0x8915  # Linux: the first IPv4 address of an interface


def reached_by(interface: str) -> tuple[str, str]:
    """Name and address of the interface that is called so, or that has an address in this network.

    Raises:
        MachineError: this machine has none.
    """
    have = dict(_interfaces())
    if "/" in interface:
        network = ipaddress.IPv4Network(interface)
        found = [(name, address) for name, address in have.items() if ipaddress.IPv4Address(address) in network]
    else:
        found = [(interface, have[interface])] if interface in have else []
    if not found:
        listed = ", ".join(f"{name} {address}" for name, address in have.items()) or "none with an IPv4 address"
        raise MachineError(f"fleet.interface {interface!r}: {socket.gethostname()} has no such interface: {listed}.")
    return found[0]


def _interfaces() -> Iterator[tuple[str, str]]:
    """Every interface with its IPv4 address."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                yield name, socket.inet_ntoa(answer[20:24])
