"""The catalogue of Debian suites: what each one's python3-torch is, and the settings its build needs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torchskew.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One suite. torch: upstream release; reports: what `torch.__version__` says; env: settings of each rank.

    download: megabytes that bootstrapping it with torch fetches. check_valid_until: False where the suite's index
    may have expired and is right all the same.
    """

    name: str
    torch: str
    reports: str
    python: str
    download: int
    env: Mapping[str, str] = field(default_factory=dict)
    check_valid_until: bool = True


def images_folder() -> Path:
    """The templates and catalogues: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / "_images"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "images"


@cache
def load_suites() -> Mapping[str, Suite]:
    """Every suite of `images/suites.toml` by its name.

    Raises:
        ConfigError: the catalogue is missing or a field of it is wrong.
    """
    path = images_folder() / "suites.toml"
    try:
        tables = tomllib.loads(path.read_text())
        return {name: Suite(name=name, **fields) for name, fields in tables.items()}
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise ConfigError(f"{path}: {error}. Restore it from the distribution.") from error


def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: no such suite in the catalogue.
    """
    suites = load_suites()
    if name not in suites:
        raise ConfigError(f"suite {name!r} is not in the catalogue. Known: {', '.join(suites)}.")
    return suites[name]
