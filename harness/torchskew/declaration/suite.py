"""The releases whose own tests are to run, with the packages that the tests need beside torch. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from packaging.version import InvalidVersion
from packaging.version import Version as Release

from torchskew.declaration.candidate import with_packages
from torchskew.errors import ConfigError
from torchskew.model.versions import Source, SourceKind, Version

# What torch/testing/_internal/common_utils.py imports: up to 2.6 also setuptools, with pkg_resources up to 2.3, by
# way of torch/utils/cpp_extension.py. Up to 2.3 torch was built for NumPy 1.
NEEDS = ("expecttest", "hypothesis")
RECENT, OLD = ("numpy", "setuptools"), ("numpy<2", "setuptools<81")
OLD_UNTIL = Release("2.4")


def suite_versions(names: Sequence[str], declared: Mapping[str, Version]) -> Mapping[str, Version]:
    """The versions by name, oldest release first as they were given: declared ones, or plain release numbers.

    Raises:
        ConfigError: a name that is neither, with the nearest declared names.
    """
    chosen: dict[str, Version] = {}
    problems = []
    for name in names:
        matching = [version for key, version in declared.items() if fnmatchcase(key, name)]
        release = None if matching else _release(name)
        if not matching and release is None:
            near = difflib.get_close_matches(name, declared, n=3, cutoff=0.4)
            nearest = f" Near: {', '.join(near)}." if near else f" Declared: {', '.join(declared) or 'none'}."
            problems.append(f"--versions {name!r} is neither a declared version nor a release like 2.6.0.{nearest}")
        for version in matching or ([release] if release else []):
            chosen[version.name] = with_suite_needs(version)
    if problems:
        raise ConfigError(*problems)
    return chosen


def _release(name: str) -> Version | None:
    try:
        Release(name)
    except InvalidVersion:
        return None
    source = Source(kind=SourceKind.PIP, value=f"torch=={name}")
    return Version(name=name, sources=(source,), torch=name, reports=name)


def with_suite_needs(version: Version) -> Version:
    """The version with what PyTorch's tests import, beside torch."""
    return with_packages(version, (*NEEDS, *packages_of_its_time(version)))


def packages_of_its_time(version: Version) -> tuple[str, str]:
    """NumPy and setuptools as this release can use them; the newest where its release is not known."""
    return OLD if version.torch is not None and Release(version.torch) < OLD_UNTIL else RECENT


def with_backend(version: Version, backend: str) -> Version:
    """The version with the suites' backend, unless that is gloo: they read it while they are imported."""
    return version if backend == "gloo" else replace(version, env={**version.env, "BACKEND": backend})
