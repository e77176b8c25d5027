"""Doctor: what this machine has for torchskew, check by check, each OK or with its fix."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from torchskew.model.runtimes import RUNTIMES, RuntimeRow
from torchskew.model.sizes import readable
from torchskew.report.columns import aligned
from torchskew.runtimes import runtime
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.ownership import cache_folder, dead_folders
from torchskew.runtimes.venv.runtime import VenvRuntime

_DISK = 12 * 10**9  # bytes: the default versions as wheels with CUDA, unpacked
_MEMORY = 2 * 10**9  # bytes: four warm versions and a few dozen ranks
_PORTS = 32  # two ranks of sixteen cells


class Health(StrEnum):
    """OK, something useful is missing, or nothing runs without it."""

    OK = "OK"
    MISSING = "missing"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One answer. detail: what is there; fix: what to do, empty when OK."""

    name: str
    health: Health
    detail: str
    fix: str = ""


def doctor() -> int:
    """`torchskew doctor`: what this machine has, with the fix for what it lacks."""
    venv = VenvRuntime()
    checks = examine({name: runtime(name) for name in RUNTIMES}, venv.index_answers)
    sys.stdout.write(text(checks) + "\n")
    return exit_code(checks)


def examine(runtimes: Mapping[str, Runtime], index: Callable[[], str | None]) -> tuple[Check, ...]:
    """All checks, side by side, in a few seconds.

    runtimes: asked whether they answer, by name; index: None when packages can be resolved, else why not.
    """
    checks: tuple[Callable[[], Check], ...] = (
        python,
        *(partial(engine, RUNTIMES[name], each) for name, each in reversed(list(runtimes.items()))),
        bootstrap,
        lambda: indexes(index),
        disk,
        memory,
        ports,
        look_ups,
        leftovers,
    )
    with ThreadPoolExecutor(len(checks), "doctor") as pool:
        return tuple(pool.map(lambda check: check(), checks))


def python() -> Check:
    """The Python that runs this; an older one can't even read these files."""
    return Check(name="Python", health=Health.OK, detail=f"{platform.python_version()} at {sys.executable}")


def engine(row: RuntimeRow, runtime: Runtime) -> Check:
    """Whether what a runtime needs answers; it may be missing where other runtimes do the work without it."""
    problem = runtime.answers()
    if problem is None:
        return Check(name=row.engine, health=Health.OK, detail=runtime.describe())
    health = Health.BROKEN if row.essential else Health.MISSING
    return Check(name=row.engine, health=health, detail=problem, fix=row.fix)


def bootstrap() -> Check:
    """Whether base images can be made where no registry answers."""
    for tool in ("mmdebstrap", "debootstrap"):
        path = shutil.which(tool)
        if path:
            return Check(name="bootstrap", health=Health.OK, detail=path)
    fix = "Install mmdebstrap to make Debian base images without a registry."
    return Check(name="bootstrap", health=Health.MISSING, detail="no mmdebstrap, no debootstrap", fix=fix)


def indexes(index: Callable[[], str | None]) -> Check:
    """Whether releases of torch can be resolved."""
    problem = index()
    if problem is None:
        return Check(name="indexes", health=Health.OK, detail="torch can be resolved")
    fix = "Versions that are already in the store run; new ones need an index."
    return Check(name="indexes", health=Health.MISSING, detail=problem, fix=fix)


def disk() -> Check:
    """Room for environments."""
    folder = next(path for path in (cache_folder(), *cache_folder().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{readable(free)} free at {folder}"
    if not os.access(folder, os.W_OK):
        fix = f"Make {folder} writable, or set XDG_CACHE_HOME."
        return Check(name="disk", health=Health.BROKEN, detail=f"{folder} can't be written", fix=fix)
    if free >= _DISK:
        return Check(name="disk", health=Health.OK, detail=detail)
    fix = f"Four versions with CUDA take {readable(_DISK)}: free some space, or set XDG_CACHE_HOME to another disk."
    return Check(name="disk", health=Health.MISSING, detail=detail, fix=fix)


def memory() -> Check:
    """Room for warm versions."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Check(name="memory", health=Health.OK, detail="unknown: this system has no /proc/meminfo")
    free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    detail = f"{readable(free)} available"
    if free >= _MEMORY:
        return Check(name="memory", health=Health.OK, detail=detail)
    fix = "Stop other programs, or run fewer cells at once (-j 2) and fewer versions (--versions)."
    return Check(name="memory", health=Health.MISSING, detail=detail, fix=fix)


def ports() -> Check:
    """Whether loopback gives ports and lets us reach them."""
    try:
        with ExitStack() as stack:
            servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(_PORTS)]
            stack.enter_context(socket.create_connection(servers[-1].getsockname(), timeout=2.0))
    except OSError as error:
        fix = "Check that the loopback interface is up and that no firewall rule blocks it."
        return Check(name="ports", health=Health.BROKEN, detail=str(error), fix=fix)
    return Check(name="ports", health=Health.OK, detail=f"{_PORTS} on loopback")


def look_ups() -> Check:
    """Whether reverse name look-ups answer at once; newer stores make one per connection."""
    problem = slow_look_up()
    if problem is None:
        return Check(name="look-ups", health=Health.OK, detail="answered at once")
    fix = "Ranks get a view of /etc without DNS where user namespaces are allowed; else add the host to /etc/hosts."
    return Check(name="look-ups", health=Health.MISSING, detail=problem, fix=fix)


def slow_look_up(limit: float = 0.05) -> str | None:
    """None when a reverse look-up of loopback takes less than `limit` seconds, else how long it took."""
    import time

    begun = time.monotonic()
    try:
        socket.getnameinfo(("::ffff:127.0.0.1", 1), 0)
    except OSError as error:
        return str(error)
    took = time.monotonic() - begun
    return None if took < limit else f"one took {took:.2f} s"


def leftovers() -> Check:
    """Whether killed runs left anything."""
    killed = len(dead_folders())
    if not killed:
        return Check(name="leftovers", health=Health.OK, detail="none")
    return Check(name="leftovers", health=Health.MISSING, detail=f"{killed} killed runs", fix="torchskew clean")


def text(checks: Sequence[Check]) -> str:
    """A line for each check, its fix below it; the last line is the answer."""
    rows: list[tuple[str, str, str]] = []
    for check in checks:
        rows.append((check.name, check.health, check.detail))
        if check.fix:
            rows.append(("", "", check.fix))
    return "\n".join([*aligned(rows), _sentence(checks)])


def exit_code(checks: Sequence[Check]) -> int:
    """0 when torchskew can run here, else 1."""
    return int(any(check.health is Health.BROKEN for check in checks))


def _sentence(checks: Sequence[Check]) -> str:
    broken = [check.name for check in checks if check.health is Health.BROKEN]
    if broken:
        return f"torchskew can't run here: fix {', '.join(broken)}"
    missing = [check.name for check in checks if check.health is Health.MISSING]
    return f"torchskew runs here; missing: {', '.join(missing)}" if missing else "torchskew runs here"
