"""Say what listens on a port (a guard, a TCPStore and its era, something else) without harm to a live store."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from torchskew.errors import ConfigError
from torchskew.guard import torchskew_guard as guard

PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What answered. what: "guard", "store", "other" or "nothing"; era and backend of a store; table of a guard."""

    target: str
    what: str
    era: str | None = None
    backend: str | None = None
    table: dict[str, Any] = field(default_factory=dict)


def probe(target: str, as_json: bool = False) -> tuple[str, int]:
    """Look once at HOST:PORT. Returns the text (one JSON object with as_json) and the exit code.

    0 when a guard or a TCPStore answers, 1 when something else or nothing does; ConfigError for a wrong target.
    """
    host, port = parse(target)
    finding = ask(host, port, target)
    return (as_text(finding) if not as_json else as_line(finding)), (0 if finding.what in ("guard", "store") else 1)


def parse(target: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[::1]:port`."""
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"probe: a target is HOST:PORT, got {target!r}. Write for example 127.0.0.1:29500.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def ask(host: str, port: int, target: str, patience: float = PATIENCE) -> Finding:
    """One look, and a second one when nothing sensible came: a stalled store answers like none."""
    found = guard.look(host, port, patience)
    if found["what"] == "other":
        time.sleep(0.1)
        found = guard.look(host, port, patience)
    return Finding(target=target, **found)


def as_line(finding: Finding) -> str:
    """One JSON object; null for what does not apply."""
    releases = guard.SEEN[finding.era].removeprefix("of ") if finding.era else None
    table = finding.table or None
    return json.dumps({"schema": "1.0", "target": finding.target, "what": finding.what, "era": finding.era,
                       "releases": releases, "backend": finding.backend, "table": table})  # fmt: skip


def as_text(finding: Finding) -> str:
    """One paragraph for a person."""
    if finding.what == "nothing":
        return f"{finding.target}: nothing listens there"
    if finding.what == "other":
        return f"{finding.target}: something listens, but neither a guard nor a TCPStore"
    if finding.what == "store":
        served = dict.fromkeys(guard.SEEN[era].removeprefix("of ") for era in guard.SERVES[str(finding.era)])
        return (
            f"{finding.target}: a TCPStore {guard.SEEN[str(finding.era)]} ({finding.backend} back end), no guard\n"
            f"  it can serve clients of {' and '.join(served)}"
        )
    return "\n".join(_guard_lines(finding))


def _guard_lines(finding: Finding) -> list[str]:
    table = finding.table
    lines = [f"{finding.target}: a guard collects a group of {table.get('world')}"]
    if not table["groups"]:
        return [*lines, "  it has a secret, so it tells strangers no more"]
    for one in table["groups"]:
        where = ", ".join(one["hosts"])
        lines.append(f"  ranks {one['ranks']}: torch {one['torch']} on {where}")
    lines.append(f"  still missing: {table['missing'] or 'none'}")
    knocks = table["knocks"].items()
    lines += [f"  {count} stock client{'s' * (count > 1)} {guard.SEEN[era]} knocked" for era, count in knocks]
    return lines
