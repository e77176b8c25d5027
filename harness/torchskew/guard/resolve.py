"""Names of hosts, looked up within a time limit: the system's resolver has none that a caller can choose."""

from __future__ import annotations

import socket
import threading


def numeric(host: str, seconds: float) -> str:
    """An address of a host within these seconds, IPv4 where it has one; OSError otherwise.

    A thread that is stuck in the resolver is left to it: the stock init asks the same question next, and waits longer.
    """
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # no address but a name: it is looked up below, and what can't be looked up is an error there
    else:
        return host
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=_look_up, args=(host, answers), name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as problem:
        raise OSError("no thread to look up %s: %s" % (host, problem)) from problem
    thread.join(seconds)
    if not answers:
        how = "did not resolve within %.1f s" % seconds if thread.is_alive() else "does not resolve"
        raise OSError("the name %s %s" % (host, how))
    return min(answers)[1]


def _look_up(host: str, answers: list[tuple[int, str]]) -> None:
    """All addresses at once, IPv4 first: rank 0 listens on both."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    answers += [(family != socket.AF_INET, str(address[0])) for family, _, _, _, address in found]
