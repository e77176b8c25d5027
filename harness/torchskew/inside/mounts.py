"""Makes folders read-only for one rank: a mount namespace of its own, in which they are mounted over themselves."""

from __future__ import annotations

import ctypes
import errno
import os

import torchskew_kit as kit  # type: ignore[import-not-found,unused-ignore]

_NEW_NAMESPACE = 0x00020000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
# (statvfs, mount) of the flags that a user's namespace may not drop: nosuid, nodev, noexec, noatime, nodiratime.
_INHERITED = ((2, 2), (4, 4), (8, 8), (1024, 1024), (2048, 2048))


def protect(folders: list[str]) -> None:
    """Nothing in this process, and nothing that it starts, can write to these folders from now on.

    Raises Prevented where the machine does not allow it: a rank that could write says nothing about one that can't.
    """
    if not folders:
        return
    try:
        _enter()
        for folder in folders:
            _bind(os.fsencode(folder))
    except OSError as error:
        why = "data {} can't be made read-only here: {}: {}. Use the docker runtime."
        text = why.format(", ".join(folders), error.strerror, os.strerror(error.errno or 0))
        raise kit.Prevented(text) from None


def _enter() -> None:
    _call("unshare", _NEW_NAMESPACE)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None)


def _bind(folder: bytes) -> None:
    _call("mount", folder, folder, None, ctypes.c_ulong(_BIND | _RECURSIVE), None)
    flags = os.statvfs(folder).f_flag
    kept = sum(mount for flag, mount in _INHERITED if flags & flag)
    _call("mount", None, folder, None, ctypes.c_ulong(_BIND | _REMOUNT | _READ_ONLY | kept), None)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)  # macOS has no unshare
    if function is None or function(*arguments) != 0:
        raise OSError(ctypes.get_errno() or errno.ENOSYS, name)
