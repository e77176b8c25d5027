"""A tree of Python files without a build: what it is, and what is wrong with what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.venv.tree import installed_beside, read_tree, settings

WHAT = 'versions."candidate" (x)'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    return tmp_path


def source(path: object) -> Source:
    return Source(kind=SourceKind.SOURCE, value=str(path), requires=("numpy",))


def test_a_release_is_what_the_build_wrote_else_what_a_checkout_says(tree: Path) -> None:
    assert read_tree(source(tree), WHAT).release == "unknown"
    (tree / "version.txt").write_text("2.16.0a0\n")
    assert read_tree(source(tree), WHAT).release == "2.16.0a0"
    (tree / "torch" / "version.py").write_text("from typing import Optional\n__version__ = '2.16.0a0+git1'\n")
    assert read_tree(source(tree), WHAT).release == "2.16.0a0+git1"


def test_any_changed_python_file_makes_it_another_tree(tree: Path) -> None:
    first = read_tree(source(tree), WHAT).content
    (tree / "torch" / "notes.txt").write_text("no Python")
    assert read_tree(source(tree), WHAT).content == first
    (tree / "torch" / "new.py").write_text("x = 1")
    second = read_tree(source(tree), WHAT).content
    (tree / "elsewhere").mkdir()
    (tree / "torch" / "linked").symlink_to(tree / "elsewhere")
    (tree / "torch" / "back").symlink_to(tree / "torch")
    assert read_tree(source(tree), WHAT).content == second
    (tree / "elsewhere" / "more.py").write_text("x = 1")
    assert len({first, second, read_tree(source(tree), WHAT).content}) == 3


def test_what_is_no_tree_is_refused_with_the_fix(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "holds no torch/__init__.py"), (tmp_path / "none", "is no folder")):
        with pytest.raises(ProvisionError, match=f"{words}. Write the path of a checkout of PyTorch"):
            read_tree(source(path), WHAT)


def test_what_stands_beside_it_is_installed_and_nothing_else(tree: Path) -> None:
    beside = installed_beside(source(tree))
    assert beside.kind is SourceKind.PIP
    assert "numpy" in beside.requires
    assert not any("torch" in each for each in (beside.value, *beside.requires))
    pip = Source(kind=SourceKind.PIP, value="torch==2.13.0")
    assert installed_beside(pip) is pip
    assert settings(pip, "2.13.0") == {}
    assert settings(source(tree), "2.16.0a0") == {"TORCHSKEW_TREE": str(tree), "TORCHSKEW_TREE_RELEASE": "2.16.0a0"}
