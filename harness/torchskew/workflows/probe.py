"""Say what listens on a port (a guard, a TCPStore and its era, something else) without harm to a live store."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from torchskew.errors import ConfigError
from torchskew.guard.roster import Roster
from torchskew.guard.stock import Listener, look
from torchskew.guard.table import SEEN, SERVES

PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What listens at a target, as it was written and taken apart."""

    target: str
    host: str
    listener: Listener


def probe(target: str, as_json: bool = False) -> tuple[str, int]:
    """Look once at HOST:PORT. Returns the text (one JSON object with as_json) and the exit code.

    0 when a guard or a TCPStore answers, 1 otherwise; ConfigError for a target that isn't HOST:PORT.
    """
    host, port = parse(target)
    finding = Finding(target=target, host=host, listener=ask(host, port))
    text = as_line(finding) if as_json else as_text(finding)
    return text, 0 if finding.listener.what in ("guard", "store") else 1


def parse(target: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[::1]:port`."""
    before, _, after = target.rpartition(":")
    host = before.removeprefix("[").removesuffix("]")
    reason = ""
    if after.isdecimal() and not 0 < int(after) < 65536:
        reason = ": a port is 1 to 65535"
    elif host and not _encodes(host):
        reason = f": {host!r} can't be a host name"
    if reason or not host or not after.isdecimal():
        raise ConfigError(f"probe: a target is HOST:PORT, got {target!r}{reason}. Write for example 127.0.0.1:29500.")
    return host, int(after)


def _encodes(host: str) -> bool:
    """Whether name services can be asked for this: no empty label, none above 63 characters."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def ask(host: str, port: int, patience: float = PATIENCE) -> Listener:
    """One look, and a second one when nothing sensible came: a stalled store answers like none."""
    listener = look(host, port, patience)
    if listener.what == "other":
        time.sleep(0.1)
        listener = look(host, port, patience)
    return listener


def as_line(finding: Finding) -> str:
    """One JSON object; null for what does not apply."""
    listener = finding.listener
    releases = SEEN[listener.era].removeprefix("of ") if listener.era else None
    return json.dumps({
        "schema": "1.0", "target": finding.target, "what": listener.what, "era": listener.era or None,
        "releases": releases, "backend": listener.backend or None, "table": listener.roster,
    })  # fmt: skip


def as_text(finding: Finding) -> str:
    """One paragraph for a person."""
    target, listener = finding.target, finding.listener
    if listener.roster is not None:
        return "\n".join(_guard_lines(target, listener.roster))
    if listener.what == "store":
        served = dict.fromkeys(SEEN[era].removeprefix("of ") for era in SERVES[listener.era])
        return (
            f"{target}: a TCPStore {SEEN[listener.era]} ({listener.backend} back end), no guard\n"
            f"  it can serve clients of {' and '.join(served)}"
        )
    return (
        f"{target}: "
        + {
            "unresolved": f"the name {finding.host} does not resolve on this machine",
            "nothing": "nothing listens there",
            "other": "something listens, but neither a guard nor a TCPStore",
        }[listener.what]
    )


def _guard_lines(target: str, roster: Roster) -> list[str]:
    lines = [f"{target}: a guard collects a group of {roster['world']}"]
    if not roster["groups"]:
        return [*lines, "  it has a secret, so it shows strangers nothing else"]
    for group in roster["groups"]:
        where = ", ".join(group["hosts"])
        lines.append(f"  ranks {group['ranks']}: torch {group['torch']} on {where}")
    lines.append(f"  still missing: {roster['missing'] or 'none'}")
    knocks = roster["knocks"].items()
    lines += [f"  {count} stock client{'s' * (count > 1)} {SEEN[era]} knocked" for era, count in knocks]
    return lines
