"""Which known break an error text or a log fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torchskew.errors import ConfigError
from torchskew.guard.table import parse
from torchskew.releases.diagnosis import Fault, diagnose
from torchskew.report.breaks import diagnosis_as_json, diagnosis_as_text, entry_as_text, page
from torchskew.report.catalogue import catalogue
from torchskew.workflows.log_scan import scan


def explain(texts: Sequence[str], first: str, second: str, *, as_json: bool = False) -> tuple[str, int]:
    """The answer as text (one JSON object with as_json) and the exit code.

    0: explained, whether it is a version's fault or not; 1: open or unknown. ConfigError: nothing to explain, a file
    that can't be read, a release that isn't one, one of two releases missing.
    """
    _check_releases(first, second)
    known = catalogue()
    if len(texts) == 1 and (entry := known.named(texts[0])) is not None:
        return entry_as_text(entry), 0
    material = scan(texts or _piped(), sys.stdin.buffer).material(first, second)
    diagnosis = diagnose(material, known)
    as_text = diagnosis_as_json if as_json else diagnosis_as_text
    return as_text(diagnosis, material), int(diagnosis.fault in (Fault.OPEN, Fault.UNKNOWN))


def _piped() -> Sequence[str]:
    """Standard input, where something is piped into it."""
    if sys.stdin.isatty():
        raise ConfigError("explain: nothing to explain. Give an error text, a log, or pipe one in.")
    return ("-",)


def _check_releases(first: str, second: str) -> None:
    for option, release in (("--from", first), ("--to", second)):
        if release and parse(release) is None:
            raise ConfigError(f"explain: {option} {release!r} is no release. Write one such as 2.6.0.")
    if bool(first) != bool(second):
        missing = "--to" if first else "--from"
        raise ConfigError(f"explain: two releases are compared. Add {missing}, the same release if both ranks ran it.")


def write_page(path: Path) -> int:
    """Write the whole catalogue as a page."""
    path.write_text(page(catalogue()), encoding="utf-8")
    sys.stdout.write(f"wrote {path}\n")
    return 0
