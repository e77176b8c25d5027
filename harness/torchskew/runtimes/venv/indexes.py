"""Carries pip's settings to uv, which reads none of them: indexes, wheel folders, proxy, certificates."""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

_SECTIONS = ("global", "download", "install")
# pip's name -> uv's; a list is joined by the character uv wants.
_LISTS = {
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
_SINGLE = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "timeout": "UV_HTTP_TIMEOUT"}
_SYSTEM = (Path("/etc/pip.conf"),)
_UV_SYSTEM = Path("/etc/uv/uv.toml")
_INDEX_KEYS = {"index", "index-url", "default-index", "extra-index-url", "find-links", "no-index", "pip"}


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to add for uv; whatever the environment or uv's own files say already is left alone."""
    pip = _pip(environ)
    variables = {theirs: pip[ours] for ours, theirs in _SINGLE.items() if pip.get(ours)}
    for ours, (theirs, joint) in _LISTS.items():
        if pip.get(ours):
            variables[theirs] = joint.join(pip[ours].split())
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if bundle:
        variables.setdefault("SSL_CERT_FILE", bundle)
    if pip.get("proxy"):
        variables |= {"HTTP_PROXY": pip["proxy"], "HTTPS_PROXY": pip["proxy"]}
    if _uv_has_indexes(environ):
        variables = {name: value for name, value in variables.items() if not name.startswith("UV_")}
    elif "UV_INDEX" in variables:
        # pip takes the best of all its indexes, uv the first that knows the name.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in variables.items() if not _is_set(name, environ)}


def flags(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What no variable of uv can say."""
    shut = _pip(environ).get("no-index", "").lower() in ("1", "true", "yes", "on")
    return ("--no-index",) if shut else ()


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    older = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
    names = (name, name.lower(), older.get(name, name))
    return any(environ.get(each) for each in names)


def _pip(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip would use: its files, least specific first, then PIP_ variables."""
    options: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself will complain about it
        for section in _SECTIONS:
            if parser.has_section(section):
                options |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return options


def _pip_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return ()
    shared = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    mac = home / "Library/Application Support/pip/pip.conf"
    paths = [Path(folder) / "pip/pip.conf" for folder in shared.split(os.pathsep)]
    paths += [*_SYSTEM, home / ".pip/pip.conf", mac, user / "pip/pip.conf"]
    paths += [Path(sys.prefix) / "pip.conf"]
    if environ.get("PIP_CONFIG_FILE"):
        paths.append(Path(environ["PIP_CONFIG_FILE"]))
    return tuple(paths)


def _uv_has_indexes(environ: Mapping[str, str]) -> bool:
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for path in (user / "uv/uv.toml", _UV_SYSTEM):
        try:
            if _INDEX_KEYS & tomllib.loads(path.read_text()).keys():
                return True
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue  # absent, or uv itself will complain about it
    return False
