"""`torchskew init` writes a file that the other commands take, and never over another."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.releases.measured import RELEASES
from torchskew.runtimes.fake import FakeRuntime
from torchskew.workflows.inputs import read_declaration

from tests.conftest import faked


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_file_it_writes_can_be_planned_at_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "2.6.0", "2.13.0"]) == 0
    assert "wrote torchskew.toml: 2.6.0, 2.13.0\nnext:\n  torchskew doctor " in capsys.readouterr().out
    assert list(read_declaration(here / "torchskew.toml").versions) == ["2.6.0", "2.13.0"]
    runtime = faked(monkeypatch, FakeRuntime())
    assert main(["matrix", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "rendezvous_tcp/2.6.0,2.13.0/guard-off/" in plan
    assert runtime.started == 0
    assert sorted(path.name for path in here.iterdir()) == ["torchskew.toml"]


def test_without_names_it_takes_the_three_newest(here: Path) -> None:
    assert main(["init"]) == 0
    assert tuple(read_declaration(here / "torchskew.toml").versions) == RELEASES[-3:]


def test_a_file_that_exists_is_never_changed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "torchskew.toml").write_text("# mine\n")
    assert main(["init", "2.6.0"]) == 4
    assert "torchskew.toml: exists already, and init never overwrites a file." in capsys.readouterr().err
    assert (here / "torchskew.toml").read_text() == "# mine\n"


def test_a_link_to_nowhere_is_a_file_that_exists(here: Path) -> None:
    (here / "torchskew.toml").symlink_to(here / "elsewhere.toml")
    assert main(["init", "2.6.0"]) == 4
    assert not (here / "elsewhere.toml").exists()


def test_another_file_may_be_named_and_the_hints_name_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "torchskew.toml").write_text("# mine\n")
    assert main(["init", "2.6.0", "--declaration", "other.toml"]) == 0
    assert "torchskew matrix -f other.toml --dry-run" in capsys.readouterr().out
    assert (here / "other.toml").exists()
    assert main(["init", "2.6.0", "-f", "nowhere/other.toml"]) == 4
    assert "there is no folder nowhere. Create it first." in capsys.readouterr().err


def test_printing_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--print", "2.6.0"]) == 0
    assert '"2.6.0" = { pip = "torch==2.6.0" }' in capsys.readouterr().out
    assert list(here.iterdir()) == []


def test_what_is_no_release_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "2.x"]) == 4
    assert "'2.x' is not a release. Write it like 2.6.0." in capsys.readouterr().err
    assert list(here.iterdir()) == []
