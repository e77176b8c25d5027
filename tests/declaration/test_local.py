"""Requirements that are files here: which they are, where they are, what is wrong with how they are written."""

from __future__ import annotations

import pytest
from torchskew.declaration.candidate import with_candidate, with_packages
from torchskew.declaration.declare import check_requirement, declare
from torchskew.declaration.fields import Document
from torchskew.declaration.local import local, located, package_name
from torchskew.errors import ConfigError
from torchskew.model.versions import Source, SourceKind, Version


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("numpy<2", None),
        ("mylib @ https://example.org/mylib-1.0-py3-none-any.whl", "whl"),
        ("./mylib", "/home/me/mylib"),
        ("../mylib", "/home/mylib"),
        ("/opt/mylib", "/opt/mylib"),
        ("libs/mylib", "/home/me/libs/mylib"),
        ("-e .", "-e /home/me"),
        ("--editable=../mylib", "-e /home/mylib"),
        ("dist/mylib-1.0-py3-none-any.whl", "/home/me/dist/mylib-1.0-py3-none-any.whl"),
    ],
)
def test_a_path_is_found_and_made_absolute(text: str, found: str | None) -> None:
    if found is None:
        assert local(text) is None
    if found in (None, "whl"):
        return
    assert located(text, "/home/me") == found
    assert located(found or "", "/elsewhere") == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-e dist/mylib-1.0-py3-none-any.whl", "can't install the wheel"),
        ("dist/mylib.whl", "must be the path of a wheel, name-version-python-abi-platform.whl"),
        ("numpy=1", "Write 'numpy==1'"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, problem: str) -> None:
    assert problem in (check_requirement(text, torch=False) or "")


def test_a_declaration_takes_local_requirements_relative_to_itself() -> None:
    text = '[versions]\na = { pip = "torch==2.6.0", requires = ["-e .", "numpy"] }\n'
    declared = declare(Document(path="/home/me/torchskew.toml", text=text))
    assert declared.versions["a"].sources[0].requires == ("-e /home/me", "numpy")


def test_folders_of_ranks_and_scenarios_are_relative_to_the_declaration() -> None:
    text = '[versions]\na = { pip = "torch==2.6.0" }\n[ranks]\npythonpath = ["src"]\nwarm = ["torch._dynamo"]\n'
    declared = declare(Document(path="/me/torchskew.toml", text=f'{text}[scenarios]\npath = "own"\n'))
    assert declared.ranks.pythonpath == ("/me/src",)
    assert declared.ranks.warm == ("torch._dynamo",)
    assert declared.scenarios == "/me/own"
    with pytest.raises(ConfigError, match="ranks.pythonpaths"):
        declare(Document(path="/me/torchskew.toml", text=text.replace("pythonpath", "pythonpaths")))


def test_the_candidate_replaces_what_a_version_requires_of_it() -> None:
    wheel, old = "/d/mylib-2.0-py3-none-any.whl", ("MyLib==1.0", "numpy")
    version = Version(name="a", sources=(Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=old),))
    assert package_name(wheel) == package_name("MyLib==1.0") == "mylib"
    assert with_candidate(version, wheel).sources[0].requires == ("numpy", wheel)
    assert with_packages(version, (wheel,)).sources[0].requires == old
    assert with_candidate(version, "") is version
