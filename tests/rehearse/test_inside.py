"""What travels into a rank, where it needs no torch: a node's memory, and log lines that are cut to what is needed."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from harness.rehearse.inside import rank


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
    assert json.loads(rank.brief(line)) == {"event": "step", "step": 3}


@pytest.mark.parametrize("line", [b"", b"no json", b"[]", b'{"step": 1}', b'{"event": "step", "step": "x"}', b"\xff"])
def test_junk_in_a_step_log_is_called_so(line: bytes) -> None:
    assert json.loads(rank.brief(line)) == {"event": "junk", "step": 0}


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
