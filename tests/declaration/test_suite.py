"""Releases are named or declared, and get what PyTorch's own tests import."""

from __future__ import annotations

import pytest
from torchskew.declaration.suite import suite_versions, with_backend
from torchskew.errors import ConfigError
from torchskew.model.versions import Source, SourceKind, Version

MINE = Version(
    name="mine", sources=(Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=("numpy==2.0",)),), torch="2.6.0"
)


def test_a_release_number_needs_no_declaration() -> None:
    (version,) = suite_versions(["2.13.0"], {}).values()
    assert (version.sources[0].value, version.torch) == ("torch==2.13.0", "2.13.0")
    assert version.sources[0].requires == ("expecttest", "hypothesis", "numpy", "setuptools")


def test_old_releases_get_numpy_1() -> None:
    (version,) = suite_versions(["2.2.2"], {}).values()
    assert version.sources[0].requires == ("expecttest", "hypothesis", "numpy<2", "setuptools<81")


def test_what_a_declaration_pins_stays() -> None:
    (version,) = suite_versions(["m*"], {"mine": MINE}).values()
    assert version.sources[0].requires == ("numpy==2.0", "expecttest", "hypothesis", "setuptools")


def test_every_wrong_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as told:
        suite_versions(["mime", "2.6"], {"mine": MINE})
    assert told.value.problems == (
        "--versions 'mime' is neither a declared version nor a release like 2.6.0. Near: mine.",
    )


def test_another_backend_is_a_setting_of_the_version() -> None:
    assert with_backend(MINE, "gloo") is MINE
    assert with_backend(MINE, "nccl").env == {"BACKEND": "nccl"}
