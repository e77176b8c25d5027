"""Comparing two trees: in turn, red where one got slower, and no figures of a command that did not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import beside
from benchmarks.beside import Spent, Tree


def tree(folder: Path) -> Tree:
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    return Tree(folder=folder)


@pytest.mark.parametrize(("now", "code"), [(1.04, 0), (1.06, 1)])
def test_slower_by_more_than_a_twentieth_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], now: float, code: int
) -> None:
    order = []

    def run(self: Tree, words: tuple[str, ...]) -> Spent:
        order.append(self.folder == tmp_path)
        return Spent(processor=1.0 if self.folder == tmp_path else now, wall=9.0)

    monkeypatch.setattr(Tree, "run", run)
    monkeypatch.setattr(sys, "argv", ["beside", str(tmp_path), "--only", "record", "--rounds", "2"])
    assert beside.main() == code
    assert order == [False, True, True, False]
    assert f"processor    1.00 s, now    {now:.2f} s: {now:.2f}" in capsys.readouterr().out


def test_a_command_is_run_in_its_tree_with_its_cache(tmp_path: Path) -> None:
    code = "import os, pathlib; pathlib.Path('here').write_text(os.environ['XDG_CACHE_HOME'] + '{package}')"
    old = Tree(folder=tree(tmp_path).folder, cache="/its/own")
    assert old.run(("-c", code)).processor > 0
    assert (tmp_path / "here").read_text() == "/its/ownharness"


def test_a_command_that_breaks_gives_no_figures(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="INCOMPLETE: exit code 3 of "):
        tree(tmp_path).run(("-c", "raise SystemExit(3)"))
