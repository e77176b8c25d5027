"""Names of hosts, looked up within a time limit: the system's resolver has none that a caller can choose."""

from __future__ import annotations

import socket
import threading
from typing import Any, Callable


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
    try:
        found = within_time(seconds, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except socket.gaierror as problem:
        raise OSError("the name %s does not resolve" % host) from problem
    except TimeoutError as problem:
        raise OSError("the name %s did not resolve within %.1f s" % (host, seconds)) from problem
    return min((family != socket.AF_INET, str(address[0])) for family, _, _, _, address in found)[1]


def addresses(host: str, port: int | None = None) -> list[Any]:
    """What getaddrinfo() says of a host; OSError where it has no address.

    As bytes, because a text loads Python's table of international names first: 2 ms of a process's first look.
    """
    return socket.getaddrinfo(host.encode() if host.isascii() else host, port, type=socket.SOCK_STREAM)


def within_time(seconds: float, ask: Callable[[], Any]) -> Any:
    """What ask() says, which may ask the resolver; TimeoutError where it takes longer, OSError without a thread."""
    answers: list[Any] = []
    problems: list[Exception] = []
    thread = threading.Thread(target=_try, args=(ask, answers, problems), name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as problem:
        raise OSError("no thread to look up a name: %s" % problem) from problem
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError("the name service did not answer within %.1f s" % seconds)
    return answers[0]


def _try(ask: Callable[[], Any], answers: list[Any], problems: list[Exception]) -> None:
    """The answer, or the problem, for the thread that waits for it."""
    try:
        answers.append(ask())
    except Exception as problem:  # noqa: BLE001 - raised where it is waited for
        problems.append(problem)
