"""How a local process of a version is started: its command, its environment, its view of /etc."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from torchskew.inside.protocol import prepare_line

_QUIET = Path(__file__).resolve().parents[2] / "inside" / "quiet.py"
_PASSED = ("HOME", "USER", "LANG", "TZ", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME")


def preparation() -> bytes:
    """The line a local process reads before the boot line: it dies with its parent, look-ups are answered at once."""
    return prepare_line(_QUIET)


def environ(python: str, settings: Mapping[str, str]) -> dict[str, str]:
    """A small environment: what a process needs, nothing that changes what torch does."""
    variables = {name: os.environ[name] for name in _PASSED if name in os.environ}
    variables["PATH"] = f"{Path(python).parent}:{os.environ.get('PATH', os.defpath)}"
    variables |= {"OMP_NUM_THREADS": "1", "RES_OPTIONS": "timeout:1 attempts:1", "PYTHONUNBUFFERED": "1"}
    if "LD_LIBRARY_PATH" in os.environ:
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return variables | _measuring() | dict(settings)


def _measuring() -> dict[str, str]:
    """Coverage inside the version, when this process is measured itself."""
    carried = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    if not {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"} & carried.keys():
        return {}
    import coverage

    return carried | {"TORCHSKEW_COVERAGE": str(Path(coverage.__file__).parent.parent)}


def write_etc(folder: Path) -> None:
    """What ranks see in /etc: look-ups from files only, and this host's own name among them."""
    if Path("/etc/nsswitch.conf").exists():
        lines = Path("/etc/nsswitch.conf").read_text().splitlines()
        kept = [line for line in lines if not line.lstrip().startswith("hosts:")]
        (folder / "nsswitch.conf").write_text("\n".join([*kept, "hosts: files", ""]))
    if Path("/etc/hosts").exists():
        known = Path("/etc/hosts").read_text()
        (folder / "hosts").write_text(f"{known.rstrip()}\n127.0.0.1 localhost {socket.gethostname()}\n")
