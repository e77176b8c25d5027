"""What an agent reports about the place where it runs: whether torch imports there, how fast names are looked up."""

from __future__ import annotations

import importlib
import socket
import sys
import time
import traceback

import torchskew_child as child  # type: ignore[import-not-found,unused-ignore]

PARTS = ("torch", "torch.nn", "torch.optim", "torch.distributed")


def import_problem(module: str) -> dict[str, str] | None:
    """Import a module; return why it can't be: type, text, and the innermost line as `file:number: source`."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build raises anything
        frames = traceback.extract_tb(error.__traceback__)
        where = "{0.filename}:{0.lineno}: {0.line}".format(frames[-1]) if frames else ""
        return dict(child.describe(error), where=where)
    return None


def import_ahead(modules: list[str]) -> None:
    """Import what the run's scenarios need, once for all ranks; a rank that needs what fails here reports it.

    An entry `module:function` calls the function as well, for what can't be imported by its name alone.
    """
    for name in modules:
        module, _, function = name.partition(":")
        problem = import_problem(module) or (call_problem(module, function) if function else None)
        if problem:
            print("not imported ahead: {}: {type}: {text}".format(name, **problem), file=sys.stderr)


def call_problem(module: str, function: str) -> dict[str, str] | None:
    """Call a function of an imported module; return why it failed: type and text."""
    try:
        getattr(sys.modules[module], function)()
    except Exception as error:  # what it imports may be broken in any way
        return dict(child.describe(error))
    return None


def broken_parts() -> dict[str, dict[str, str] | None]:
    """Return why each part of a broken torch can't be imported; None for one that imports."""
    return {name: import_problem(name) for name in PARTS}


def resolver_seconds() -> float:
    """Return how long the reverse look-up of our own address takes: stores do one per connection."""
    address = "::ffff:" + _own_address()
    began = time.monotonic()
    try:
        socket.getnameinfo((address, 9), 0)
    except OSError as error:
        print("reverse look-up of {}: {}".format(address, error), file=sys.stderr)
    return time.monotonic() - began


def _own_address() -> str:
    """Return the address under which others reach us; a machine of its own has only the loopback."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; says which address would be used
            return str(probe.getsockname()[0])
    except OSError:  # no route leads out, as in an internal network: its hosts file knows
        try:
            return socket.gethostbyname(socket.gethostname())
        except OSError:
            return "127.0.0.1"
