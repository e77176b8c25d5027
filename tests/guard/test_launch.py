"""A script runs under the guard as it would without: its own arguments, its own name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.guard.generate import FILE, HERE
from torchskew.guard.launch import main

from tests.guard.stub import Stub, write_torch
from tests.patience import PATIENCE

# Rank 1 of a group without a rank 0.
JOB = """
import pickle, sys
from torch.distributed import distributed_c10d

try:
    distributed_c10d.init_process_group("gloo", sys.argv[1], 0.1, 2, 1)
except RuntimeError as error:
    again = pickle.loads(pickle.dumps(error))
    print(type(again).__name__, again.kind, type(again) is type(error), __name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [[FILE.name], ["-m", FILE.stem], ["-m", "torchskew.guard"]], ids=" ".join)
def test_an_error_survives_a_pickle_however_the_guard_was_started(command: list[str], tmp_path: Path) -> None:
    write_torch(tmp_path)
    (tmp_path / "job.py").write_text(JOB)
    shutil.copy(FILE, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        where = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    path = os.pathsep.join(map(str, (tmp_path, HERE.parent.parent)))
    done = subprocess.run(
        [sys.executable, *command, str(tmp_path / "job.py"), where], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("ProtocolVersionError missing True __main__\n", "")


@pytest.mark.parametrize("as_module", [False, True])
def test_main_runs_a_script_guarded_with_its_own_arguments(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_module: bool
) -> None:
    (tmp_path / "a_job.py").write_text("import sys, torch.distributed as d\nd.calls = sys.argv[1:], __name__\n")
    monkeypatch.setattr(sys, "argv", ["torchskew_guard.py"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "")
    main(["-m", "a_job", "x"] if as_module else [str(tmp_path / "a_job.py"), "x"])
    assert stub.dist.calls == (["x"], "__main__")
    assert stub.c10d.init_process_group.torchskew_guard


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--help"]])
def test_without_a_script_main_says_how_it_is_used(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage: python torchskew_guard\.py"):
        main(arguments)


# What a script under the guard sees of the relay, which travels as text.
TEXT = "import inspect, sys; print(inspect.getsource(sys.modules[sys.argv[1]].Carrier).splitlines()[0])"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name"),
    [([FILE.name], FILE.stem), (["-m", FILE.stem], FILE.stem), (["-m", "torchskew.guard"], "torchskew.guard.relay")],
)
def test_the_relays_text_is_found_however_the_guard_was_started(command: list[str], name: str, tmp_path: Path) -> None:
    write_torch(tmp_path)
    (tmp_path / "job.py").write_text(TEXT)
    shutil.copy(FILE, tmp_path)
    path = os.pathsep.join(map(str, (tmp_path, HERE.parent.parent)))
    done = subprocess.run(
        [sys.executable, *command, str(tmp_path / "job.py"), name], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("class Carrier:\n", "")
