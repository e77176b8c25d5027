"""The published releases that were measured: the newest patch release of each era, oldest first."""

from __future__ import annotations

RELEASES = (
    "1.13.1", "2.0.1", "2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.13.0", "2.14.1", "2.15.0",
)  # fmt: skip
