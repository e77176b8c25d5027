"""The one file that jobs copy is what the modules come to, and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from torchskew import __version__, cli
from torchskew.guard import launch
from torchskew.guard.generate import FILE, HERE, MODULES, generated
from torchskew.guard.hello import FIELDS, Hello
from torchskew.inside.protocol import FILES


def test_the_committed_file_is_what_the_modules_generate() -> None:
    assert FILE.read_bytes() == generated().encode(), "Write it again: make guard-file"


@pytest.mark.parametrize("module", MODULES)
def test_a_change_of_any_module_makes_the_committed_file_stale(module: str, modules: Path) -> None:
    path = modules / f"{module}.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n\nCHANGED = True\n", encoding="utf-8")
    assert FILE.read_bytes() != generated(modules).encode()


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A copy of the package, to change."""
    return Path(shutil.copytree(HERE, tmp_path / "guard"))


def test_every_module_of_the_guard_is_in_the_file() -> None:
    own = {"__init__", "__main__", "autoload", "environment", "generate", FILE.stem}
    assert {path.stem for path in HERE.glob("*.py")} - own == set(MODULES)


def test_the_file_opens_with_its_usage_and_says_where_it_comes_from() -> None:
    text = FILE.read_text(encoding="utf-8")
    doc = launch.__doc__ or ""
    assert text.startswith(f'"""{doc}"""')
    assert f"# Generated from torchskew {__version__}, do not edit" in text


@pytest.mark.parametrize(
    ("module", "line", "says"),
    [
        ("pace", "def decide(): pass", "decide is defined by verdict.py and by pace.py. Rename one of them."),
        ("pace", "def json(): pass", "json is defined by an import and by pace.py. Rename one of them."),
        ("pace", "import os", "pace.py: an import below other statements. Put all imports first."),
        ("pace", "def late():\n    from torchskew.guard.table import era\n", "inside a function means nothing in one"),
    ],
)
def test_modules_that_would_mean_something_else_in_one_file_are_refused(
    module: str, line: str, says: str, modules: Path
) -> None:
    path = modules / f"{module}.py"
    path.write_text(path.read_text(encoding="utf-8") + f"\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        generated(modules)


@pytest.mark.parametrize(
    "line", ["import torchskew.guard.table", "from torchskew.guard.table import era as kind", "from .table import era"]
)
def test_an_import_between_modules_is_written_in_one_way(line: str, modules: Path) -> None:
    path = modules / "pace.py"
    text = path.read_text(encoding="utf-8").replace("import time\n", f"import time\n{line}\n", 1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"pace\.py: write `from torchskew\.guard\.MODULE import "):
        generated(modules)


def test_the_file_stands_alone(tmp_path: Path) -> None:
    """Without torchskew on the path, and with everything that its modules define."""
    shutil.copy(FILE, tmp_path / "protocol_version.py")
    show = (
        "import sys, protocol_version as guard\n"
        "print([name for name in sys.modules if name.startswith('torchskew')], guard.parse('2.6.0'))"
    )
    command = [sys.executable, "-S", "-c", show]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[] (2, 6, 0)\n"


def test_the_file_has_every_name_of_its_modules() -> None:
    module = loaded()
    for name in MODULES:
        part = importlib.import_module(f"torchskew.guard.{name}")
        own = {each for each in vars(part) if not each.startswith("__")}
        assert own <= vars(module).keys(), name


def loaded() -> types.ModuleType:
    """The file as a job imports it."""
    spec = importlib.util.spec_from_file_location("vendored_guard", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_printed_file_is_the_guard_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guard", "--print"]) == 0
    assert capsys.readouterr().out == FILE.read_text(encoding="utf-8")


def test_the_agent_sends_the_file_that_is_printed() -> None:
    assert FILES["torchskew_guard"] == FILE


def test_a_hello_has_the_type_that_its_fields_say() -> None:
    kinds = {name: kind.__name__ for name, (kind, _) in FIELDS.items()}
    assert {name: kind.__forward_arg__ for name, kind in Hello.__annotations__.items()} == kinds
