"""Reads the catalogue of breaks that comes with the package."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from torchskew.releases.breaks import Catalogue, catalogue_from

FILE = Path(__file__).resolve().parents[1] / "releases" / "breaks.json"
SCHEMA = FILE.with_name("breaks.schema.json")


@cache
def catalogue() -> Catalogue:
    """The catalogue of breaks."""
    return catalogue_from(json.loads(FILE.read_text(encoding="utf-8")))
