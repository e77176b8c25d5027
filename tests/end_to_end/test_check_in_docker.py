"""A user's own commands in a container: their limits hold, nothing of the host is theirs, and nothing is left."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchskew.cli import main

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PROBE = """
import json, os, socket, sys
def writable(path):
    try:
        with open(os.path.join(path, "torchskew-was-here"), "w"):
            return True
    except OSError:
        return False
root, out = sys.argv[1:]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "interfaces": sorted(os.listdir("/sys/class/net")),
    "writable": [path for path in (root, "/etc", "/usr", out) if writable(path)] == [out],
    "sees the folder": os.path.exists(os.path.join(root, "torchskew.toml")), "starts in it": os.getcwd() == root,
    "knows its name": bool(socket.gethostbyname(socket.gethostname())),
}))
"""
DECLARED = """
[versions]
"1.7.1" = { debian = "bullseye" }
[matrix]
runtime = "docker"
[checks.bomb]
command = "while true; do setsid sleep 600 & sleep 0.01; done"
processes = 16
[checks.hoard]
command = ["{python}", "-c", "held = b'x' * 10_000_000_000"]
memory = "500 MB"
[checks.deaf]
command = "trap '' TERM; while true; do sleep 600; done"
timeout = 1
[checks.probe]
command = ["{python}", "probe.py", "{root}", "{out}"]
[checks.online]
command = ["{python}", "probe.py", "{root}", "{out}"]
network = true
"""
SAYS = {
    "bomb": "ran more processes than the 16 allowed (",
    "hoard": "used more memory than the 500 MB allowed (",
    "deaf": "did not end within its timeout of 1 s; it ignored SIGTERM and was killed",
}


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may read, as a checkout usually is; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "torchskew.toml").write_text(DECLARED)
        (folder / "probe.py").write_text(PROBE)
        monkeypatch.chdir(folder)
        yield folder


def cells(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Verdict, reason and the last line that was printed, by the check's name."""
    (results,) = folder.glob("out/*/results.json")
    found = {}
    for cell in json.loads(results.read_text())["cells"]:
        log = results.parent / (cell["ranks"][0]["log"] or ".")
        lines = log.read_text().splitlines() if log.is_file() else []
        found[cell["scenario"]] = (cell["verdict"], cell["reason"], lines[-1] if lines else "")
    return found


def test_limits_hold_and_a_command_has_no_rights_no_network_and_a_folder_of_its_own(project: Path) -> None:
    assert main(["check", "-j", "2"]) == 1
    found = cells(project)
    for name, words in SAYS.items():
        assert found[name][:2] == ("FAIL", found[name][1])
        assert found[name][1].startswith(f"rank 0 WRONG: {words}")
    assert found["probe"][0] == found["online"][0] == "PASS"
    seen, online = (json.loads(found[name][2]) for name in ("probe", "online"))
    assert seen == {
        "uid": 65534, "capabilities": 0, "interfaces": ["lo"], "writable": True, "sees the folder": True,
        "starts in it": True, "knows its name": True,
    }  # fmt: skip
    assert online == {**seen, "interfaces": ["eth0", "lo"]}


def test_below_a_folder_that_is_closed_to_others_a_command_runs_as_its_user(project: Path) -> None:
    inner = project / "inner"
    inner.mkdir()
    for name in ("torchskew.toml", "probe.py"):
        (project / name).rename(inner / name)
    project.chmod(0o700)
    os.chdir(inner)
    assert main(["check", "probe"]) == 0
    seen = json.loads(cells(inner)["probe"][2])
    assert (seen["uid"], seen["capabilities"], seen["sees the folder"]) == (os.getuid(), 0, True)
