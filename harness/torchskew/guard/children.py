"""Processes that a guarded one starts anew: what spawns, what a launcher runs again, and what those start.

They have nothing of their parent but its environment, so the start-up hook reaches them by PYTHONPATH. The folder is
one for each user and guard; it stays, because a child may start after its parent has ended.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile

from torchskew.guard.start import MARK, START, start_text

_CUSTOMIZE = '''"""Loads the start-up hook of torchskew's guard, then the sitecustomize that this one hides."""

{mark}
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
own = sys.modules.pop("sitecustomize", None)
try:
    import torchskew_guard_start
except Exception as problem:
    sys.stderr.write("torchskew guard: this process is not guarded: %s\\n" % problem)
finally:
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    try:
        import sitecustomize
    except ImportError as problem:
        if problem.name != "sitecustomize":
            raise
    finally:
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)
'''


def reach_children(name: str, path: str = "") -> None:
    """From now on every Python that this process starts loads the hook, by the environment that it inherits.

    name, path: the guard's module there, and its file. OSError where no folder can be made.
    """
    if START in sys.modules:
        return  # this Python's own environment has the hook
    start = start_text(name, repr(path) if path else "")
    folder = _folder({START + ".py": start, "sitecustomize.py": _CUSTOMIZE.format(mark=MARK)})
    others = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


def _folder(files: dict[str, str]) -> str:
    """A folder of this user's with these files; OSError where anyone else could have written them."""
    digest = hashlib.sha256("".join(files.values()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = os.path.join(tempfile.gettempdir(), "torchskew-guard-%d-%s" % (user, digest))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    foreign = hasattr(os, "getuid") and (status.st_uid != user or status.st_mode & 0o022)
    if foreign or not stat.S_ISDIR(status.st_mode):
        raise PermissionError("%s belongs to another user, or others can write it" % folder)
    for name, text in files.items():
        _write(os.path.join(folder, name), text)
    return folder


def _write(path: str, text: str) -> None:
    """The file with this text, whole for whoever reads it meanwhile."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if file.read() == text:
                return
    except (OSError, UnicodeError):
        pass  # not there yet, or not readable as ours: it is written below, and what can't be written is an error there
    part = "%s.%d.part" % (path, os.getpid())
    with open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(part, path)
