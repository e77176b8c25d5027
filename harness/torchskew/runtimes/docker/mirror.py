"""Finds the Debian mirror of this host, with the site's own proxy and certificates."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchskew.runtimes.docker.catalogue import load_suites

VARIABLE = "TORCHSKEW_DEBIAN_MIRROR"
FIX = f"Set {VARIABLE} to the address of a Debian mirror"
_OPTIONS = re.compile(r"^(deb)\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)$")
_OTHER_ARCHIVES = ("-security", "-debug", "-backports", "/updates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where Debian comes from. signed_by: a keyring of the site's own, or None for Debian's."""

    uri: str
    signed_by: str | None = None

    @property
    def shown(self) -> str:
        """Its address without a user's name and password."""
        return re.sub(r"//[^/@]*@", "//", self.uri)

    def line(self, suite: str) -> str:
        """The line of a sources.list for a suite."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {suite} main"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None


def find_mirror(environ: Mapping[str, str], root: Path = Path("/")) -> Mirror | None:
    """The declared mirror, else the host's own when the host is Debian, else None."""
    declared = environ.get(VARIABLE)
    if declared:
        return Mirror(uri=declared.rstrip("/"))
    if not _is_debian(root):
        return None
    entries = [entry for entry in _entries(root / "etc/apt") if _carries_debian(entry)]
    known = load_suites()
    entries.sort(key=lambda entry: entry.suite not in known)
    return next((Mirror(uri=entry.uri.rstrip("/"), signed_by=entry.signed_by) for entry in entries), None)


def apt_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to add for an apt elsewhere: the proxies that only this host's apt configuration names."""
    if shutil.which("apt-config") is None:
        return {}
    command = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    proxies = dict(part.split("=", 1) for part in shlex.split(shown) if "=" in part)
    return {name: value for name, value in proxies.items() if value and not environ.get(name)}


def certificates(environ: Mapping[str, str]) -> str | None:
    """The bundle of certificates that this host's tools trust, when it exists."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"):
        path = environ.get(name)
        if path and Path(path).is_file():
            return path
    return None


def _is_debian(root: Path) -> bool:
    try:
        lines = (root / "etc/os-release").read_text().splitlines()
    except OSError:
        return False
    return any(line.replace('"', "") == "ID=debian" for line in lines)


def _carries_debian(entry: _Entry) -> bool:
    other = any(part in entry.suite for part in _OTHER_ARCHIVES) or "security" in entry.uri
    return "main" in entry.components and not other and ("debian" in entry.uri or entry.suite in load_suites())


def _entries(apt: Path) -> Iterator[_Entry]:
    folder = apt / "sources.list.d"
    for path in [apt / "sources.list", *sorted(folder.glob("*.list"))]:
        yield from _one_line(_text(path).splitlines())
    for path in sorted(folder.glob("*.sources")):
        for paragraph in re.split(r"\n\s*\n", _text(path)):
            yield from _deb822(paragraph.splitlines())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""  # apt itself complains about it


def _one_line(lines: Iterable[str]) -> Iterator[_Entry]:
    for line in lines:
        match = _OPTIONS.match(line.split("#", 1)[0].strip())
        if match:
            options = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
            components = tuple(match["components"].split())
            signed_by = _own_key(options.get("signed-by"))
            yield _Entry(uri=match["uri"], suite=match["suite"], components=components, signed_by=signed_by)


def _deb822(lines: Iterable[str]) -> Iterator[_Entry]:
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}".strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
        return
    components = tuple(fields.get("components", "").split())
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            signed_by = _own_key(fields.get("signed-by"))
            yield _Entry(uri=uri, suite=suite, components=components, signed_by=signed_by)


def _own_key(path: str | None) -> str | None:
    """A keyring of the site's own; Debian's are found by the tools, and an embedded key can't be passed on."""
    if not path or not path.startswith("/") or "debian-archive" in path:
        return None
    return path.split()[0]
