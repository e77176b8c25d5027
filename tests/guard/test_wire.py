"""A frame is refused by its length alone."""

from __future__ import annotations

import struct

import pytest
from torchskew.guard.wire import MOST_HELLO, unframe


@pytest.mark.parametrize("size", [MOST_HELLO + 1, 2**32 - 1])
def test_an_oversize_frame_is_refused_by_its_length_alone(size: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        unframe(b"", b"", struct.pack("!I", size), MOST_HELLO)
