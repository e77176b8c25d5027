"""Reads the images folder: its templates and the catalogue of Debian suites."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from torchskew.declaration.fields import Document
from torchskew.declaration.suites import parse_suites
from torchskew.errors import ConfigError
from torchskew.model.versions import Suite
from torchskew.runtimes.package_data import IMAGES, data_folder


def images_folder() -> Path:
    """The folder of templates, the catalogue and the lock file."""
    return data_folder(IMAGES)


@cache
def load_suites() -> Mapping[str, Suite]:
    """Every suite of `images/suites.toml` by its name.

    Raises:
        ConfigError: the catalogue is missing or a field of it is wrong.
    """
    path = images_folder() / "suites.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}. Restore it from the distribution.") from error
    return parse_suites(Document(path=str(path), text=text))


def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: no such suite in the catalogue.
    """
    suites = load_suites()
    if name not in suites:
        raise ConfigError(f"suite {name!r} is not in the catalogue. Known: {', '.join(suites)}.")
    return suites[name]
