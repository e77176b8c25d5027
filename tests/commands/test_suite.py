"""`torchskew suite` plans from what the releases list, runs what they don't skip, counts what only the mix breaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.runtimes.fake import FakeRuntime, ended

from tests.conftest import faked

OLD, NEW = "2.6.0", "2.13.0"
TESTS = {
    OLD: ("test_alone", "test_gather", "test_gpu", "test_mixed"),
    NEW: ("test_new", "test_alone", "test_gather", "test_gpu", "test_mixed"),
}
FAILED = {"at": "distributed_test.py:7", "line": "self.assertEqual(a, b)", "text": "no", "values": {"x": "1", "y": "2"}}


class Suites(FakeRuntime):
    """Two releases: test_gpu is skipped, test_alone fails in the old one, test_mixed fails where they meet."""

    def __init__(self, *, broken: tuple[str, ...] = (), stop_after: int | None = None) -> None:
        self.ran: Counter[str] = Counter()
        self.left = stop_after
        super().__init__(self.rank, broken=broken)

    def rank(self, version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        test, size = job["variant"], job["world_size"]
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        self.ran[f"{test}/{','.join(job['skew'])}"] += 1
        if size == 1:
            return done(version, {"tests": [["distributed", name, 0] for name in TESTS[version]], "lacks": {}})
        if test is None:
            return done(version, {"rank": job["rank"], "size": size, "bits": (1 << size) - 1})
        if test == "test_gpu":
            return ended(version, finished=False, phase="run", unsupported="the suite skips it: no GPU")
        mixed = len(set(job["skew"])) > 1
        wrong = (test == "test_alone" and OLD in job["skew"]) or (test == "test_mixed" and mixed)
        return done(version, {"failed": FAILED if wrong else None})


def done(version: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    return ended(version, finished=True, payload=payload, phase="done")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Suites:
    monkeypatch.chdir(tmp_path)
    return faked(monkeypatch, Suites())


def suite(*line: str) -> int:
    return main(["suite", "--versions", OLD, NEW, *line])


def test_only_what_fails_in_no_control_is_a_finding(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite() == 1
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines()]
    assert ["distributed", "2.6.0,2.13.0", "1", "1", "1", "0", "1", "1", "0"] in lines
    assert "fails only mixed: 2" in told
    wrong = "distributed_test.py:7 `self.assertEqual(a, b)`: no; x = 1; y = 2"
    assert f"rank 0 WRONG: {wrong}; rank 1 WRONG: {wrong}" in told
    assert "suite.test_alone (2 x 2.6.0)" in told
    assert "2.6.0: its suite has no test test_new" in told
    assert told.splitlines()[-1] == "2 cells fail only mixed"


def test_what_both_skip_alone_is_not_run_mixed(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    suite()
    # Cells run side by side, so which control came first is chance.
    ran = {place for place in runtime.ran if place.startswith("test_gpu/")}
    assert ran == {"test_gpu/2.6.0,2.6.0", "test_gpu/2.13.0,2.13.0"}
    assert "inferred   2 cells" in capsys.readouterr().out
    assert not any(place.startswith("test_new/2.6.0") for place in runtime.ran)


def test_a_second_run_takes_everything_from_the_record(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    suite()
    before = sum(runtime.ran.values())
    assert suite() == 1
    assert sum(runtime.ran.values()) == before
    assert "fails only mixed: 2" in capsys.readouterr().out


def test_some_tests_of_one_pair(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite("--tests", "test_gather", "--only", "suite.*/2.6.0,2.13.0/*") == 0
    assert "nothing fails only mixed: 3 cells of PyTorch's own tests" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan_and_writes_nothing(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "suite.test_new/2.13.0,2.13.0/guard-off/venv   predicted nothing" in lines
    assert not Path("out").exists()


def test_the_tests_meet_at_a_bridge(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite("--store", "stock", "bridge", "--tests", "test_gather", "--dry-run") == 0
    cells = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("suite.")]
    mixed = [cell for cell in cells if "/2.6.0,2.13.0/" in cell]
    assert mixed == [f"suite.test_gather/2.6.0,2.13.0/guard-off/{at}venv" for at in ("", "store-bridge/")]


def test_the_list_names_the_releases_of_each_test(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite("--list") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["distributed", "test_gather", "any", "ranks", "2.6.0", "2.13.0"] in lines
    assert ["distributed", "test_new", "any", "ranks", "2.13.0"] in lines
    assert set(runtime.ran) == {"None/2.6.0", "None/2.13.0"}


def test_the_table_is_over_every_recorded_run(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    suite("--pairs", "controls")
    suite()
    capsys.readouterr()
    assert main(["suite", "--table"]) == 0
    told = capsys.readouterr().out
    assert "| distributed | 2.6.0,2.13.0 | 1 | 1 | 1 | 0 | 1 | 1 | 0 |" in told
    assert "| `suite.test_mixed` | 2.6.0,2.13.0 WRONG; 2.13.0,2.6.0 WRONG |" in told


def test_a_recorded_run_is_decided_again_in_the_same_way(runtime: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    suite()
    first = capsys.readouterr().out
    assert main(["report", "latest"]) == 1
    assert capsys.readouterr().out == first


def test_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    faked(monkeypatch, Suites(stop_after=12))
    assert suite("-j", "1") == 2
    whole = faked(monkeypatch, Suites())
    assert suite("--resume", "-j", "1") == 1
    assert "None/2.6.0" not in whole.ran  # its list is in the record


def test_a_release_without_an_environment_leaves_its_cells_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    faked(monkeypatch, Suites(broken=(OLD,)))
    assert suite("--tests", "test_gather") == 1
    told = capsys.readouterr().out
    assert "no environment for 2.6.0: 2.6.0 is broken by the test" in told
    assert told.splitlines()[-1].endswith("not as expected or unknown")


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (["--tests", "test_gahter"], 4, "Near: test_gather"),
        (["--only", "nothing"], 5, "matches none"),
        (["--suite", "rpc"], 5, "no release has the suite rpc"),
        (["--table", "--out", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_can_not_be_run_is_said(
    runtime: Suites, capsys: pytest.CaptureFixture[str], line: list[str], code: int, says: str
) -> None:
    assert suite(*line) == code
    assert says in capsys.readouterr().err


def test_versions_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite"]) == 4
    assert "--versions is missing" in capsys.readouterr().err
