"""`--pairs boundary` runs what does not follow; `torchskew boundary` holds that against a run of all pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.record.record import Record
from torchskew.runtimes.fake import FakeRuntime, ended

from tests.conftest import faked

NAMES = ("2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.13.0")
DECLARATION = f"""
[versions]
{"".join(f'"{name}" = {{ pip = "torch=={name}" }}{chr(10)}' for name in NAMES)}
[matrix]
scenarios = ["rendezvous_file", "rng_state"]
timeout = 1
"""


class Divided(FakeRuntime):
    """2.1 meets nobody else; counts the ranks that were really started."""

    def __init__(self, odd: tuple[str, ...] = ()) -> None:
        self.ranks, self.odd = 0, odd
        super().__init__(self.rank)

    def rank(self, version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        self.ranks += 1
        skew = job["skew"]
        if ("2.1.2" in skew and set(skew) != {"2.1.2"}) or tuple(skew) == self.odd:
            error = {"type": "RuntimeError", "text": "Connection reset by peer"}
            return ended(version, exit_code=1, finished=False, error=error, error_after=0.1)
        return ended(version, finished=True, payload={"cases": {}}, phase="done")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "torchskew.toml").write_text(DECLARATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def results(project: Path) -> dict[str, dict[str, Any]]:
    with Record.open(project / "out" / "record.sqlite") as record:
        run_id = record.resolve("latest")
    cells = json.loads((project / "out" / run_id / "results.json").read_text())["cells"]
    return {cell["id"]: cell for cell in cells}


def test_a_bisection_gives_every_cell_a_result_and_runs_less_than_two_thirds(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = faked(monkeypatch, Divided())
    main(["matrix", "--runtime", "venv", "--no-cache"])
    full = results(project)
    part = faked(monkeypatch, Divided())
    main(["matrix", "--runtime", "venv", "--no-cache", "--pairs", "boundary"])
    found = results(project)
    assert {name: cell["outcomes"] for name, cell in found.items()} == {n: c["outcomes"] for n, c in full.items()}
    assert part.ranks < whole.ranks * 2 / 3
    said = capsys.readouterr()
    assert "cells to run" in said.err
    assert "cells (~) follow from" in said.out
    assert "~WRONG" in said.out
    follows = [cell for cell in found.values() if cell["inferred_from"]]
    assert all(set(cell["inferred_from"]) <= found.keys() and not cell["attempts"] for cell in follows)
    assert sum(1 for cell in found.values() if cell["attempts"]) + len(follows) == len(full)


def test_a_bisection_takes_from_the_cache_what_it_asks_for_and_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, Divided())
    main(["matrix", "--runtime", "venv"])
    again = faked(monkeypatch, Divided())
    main(["matrix", "--runtime", "venv", "--pairs", "boundary"])
    assert again.ranks == 0
    assert any(cell["inferred_from"] for cell in results(project).values())


def test_the_record_of_a_full_run_is_answered_again_and_compared(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    faked(monkeypatch, Divided())
    main(["matrix", "--runtime", "venv"])
    capsys.readouterr()
    assert main(["boundary"]) == 0
    said = capsys.readouterr().out
    assert "98 cells of 2 tables" in said
    assert "eras       2.1.2 | 2.2.2-2.13.0" in said
    assert said.endswith("the same answer in every cell\n")


def test_a_difference_is_named_and_is_exit_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    faked(monkeypatch, Divided(odd=("2.3.1", "2.5.1")))
    main(["matrix", "--runtime", "venv"])
    capsys.readouterr()
    assert main(["boundary"]) == 1
    said = capsys.readouterr().out
    assert "different  rendezvous_file/2.3.1,2.5.1/guard-off/venv: not run, inferred: " in said
    assert said.endswith("\n2 of 40 inferred cells differ from the run, 0 of them in the verdict\n")


def test_a_version_whose_release_nobody_knows_has_no_place_in_the_order(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "torchskew.toml").write_text(
        '[versions]\nsite = { pip = "torch" }\n"2.6.0" = { pip = "torch==2.6.0" }\n'
    )
    faked(monkeypatch, Divided())
    assert main(["matrix", "--runtime", "venv", "--pairs", "boundary", "--dry-run"]) == 4
    assert 'needs to know the release of site. Add torch = "X.Y.Z" to it.' in capsys.readouterr().err
