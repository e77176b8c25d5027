"""The measurement goes block by block within the bound, goes on after an interruption, and becomes a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.model.outcomes import Verdict
from torchskew.model.runs import RunKind
from torchskew.model.versions import Version
from torchskew.record.record import Record
from torchskew.runtimes.base import Room
from torchskew.runtimes.fake import FakeRuntime, ended
from torchskew.workflows import cell_steps

from tests.conftest import faked
from tests.engine.fleet.desk import LocalCluster

RELEASES = ("2.1.2", "2.2.2", "2.6.0", "2.13.0")
DECLARATION = f"""
[versions]
{"".join(f'"{name}" = {{ pip = "torch=={name}" }}{chr(10)}' for name in RELEASES)}
[matrix]
scenarios = ["rendezvous_tcp", "rendezvous_file", "rng_state", "split_group"]
timeout = 1
"""
GB = 10**9


class Disk:
    """A disk on which every version takes two gigabytes; remembers what was there, and what went."""

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.gone: list[str] = []
        self.most_there = 0

    def room(self, versions: Sequence[Version]) -> Room:
        disk = self

        class Part:
            def wanted(self) -> Mapping[str, int]:
                return {version.name: 2 * GB for version in versions}

            def most(self, reserve: int) -> int:
                return 100 * GB - reserve

            def make(self, bound: int) -> tuple[str, ...]:
                names = [version.name for version in versions]
                spare = [name for name in disk.there if name not in names]
                while spare and 2 * GB * len({*disk.there, *names}) > bound:
                    disk.gone.append(spare.pop(0))
                    del disk.there[disk.gone[-1]]
                return tuple(disk.gone[-1:])

        return Part()


class Bounded(FakeRuntime):
    """Ranks that say their release, on a disk of a given size."""

    def __init__(self, disk: Disk, stop_after: int | None = None) -> None:
        self.disk, self.left = disk, stop_after
        super().__init__(self.rank)

    def rank(self, version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return ended(version, finished=True, payload={"cases": {}}, phase="done")

    def room(self, versions: Sequence[Version]) -> Room:  # type: ignore[override]
        return self.disk.room(versions)

    def provision(self, version, progress):  # type: ignore[no-untyped-def]
        self.disk.there[version.name] = 2 * GB
        self.disk.most_there = max(self.disk.most_there, len(self.disk.there))
        return super().provision(version, progress)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/compatibility.toml").write_text(DECLARATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


MEASURE = ["survey", "--measure", "--runtime", "venv", "-j", "1", "--write", "page.md"]


def test_what_the_disk_cannot_hold_at_once_is_measured_in_turns(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk()
    faked(monkeypatch, Bounded(disk))
    assert main([*MEASURE, "--disk", "4"]) == 0
    said = capsys.readouterr().err
    assert "disk       6 blocks of versions within 4.0 GB" in said
    assert "evicted    2." in said
    assert disk.most_there == 2
    with Record.open(project / "out" / "record.sqlite") as record:
        run = record.load()
    assert len(run.results) == len(run.plan.cells) == 4 * 16
    assert run.info.finished
    assert run.info.kind is RunKind.SURVEY
    assert set(run.info.environments) == set(RELEASES)


def test_what_fits_is_provisioned_once_and_nothing_is_evicted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    faked(monkeypatch, Bounded(disk))
    assert main(MEASURE) == 0
    assert (disk.most_there, disk.gone) == (4, [])
    assert (project / "page.md").exists()


def test_a_survey_runs_on_a_fleet_whose_disks_it_does_not_bound(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clusters: list[LocalCluster] = []

    def cluster(address: str) -> LocalCluster:
        assert address == "host:6379"
        clusters.append(LocalCluster({name: Bounded(Disk()) for name in ("a", "b")}))
        return clusters[-1]

    monkeypatch.setattr(cell_steps, "RayCluster", cluster)
    fleet = ["--fleet", "host:6379", "--versions", "2.6.0", "2.13.0"]
    assert main([*MEASURE, *fleet, "--disk", "4"]) == 4
    assert "--disk bounds the environments of this machine." in capsys.readouterr().err
    assert main([*MEASURE, *fleet]) == 0
    assert "2 nodes of a desk" in capsys.readouterr().err
    assert {name for name, _ in clusters[-1].sent} == {"a", "b"}


def test_a_rehearsal_says_why_it_has_no_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--fleet", "local:3"]) == 4
    assert "argument --fleet: a rehearsal makes its own nodes on this machine" in capsys.readouterr().err


def test_what_did_not_change_is_measured_once_and_the_page_names_the_run_it_is_from(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, Bounded(Disk()))
    assert main(MEASURE) == 0
    with Record.open(project / "out" / "record.sqlite") as record:
        first = record.resolve("latest")
        assert record.origins("latest") == (first,)
    assert main(MEASURE) == 0
    with Record.open(project / "out" / "record.sqlite") as record:
        assert record.resolve("latest") != first
        assert record.origins("latest") == (first,)
        second = record.resolve("latest")
    assert f"From `{second}`" in (project / "page.md").read_text()


def test_an_interrupted_measurement_goes_on_with_the_same_command(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, Bounded(Disk(), stop_after=21))
    line = [*MEASURE, "--disk", "4", "--no-cache"]
    assert main(line) == 2
    assert "of 64 cells are in the record; the same command again runs the rest." in capsys.readouterr().err
    with Record.open(project / "out" / "record.sqlite") as record:
        first = record.load()
    assert 0 < len(first.results) < len(first.plan.cells)
    again = Bounded(Disk())
    faked(monkeypatch, again)
    assert main(line) == 0
    assert f"resumed    {first.info.run_id}: {len(first.results)} of 64 cells were done" in capsys.readouterr().err
    with Record.open(project / "out" / "record.sqlite") as record:
        whole = record.load()
        assert len(record.runs()) == 1
        assert {len(record.attempts(whole.info.run_id, one.cell.id)) for one in whole.results} <= {0, 1}
    assert whole.info.run_id == first.info.run_id
    assert len(whole.results) == 64
    assert all(one.verdict is not Verdict.UNKNOWN for one in whole.results)


def test_a_run_never_goes_on_with_another_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, Bounded(Disk(), stop_after=5))
    assert main(MEASURE) == 2
    with Record.open(project / "out" / "record.sqlite") as record:
        record.provisioned(record.resolve("latest"), {"2.6.0": "another"})
    faked(monkeypatch, Bounded(Disk()))
    assert main(MEASURE) == 1
    assert "the environment of 2.6.0 has changed since the run started" in capsys.readouterr().err


def test_two_releases_that_never_fit_are_refused_before_anything_is_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    disk = Disk()
    faked(monkeypatch, Bounded(disk))
    assert main([*MEASURE, "--disk", "3"]) == 4
    assert "need 4.0 GB together, but only 3.0 GB are allowed" in capsys.readouterr().err
    assert disk.there == {}


def site_data(project: Path) -> Any:
    page = (project / "site/index.html").read_text(encoding="utf-8")
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_what_was_measured_becomes_facts_and_a_clone_without_a_record_makes_site_and_page_of_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, Bounded(Disk()))
    assert main([*MEASURE, "--save", "docs/survey.json"]) == 0
    shutil.rmtree(project / "out")
    assert main(["survey", "--html", "site"]) == 0
    assert "index.html · 4 releases · " in capsys.readouterr().out
    data = site_data(project)
    assert data["releases"] == list(RELEASES)
    assert {state.get("s", "") for state in data["states"]} == {""}
    before = (project / "page.md").read_text()
    assert main(["survey", "--write", "page.md"]) == 0
    assert (project / "page.md").read_text() == before


def test_a_release_that_comes_out_is_one_line_and_one_command(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First it is not declared, then it is declared and predicted, then it is measured beside one that is there."""
    faked(monkeypatch, Bounded(Disk()))
    assert main([*MEASURE, "--save", "docs/survey.json"]) == 0
    shutil.rmtree(project / "out")
    line = '"2.14.0" = { pip = "torch==2.14.0" }\n[matrix]'
    (project / "docs/compatibility.toml").write_text(DECLARATION.replace("[matrix]", line))
    assert main(["survey", "--html", "site"]) == 0
    data = site_data(project)
    assert data["parts"][0]["measured"] == [True, True, True, True, False]
    assert {state.get("s", "") for state in data["states"]} == {"", "predicted"}
    only = ["--versions", "2.14.0", "2.13.0", "--save", "docs/survey.json", "--html", "site"]
    assert main([*MEASURE, *only]) == 0
    data = site_data(project)
    assert data["releases"] == [*RELEASES, "2.14.0"]
    assert data["parts"][0]["measured"] == [True] * 5
    assert len(data["parts"][0]["runs"]) == 2
    names = [each["name"] for each in data["parts"][0]["scenarios"]]
    rows = data["parts"][0]["cells"][names.index("rendezvous_tcp")]
    at = data["releases"].index
    sources = {pair: data["states"][rows[at(pair[0])][at(pair[1])]].get("s", "") for pair in NEW_PAIRS}
    assert sources == NEW_PAIRS


NEW_PAIRS = {
    ("2.14.0", "2.13.0"): "",
    ("2.13.0", "2.14.0"): "",
    ("2.1.2", "2.2.2"): "",
    ("2.1.2", "2.14.0"): "predicted",
}


def test_without_facts_and_without_a_run_it_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["survey", "--html", "site"]) == 4
    assert "docs/survey.json: there are no facts of a survey. Measure first (`make survey`)" in capsys.readouterr().err
    assert not (project / "site").exists()


def test_the_old_word_answers_with_the_new_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del project
    main(["compatibility", "--html", "site"])
    assert "torchskew compatibility is called torchskew survey" in capsys.readouterr().err
