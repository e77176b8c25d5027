"""What travels into a rank, where it needs no torch: a node's memory, and log lines that are cut to what is needed."""

from __future__ import annotations

import json
import os
import re
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from torchskew.inside import rehearsal as rank
from torchskew.workflows.rehearsal import questions
from torchskew.workflows.rehearsal.questions import MOST_LOG, Questions

from tests.conftest import ROOT


def test_a_nodes_memory_is_its_ranks_peak_and_what_its_agent_holds_alone() -> None:
    if os.getppid() == 0 or not Path(f"/proc/{os.getppid()}/smaps_rollup").exists():
        pytest.skip("this kernel does not tell")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = Path(f"/proc/{os.getppid()}/smaps_rollup").read_text().splitlines()
    held = sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
    assert held > 0
    assert peak < rank.kilobytes() < peak + 4 * held


def test_a_kernel_that_does_not_tell_leaves_the_ranks_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank.os, "getppid", lambda: 0)
    assert rank.kilobytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_line_of_a_script_reaches_the_harness_as_event_and_step_only() -> None:
    line = json.dumps({"event": "step", "step": 3, "loss": "0x1p0", "samples": list(range(1000))}).encode()
    assert rank.progress_of(line) == ("step", 3)


@pytest.mark.parametrize("line", [b"", b"no json", b"[]", b'{"step": 1}', b'{"event": "step", "step": "x"}', b"\xff"])
def test_junk_in_a_step_log_is_called_so(line: bytes) -> None:
    assert rank.progress_of(line) == ("junk", 0)


def test_ranks_of_one_process_id_in_several_containers_write_a_shared_file_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank's writing falls between this one's writing and its rename."""
    path, rename = str(tmp_path / "hold"), os.replace

    def other_rank_first(part: str, whole: str) -> None:
        monkeypatch.setattr(rank.os, "replace", rename)
        rank.write(path, "7")
        rename(part, whole)

    monkeypatch.setattr(rank.os, "getpid", lambda: 10)
    monkeypatch.setattr(rank.os, "replace", other_rank_first)
    rank.write(path, "7")
    assert (tmp_path / "hold").read_text() == "7"
    assert [one.name for one in tmp_path.iterdir()] == ["hold"]


class Asked:
    """What a rank is asked."""

    def __init__(self, **params) -> None:
        self.params = params


class Asking(Questions):
    """Asks the function itself instead of a node."""

    def __init__(self) -> None:
        self.answers = 0

    def ask(self, seat, params) -> dict:
        del seat
        self.answers += 1
        return json.loads(json.dumps(rank.collect(Asked(**params))))


def _logs(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_step_logs_that_no_answer_can_hold_come_in_parts_and_whole(tmp_path: Path) -> None:
    files = {f"rank-{one}.jsonl": ("é" * 300_000 + f"{one}\n").encode() for one in range(4)}
    _logs(tmp_path / "logs", files)
    asking = Asking()
    texts, _ = asking.collect(None, str(tmp_path / "logs"), str(tmp_path / "none"))
    assert texts == {name: data.decode() for name, data in files.items()}
    assert asking.answers == 3


def test_an_answer_fits_into_what_an_agent_may_report(tmp_path: Path) -> None:
    _logs(tmp_path / "logs", {"rank-0.jsonl": bytes(range(256)) * 20_000})
    asked = Asked(logs=str(tmp_path / "logs"), checkpoints=str(tmp_path), most=MOST_LOG, done={})
    limit = re.search(
        r"^REPORT_LIMIT = (\d+) << (\d+)", (ROOT / "harness/torchskew/inside/child.py").read_text(), re.MULTILINE
    )
    assert limit
    assert len(json.dumps(rank.collect(asked))) < int(limit[1]) << int(limit[2])


def test_a_step_log_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_LOG", 100)
    _logs(tmp_path / "logs", {"rank-0.jsonl": b"x" * 1000})
    texts, _ = Asking().collect(None, str(tmp_path / "logs"), str(tmp_path / "none"))
    assert len(texts["rank-0.jsonl"]) == 100


def test_only_checkpoints_that_were_renamed_and_described_are_committed(tmp_path: Path) -> None:
    for name in (".step-1", "step-2", "step-3"):
        (tmp_path / name).mkdir()
    for name in (".step-1", "step-2"):
        (tmp_path / name / "meta.json").write_text("{}")
    assert Asking().collect(None, str(tmp_path / "none"), str(tmp_path)) == ({}, frozenset({"step-2"}))


class Connection:
    """Takes bytes and answers, and writes down how long it was given for each."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del error

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def sendall(self, data: bytes) -> None:
        del data

    def shutdown(self, how: int) -> None:
        del how

    def recv(self, size: int) -> bytes:
        return b"k"[:size]


def test_bytes_that_cross_a_lossy_network_have_one_deadline_for_connecting_sending_and_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conn, clock = Connection(), iter([0.0, 1.0, 4.0, 9.0, 9.5])
    monkeypatch.setattr(rank.time, "monotonic", lambda: next(clock))

    def connect(address: tuple[str, int], timeout: float) -> Connection:
        conn.settimeout(timeout)
        assert address == ("10.0.0.2", 1)
        return conn

    monkeypatch.setattr(rank.socket, "create_connection", connect)
    params = {"to": "10.0.0.2", "bytes": 3, "seconds": 10.0}
    job = SimpleNamespace(params=params, port=1, phase=lambda _: None)
    assert rank.send(job) == {"arrived": True, "seconds": 9.5}
    assert conn.timeouts == [9.0, 6.0, 1.0]
