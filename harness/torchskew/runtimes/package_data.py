"""Where the data folders of the package are: beside it in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
SCENARIOS, IMAGES = "scenarios", "images"


def data_folder(name: str) -> Path:
    """The folder `scenarios` or `images` (a wheel carries it as `torchskew/_NAME`)."""
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name
