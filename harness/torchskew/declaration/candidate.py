"""Parses `--candidate KIND:VALUE` into a version, and selects the declared releases to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from packaging.version import Version as Release

from torchskew.declaration.declare import check_release, read_version
from torchskew.declaration.fields import Problems, Table
from torchskew.declaration.local import package_name
from torchskew.errors import ConfigError
from torchskew.model.versions import Source, SourceKind, Version

CANDIDATE, BASE = "candidate", "base"
KINDS = (SourceKind.PIP, SourceKind.WHEEL, SourceKind.IMAGE, SourceKind.INTERPRETER, SourceKind.SOURCE)


def read_candidate(text: str, name: str = CANDIDATE, *, torch: str | None = None, index: str | None = None) -> Version:
    """`pip:torch==2.15.0`, `wheel:PATH`, `image:REF`, `interpreter:PATH` or `source:PATH` as a version of that name.

    torch: the release it is built from, for predictions, where the value does not say. index: a package index to
    install from, besides the usual one.

    Raises:
        ConfigError: an unknown kind, a value that its kind can't have, or an index for a kind that is not installed.
    """
    option = f"--{name}"
    kind, colon, value = text.partition(":")
    if not colon or kind not in [each.value for each in KINDS]:
        known = ", ".join(f"{each.value}:…" for each in KINDS)
        raise ConfigError(f"{option} {text!r} must be one of {known}. Write {option} pip:torch==2.15.0.")
    if index and not SourceKind(kind).installed:
        raise ConfigError(f"--index {index}: {option} {text!r} is not installed from wheels. Remove one of the two.")
    problems = Problems(option)
    version = read_version(name, Table(problems, "", {kind: value, **({"index": index} if index else {})}))
    if torch and (problem := check_release(torch)):
        problems.texts.append(f"--torch {problem}")
    if problems.texts:
        raise ConfigError(*problems.texts)
    return replace(version, torch=torch) if torch else version


def with_packages(version: Version, packages: Sequence[str]) -> Version:
    """The version with these packages beside torch, except those that it pins itself; unchanged if not installed."""

    def extended(source: Source) -> Source:
        named = {package_name(text) for text in source.requires}
        new = tuple(text for text in packages if package_name(text) not in named)
        return replace(source, requires=(*source.requires, *new)) if source.kind.installed else source

    return replace(version, sources=tuple(extended(source) for source in version.sources))


def with_candidate(version: Version, package: str, name_of: Callable[[str], str] = package_name) -> Version:
    """The version with the library that is the candidate, whatever the version itself would install of it.

    name_of: the name of what a requirement installs, also where only its project's files have it.
    """
    if not package:
        return version
    name = name_of(package)
    others = tuple(
        replace(source, requires=tuple(text for text in source.requires if name_of(text) != name))
        for source in version.sources
    )
    return with_packages(replace(version, sources=others), (package,))


def releases_against(
    versions: Mapping[str, Version], against: Sequence[str], last: int | None = None
) -> tuple[str, ...]:
    """Names of the declared versions that a candidate must work with, in the order of the declaration.

    against: names; if empty, every declared version, or the newest `last` of those whose release is known.

    Raises:
        ConfigError: a name that is not declared, or no version is left.
    """
    reserved = [name for name in (CANDIDATE, BASE) if name in against]
    unknown = [name for name in against if name not in versions and name not in reserved]
    if unknown or reserved:
        known = ", ".join(name for name in versions if name not in (CANDIDATE, BASE))
        raise ConfigError(*(f"--against names {name!r}. Declared releases: {known}." for name in [*unknown, *reserved]))
    names = [name for name in versions if name not in (CANDIDATE, BASE)]
    if against:
        return tuple(dict.fromkeys(against))
    if last is not None:
        dated = sorted((name for name in names if versions[name].torch), key=lambda name: _release(versions[name]))
        names = [name for name in names if name in dated[-last:]]
    if not names:
        raise ConfigError("the declaration has no release to compare the candidate with. Add one to [versions].")
    return tuple(names)


def _release(version: Version) -> Release:
    return Release(version.torch or "0")
