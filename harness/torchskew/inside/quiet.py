"""Runs first in a local process: it dies with its parent, and name look-ups are answered at once.

Newer stores make a blocking reverse look-up per connection, also for ::ffff:127.0.0.1, which no hosts file has.
So the process gets a mount namespace of its own in which /etc/nsswitch.conf asks files only. Where that is not
allowed, RES_OPTIONS keeps a look-up short. Python 3.8, standard library only.
"""

import ctypes
import os
import sys

_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000
_BIND, _PRIVATE, _RECURSIVE = 4096, 1 << 18, 16384
_DEATH_SIGNAL, _KILL = 1, 9


def begin() -> None:
    """Everything, in order; what the machine does not allow is left out."""
    _measure()
    folder = os.environ.get("TORCHSKEW_ETC")
    if folder and sys.platform == "linux" and _allowed(folder):
        _enter(folder)
    parent = os.environ.get("TORCHSKEW_PARENT")
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, _KILL, 0, 0, 0)
        if os.getppid() != int(parent):
            os._exit(1)


def _measure() -> None:
    """Coverage in here as well, when the tests ask for it."""
    place = os.environ.pop("TORCHSKEW_COVERAGE", None)
    if place:
        sys.path.append(place)
        import coverage

        sys.path.remove(place)
        coverage.process_startup()


def _allowed(folder: str) -> bool:
    """Try it in a child first: a namespace entered half can't be left."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter(folder)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _enter(folder: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _NEW_NAMESPACE if uid == 0 else _NEW_NAMESPACE | _NEW_USER)
    if uid != 0:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", "%d %d 1" % (uid, uid))
        _write("/proc/self/gid_map", "%d %d 1" % (gid, gid))
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None)
    for name in sorted(os.listdir(folder)):
        source, target = os.path.join(folder, name), os.path.join("/etc", name)
        _call("mount", os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_BIND), None)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


begin()
