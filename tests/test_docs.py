"""The pages that say where things are agree with the packages; TORCHSKEW_WRITE_GOLDEN=1 writes the tree anew."""

from __future__ import annotations

import ast
import os
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests import house
from tests.conftest import ROOT

PACKAGE = ROOT / "harness" / "torchskew"
ONBOARDING = ROOT / "docs" / "onboarding.md"
ROW = re.compile(r"^\| `([\w/]+/)` \| (.+) \|$", re.MULTILINE)


def sentence(path: Path) -> str:
    """The first paragraph of a package's docstring, in one line."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def packages() -> dict[str, str]:
    """Every room that is a package, and what its docstring says belongs there."""
    inits = sorted(PACKAGE.glob("*/__init__.py"))
    return {f"{path.parent.name}/": sentence(path) for path in inits}


def with_rows(page: str, wanted: dict[str, str]) -> str:
    """The page with a row for each package: those it has in their order, new ones after them."""
    order = [name for name, _ in ROW.findall(page) if name in wanted]
    order += [name for name in wanted if name not in order]
    rows = [f"| `{name}` | {wanted[name]} |" for name in order]
    first = ROW.search(page)
    assert first, "the page has no table of packages"
    head, tail = page[: first.start()], page[first.start() :]
    while ROW.match(tail):
        tail = tail.partition("\n")[2]
    return head + "\n".join(rows) + "\n" + tail


def test_the_tree_in_onboarding_says_what_each_package_says_of_itself() -> None:
    page = ONBOARDING.read_text(encoding="utf-8")
    if os.environ.get("TORCHSKEW_WRITE_GOLDEN"):
        page = with_rows(page, packages())
        ONBOARDING.write_text(page, encoding="utf-8")
    assert dict(ROW.findall(page)) == packages()
    assert [name for name, text in packages().items() if not text.endswith(".")] == []


def test_the_graph_of_rooms_in_the_design_is_the_one_the_house_test_enforces() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = page.partition("```rooms\n")[2].partition("```")[0]
    rooms = {path.stem for path in PACKAGE.iterdir() if path.stem != "__init__"}
    wanted = [names for level in house.ROOMS if (names := [name for name in level if name in rooms])]
    assert [line.partition("  ")[0].split(", ") for line in block.splitlines()] == wanted


WALK = re.findall(
    r"^\| [\w ]+ \| `([\w.]+)` \|",
    (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## A cell's walk")[2].partition("\n## ")[0],
    re.MULTILINE,
)


def test_the_walk_of_a_cell_has_its_steps() -> None:
    assert len(WALK) == 19


@pytest.mark.parametrize("name", WALK)
def test_the_walk_of_a_cell_names_functions_that_exist(name: str) -> None:
    parts = name.split(".")
    depth = next(count for count in range(len(parts) - 1, 0, -1) if _is_module(parts[:count]))
    place = import_module(".".join(["torchskew", *parts[:depth]]))
    for part in parts[depth:]:
        place = getattr(place, part)
    assert callable(place)


def _is_module(parts: list[str]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()
