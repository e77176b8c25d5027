"""Real releases on two Ray nodes: a driver that is killed loses no cell, and `--resume` finishes the same run."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Environment

from tests.chaos.desk import LOOK, Desk, killed_at_the_end
from tests.patience import PATIENCE

pytest.importorskip("ray")
pytestmark = [pytest.mark.torch, pytest.mark.slow]
RUN = ("matrix", "--fleet", "local:2", "--no-cache", "-j", "1")
# What outlives a killed driver is Ray's own agents, for so many seconds.
SOON = {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
# Between looks at all processes, or at a record while Ray starts: each look is work that the run itself waits for.
SELDOM = 0.25


def living(desk: Desk) -> list[str]:
    """Every process that has this desk's cache folder in its environment: Ray's, workers, agents and ranks."""
    mark, found = str(desk.folder / "cache").encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80])
    return [each for each in found if each]


def lasting(desk: Desk) -> list[str]:
    until = time.monotonic() + PATIENCE
    while (left := living(desk)) and time.monotonic() < until:
        time.sleep(SELDOM)
    return left


def test_a_killed_driver_loses_no_cell_leaves_no_process_and_is_resumed(
    tmp_path: Path, torch_environment: Environment
) -> None:
    desk = Desk(folder=tmp_path)
    process = desk.start(RUN, SOON)
    until = time.monotonic() + PATIENCE
    with killed_at_the_end(process):
        while (done := len(desk.finished())) < 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(LOOK if done else SELDOM)
    before = desk.finished()
    assert len(before) >= 3, desk.said
    assert lasting(desk) == []
    assert desk.run((*RUN, "--resume"), SOON) == 0, desk.said
    assert "2 nodes of Ray" in desk.said
    assert f"{len(before)} of 20 cells were done" in desk.said
    verdicts = desk.verdicts()
    assert len(verdicts) == 20
    assert {verdict for verdict, _ in verdicts.values()} == {Verdict.PASS}
    assert desk.twice() == []
    assert lasting(desk) == []
    assert list((tmp_path / "cache" / "torchskew" / "runs").glob("*")) == []
