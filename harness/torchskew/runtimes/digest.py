"""Names content by a digest of its parts."""

from __future__ import annotations

import hashlib


def digest(*parts: str) -> str:
    """64 hexadecimal digits over the parts and their borders."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:{part}".encode())
    return whole.hexdigest()
