"""The catalogue of Debian suites: what each one's python3-torch is, and the settings its build needs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from torchskew.declaration.fields import Document
from torchskew.errors import ConfigError
from torchskew.model.versions import Suite


def parse_suites(document: Document) -> Mapping[str, Suite]:
    """Every suite of the catalogue by its name.

    Raises:
        ConfigError: the catalogue is not valid TOML, or one of its fields is wrong.
    """
    try:
        tables = tomllib.loads(document.text)
        return {name: Suite(name=name, **fields) for name, fields in tables.items()}
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ConfigError(f"{document.path}: {error}. Restore it from the distribution.") from error
