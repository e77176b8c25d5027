"""A candidate is one option's text; what it is held against are declared releases."""

from __future__ import annotations

import pytest
from torchskew.declaration.candidate import read_candidate, releases_against, with_packages
from torchskew.errors import ConfigError
from torchskew.model.versions import Source, SourceKind, Version

PIP = (Source(kind=SourceKind.PIP, value="torch"),)
DECLARED = {name: Version(name=name, sources=PIP, torch=name) for name in ("2.10.0", "2.2.2", "2.9.1")}
DECLARED["site"] = Version(name="site", sources=PIP)


@pytest.mark.parametrize(
    ("text", "kind", "value", "torch"),
    [
        ("pip:torch==2.15.0", SourceKind.PIP, "torch==2.15.0", "2.15.0"),
        ("wheel:/d/torch-2.16.0-cp311-cp311-linux_x86_64.whl", SourceKind.WHEEL, None, "2.16.0"),
        ("image:registry:5000/torch@sha256:00", SourceKind.IMAGE, "registry:5000/torch@sha256:00", None),
        ("interpreter:/opt/t/bin/python", SourceKind.INTERPRETER, "/opt/t/bin/python", None),
        ("source:/src/pytorch", SourceKind.SOURCE, "/src/pytorch", None),
    ],
)
def test_each_kind_of_candidate(text: str, kind: SourceKind, value: str | None, torch: str | None) -> None:
    version = read_candidate(text)
    assert (version.name, version.sources[0].kind, version.torch) == ("candidate", kind, torch)
    assert value is None or version.sources[0].value == value


def test_a_candidates_release_can_be_told() -> None:
    assert read_candidate("interpreter:/p", torch="2.16.0").torch == "2.16.0"


@pytest.mark.parametrize(
    "text", ["torch==2.15.0", "conda:torch", "pip:torch=2.15", "pip:numpy", "wheel:torch.whl", "image:"]
)
def test_what_is_no_candidate_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(ConfigError, match="--candidate"):
        read_candidate(text)


def test_an_index_is_where_the_candidate_comes_from() -> None:
    assert read_candidate("pip:torch==2.16.0rc1", index="file:///rc").sources[0].index == "file:///rc"
    with pytest.raises(ConfigError, match="--index file:///rc: --candidate 'image:x' is not installed from wheels"):
        read_candidate("image:x", index="file:///rc")


def test_packages_stand_beside_torch_where_it_is_installed_and_names_none_of_its_own() -> None:
    pip = Source(kind=SourceKind.PIP, value="torch==2.1.2", requires=("NumPy<2",))
    image = Source(kind=SourceKind.IMAGE, value="site/torch")
    version = with_packages(Version(name="x", sources=(pip, image)), ("numpy", "setuptools"))
    assert [source.requires for source in version.sources] == [("NumPy<2", "setuptools"), ()]


def test_against_nothing_means_every_declared_release() -> None:
    assert releases_against(DECLARED, ()) == ("2.10.0", "2.2.2", "2.9.1", "site")


def test_the_last_ones_are_the_newest_releases_not_the_last_lines() -> None:
    assert releases_against(DECLARED, (), last=2) == ("2.10.0", "2.9.1")


def test_a_release_that_nobody_declared_is_an_error_that_names_the_declared_ones() -> None:
    with pytest.raises(ConfigError, match=r"'2\.3\.0'.*2\.10\.0, 2\.2\.2"):
        releases_against(DECLARED, ("2.3.0",))


def test_a_candidate_is_never_held_against_itself() -> None:
    with pytest.raises(ConfigError, match="--against names 'candidate'"):
        releases_against(DECLARED, ("candidate",))


def test_a_release_of_the_candidate_that_is_none_is_told_with_its_option() -> None:
    """Found by `make chaos`: the plan met it, as a traceback."""
    with pytest.raises(ConfigError, match="--torch must be a release like '2.6.0', got 'plain'"):
        read_candidate("interpreter:/opt/python", torch="plain")
