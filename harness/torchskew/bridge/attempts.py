"""Removes the prefix that ranks up to 2.5 put before their keys under torchrun's settings; 2.6 and later add none."""

from __future__ import annotations

import re
from typing import Any, List, Optional

_PREFIX = re.compile(rb"/*/worker/attempt_([0-9]+)/")
MARK = b"/worker/attempt_"


class Attempts:
    """One bridge serves one attempt: the first that it sees. Keys of another attempt stay apart, as they are."""

    def __init__(self) -> None:
        self.number: Optional[bytes] = None

    def strip(self, key: bytes) -> bytes:
        """A key as 2.6 and later write it."""
        match = _PREFIX.match(key) if MARK in key[:64] else None
        if match is None:
            return key
        if self.number is None:
            self.number = match.group(1)
        return b"/" + key[match.end() :] if match.group(1) == self.number else key

    def strip_all(self, argument: Any) -> Any:
        """The keys of a message with several, or with pairs."""
        parts: List[Any] = argument
        if parts and isinstance(parts[0], tuple):
            return [(self.strip(key), value) for key, value in parts]
        return [self.strip(key) for key in parts]
