"""Bytes as people read them."""

from __future__ import annotations

import re

_STEP = 1000
_UNITS = ("B", "kB", "MB", "GB")


def readable(count: float) -> str:
    """`812 B`, `9.4 kB`, `192 MB`, `3.1 GB`, `72.4 GB`: gigabytes keep a decimal, since disks are compared in them."""
    unit, scaled = 0, float(count)
    while scaled >= _STEP and unit < len(_UNITS) - 1:
        unit, scaled = unit + 1, scaled / _STEP
    few = unit > 0 and scaled < (_STEP if _UNITS[unit] == "GB" else 10)
    return f"{scaled:.1f} {_UNITS[unit]}" if few else f"{scaled:.0f} {_UNITS[unit]}"


def bytes_in(text: str) -> int | None:
    """The bytes that a text like `2 GB`, `512 MB` or `1.5 GiB` names; None where it names none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B", text.strip())
    if found is None:
        return None
    number, prefix, binary = found.groups()
    power = "kMGT".index(prefix) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)
