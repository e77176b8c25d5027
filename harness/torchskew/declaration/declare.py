"""Turns torchskew.toml and the baseline beside it into one frozen Declaration, or reports every problem at once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version as Release

from torchskew.declaration.baseline import parse_baseline
from torchskew.declaration.fields import Document, Problems, Table, join, last_part, parse
from torchskew.declaration.fleet import read_fleet
from torchskew.declaration.local import check_local, local, located
from torchskew.errors import ConfigError
from torchskew.model.declared import Declaration, MatrixSpec, RanksTable
from torchskew.model.outcomes import Guard, Placement, Store
from torchskew.model.runtimes import AUTO, RUNTIMES, choices, providers
from torchskew.model.versions import Source, SourceKind, Suite, Version

NAME = re.compile(r"[A-Za-z0-9._-]+")
# Most specific first: a runtime takes the first source it can use.
SOURCE_ORDER = (
    SourceKind.IMAGE, SourceKind.DEBIAN, SourceKind.INTERPRETER, SourceKind.SOURCE, SourceKind.WHEEL, SourceKind.PIP,
)  # fmt: skip
VERSION_FIELDS = [kind.value for kind in SOURCE_ORDER] + ["python", "index", "requires", "env", "torch", "reports"]
MATRIX_FIELDS = (
    "runtime", "versions", "pairs", "world_sizes", "worlds", "scenarios", "guard", "store", "placement", "timeout",
)  # fmt: skip
PAIRS = ("all", "boundary", "neighbours")
NO_SUITES: Mapping[str, Suite] = MappingProxyType({})


def declare(
    document: Document, suites: Mapping[str, Suite] = NO_SUITES, baseline: Document | None = None
) -> Declaration:
    """The declaration, with the expectations of the baseline beside it.

    suites: the Debian suites that versions may name.

    Raises:
        ConfigError: with every problem of both files.
    """
    problems = Problems(document.name)
    top = Table(problems, "", parse(document))
    top.unknown(["versions", "matrix", "rehearsal", "gate", "ranks", "scenarios", "checks", "fleet"])
    folder = posixpath.dirname(document.path)
    versions = {name: read_version(name, table, suites, folder) for name, table in top.tables("versions")}
    if not versions and not problems.texts:
        problems.add("", 'declares no version. Write [versions] with lines like "2.6.0" = { pip = "torch==2.6.0" }.')
    _same_name(versions, problems)
    matrix = _matrix(Table(problems, "matrix", top.get("matrix", dict, {})), versions)
    ranks = _ranks(Table(problems, "ranks", top.get("ranks", dict, {})), document)
    own = Table(problems, "scenarios", top.get("scenarios", dict, {}))
    own.unknown(["path"])
    scenarios = own.get("path", str, "")
    fleet = read_fleet(Table(problems, "fleet", top.get("fleet", dict, {})))
    wrong = Problems(baseline.name if baseline else "")
    expectations = parse_baseline(baseline, wrong) if baseline else ()
    if problems.texts or wrong.texts:
        raise ConfigError(*problems.texts, *wrong.texts)
    return Declaration(
        path=document.path,
        versions=versions,
        matrix=matrix,
        expectations=expectations,
        ranks=ranks,
        scenarios=beside(document, scenarios) if scenarios else "",
        fleet=fleet,
    )


def beside(document: Document, path: str) -> str:
    """A path that a declaration names, which is relative to the declaration's own folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(document.path), path))


def _ranks(table: Table, document: Document) -> RanksTable:
    table.unknown(["pythonpath", "warm", "data"])
    return RanksTable(
        pythonpath=tuple(beside(document, path) for path in table.texts("pythonpath", ())),
        warm=table.texts("warm", ()),
        data=tuple(beside(document, path) for path in table.texts("data", ())),
    )


def for_runtime(version: Version, runtime: str, problems: Problems, *, at: str | None = None) -> Version:
    """The version as this runtime gets it: one source, with the facts of that source.

    at: the path to report a problem at, unless that is the declaration's.
    """
    row = RUNTIMES[runtime]
    usable = [source for source in version.sources if source.kind in row.sources]
    if not usable:
        have = ", ".join(source.kind.value for source in version.sources)
        need = ", ".join(kind.value for kind in row.sources)
        others = "".join(f', set runtime = "{name}"' for name in providers(version))
        text = f"comes from {have}, which the {runtime} runtime can't use. Add one of {need}{others}, or leave it out."
        problems.add(at or join("versions", version.name), text)
        return version
    source = usable[0]
    if source.suite is not None:
        suite = source.suite
        env = {**suite.env, **version.env}
        return replace(version, sources=(source,), torch=version.torch or suite.torch, reports=suite.reports, env=env)
    python = row.python if source.kind.installed and not source.python else ""
    return replace(version, sources=(source,), reports=version.reports or _pinned(source), known_python=python)


def all_for_runtime(versions: Mapping[str, Version], runtime: str, file: str) -> dict[str, Version]:
    """Each version as this runtime gets it; ConfigError naming all that it can't use. file: for that text."""
    problems = Problems(file)
    chosen = {name: for_runtime(version, runtime, problems) for name, version in versions.items()}
    if problems.texts:
        raise ConfigError(*problems.texts)
    return chosen


def _same_name(versions: Mapping[str, Version], problems: Problems) -> None:
    folded: dict[str, str] = {}
    for name in versions:
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            text = f"differs from {join('versions', twin)} only in upper and lower case. Rename one of them."
            problems.add(join("versions", name), text)


def read_version(name: str, table: Table, suites: Mapping[str, Suite] = NO_SUITES, folder: str = "") -> Version:
    """The version that a table declares; problems are collected. folder: what local requirements are relative to."""
    if not NAME.fullmatch(name):
        table.problems.add(table.path, "is not a name: use letters, digits, '.', '_' and '-' only.")
    table.unknown(VERSION_FIELDS)
    kinds = [kind for kind in SOURCE_ORDER if kind.value in table.values]
    if not kinds:
        table.problems.add(table.path, f"has no source. Give one of {', '.join(k.value for k in SOURCE_ORDER)}.")
    shared = Source(
        kind=SourceKind.PIP,
        value="",
        python=table.get("python", str, "") or None,
        index=table.get("index", str, "") or None,
        requires=tuple(located(text, folder) for text in table.texts("requires", ())),
    )
    sources = tuple(_source(shared, kind, table, suites) for kind in kinds)
    for source in sources:
        _check_source(source, table, suites)
    env = {key: str(value) for key, value in table.get("env", dict, {}).items()}
    release = _release(table) or next(filter(None, map(_pinned, sources)), None)
    return Version(name=name, sources=sources, torch=release, reports=table.get("reports", str, "") or None, env=env)


def _release(table: Table) -> str:
    """The release that the user says it is; empty where nothing is said."""
    text = table.get("torch", str, "")
    if text and (problem := check_release(text)):
        table.problems.add(join(table.path, "torch"), problem)
        return ""
    return text


def check_release(text: str) -> str | None:
    """What is wrong with a release, or None."""
    try:
        Release(text)
    except ValueError:  # InvalidVersion is one, and so is a number of thousands of digits
        return f"must be a release like '2.6.0', got {text!r}."
    return None


def _source(shared: Source, kind: SourceKind, table: Table, suites: Mapping[str, Suite]) -> Source:
    value = table.get(kind.value, str, "")
    return replace(shared, kind=kind, value=value, suite=suites.get(value) if kind is SourceKind.DEBIAN else None)


def _check_source(source: Source, table: Table, suites: Mapping[str, Suite]) -> None:
    path = join(table.path, source.kind.value)
    checks: Mapping[SourceKind, Callable[[str], str | None]] = {
        SourceKind.PIP: check_requirement,
        SourceKind.WHEEL: _check_wheel,
        SourceKind.DEBIAN: lambda text: _check_suite(text, suites),
    }
    problem = checks[source.kind](source.value) if source.kind in checks else None
    if not source.value:
        problem = "must not be empty."
    if problem:
        table.problems.add(path, problem)
    for requirement in source.requires:
        if problem := check_requirement(requirement, torch=False):
            table.problems.add(join(table.path, "requires"), problem)


def check_requirement(text: str, *, torch: bool = True) -> str | None:
    """What is wrong with a requirement, or None. torch: it must require torch, and be no local file."""
    here = None if torch else local(text)
    if here is not None:
        return check_local(here)
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        guess = re.sub(r"(?<![=<>!~])=(?!=)", "==", text)
        return (
            f"must be a requirement, got {text!r}. Write {guess!r}."
            if guess != text
            else (f"must be a requirement, got {text!r}. Write one like 'torch==2.6.0'.")
        )
    if torch and requirement.name != "torch":
        return f"must require torch, got {text!r}. List other packages in 'requires'."
    return None


def _check_wheel(text: str) -> str | None:
    try:
        parse_wheel_filename(last_part(text))
    except InvalidWheelFilename:
        return f"must be the path of a wheel, name-version-python-abi-platform.whl, got {text!r}."
    return None


def _check_suite(text: str, suites: Mapping[str, Suite]) -> str | None:
    return None if text in suites else f"must be one of the suites {', '.join(suites)}, got {text!r}."


def _pinned(source: Source) -> str | None:
    """The exact release that a source names, or None."""
    if source.kind is SourceKind.WHEEL:
        try:
            return str(parse_wheel_filename(last_part(source.value))[1])
        except InvalidWheelFilename:
            return None
    if source.kind is SourceKind.DEBIAN:
        return source.suite.torch if source.suite else None
    if source.kind is not SourceKind.PIP:
        return None
    try:
        pins = [spec.version for spec in Requirement(source.value).specifier if spec.operator in ("==", "===")]
    except InvalidRequirement:
        return None
    return pins[0] if len(pins) == 1 and "*" not in pins[0] else None


def _matrix(table: Table, versions: Mapping[str, Version]) -> Mapping[str, MatrixSpec]:
    """One MatrixSpec per runtime: [matrix], with the fields of [matrix.docker] or [matrix.venv] over it."""
    base = {key: value for key, value in table.values.items() if key not in RUNTIMES}
    specs: dict[str, MatrixSpec] = {}
    for runtime in RUNTIMES:
        own = table.get(runtime, dict, {})
        path = join("matrix", runtime) if own else "matrix"
        problems = table.problems if own or not specs else Problems("")  # what all share is reported once
        specs[runtime] = _spec(Table(problems, path, {**base, **own}), versions)
    return specs


def _spec(table: Table, versions: Mapping[str, Version]) -> MatrixSpec:
    table.unknown(MATRIX_FIELDS)
    names = _named(table, versions)
    timeout = table.get("timeout", float, 10.0)
    if not 0 < timeout <= 3600:
        table.problems.add(join(table.path, "timeout"), f"must be over 0 and at most 3600 seconds, got {timeout:g}.")
    sizes = table.get("world_sizes", list, [2])
    if not sizes or not all(isinstance(size, int) and 2 <= size <= 64 for size in sizes):
        table.problems.add(join(table.path, "world_sizes"), f"must be a list of numbers from 2 to 64, got {sizes!r}.")
        sizes = [2]
    guards = table.texts("guard", ("off",))
    for guard in guards:
        if guard not in ("off", "on"):
            table.problems.add(join(table.path, "guard"), f"must hold only 'off' and 'on', got {guard!r}.")
    return MatrixSpec(
        versions=names,
        runtime=table.choice("runtime", str, choices(), AUTO),
        pairs=_pairs(table, versions),
        world_sizes=tuple(dict.fromkeys(sizes)),
        worlds=_skews(table, "worlds", versions),
        scenarios=table.texts("scenarios", ("*",)),
        guard=tuple(Guard(guard) for guard in dict.fromkeys(guards) if guard in ("off", "on")),
        store=table.choices("store", Store, Store, (Store.STOCK,)),
        placement=table.choices("placement", Placement, Placement, (Placement.TOGETHER,)),
        timeout=timeout,
    )


def _named(table: Table, versions: Mapping[str, Version]) -> tuple[str, ...]:
    """The versions that a matrix lists, by name or by a pattern over the declared names."""
    path, chosen = join(table.path, "versions"), dict[str, None]()
    for name in table.texts("versions", tuple(versions)):
        if not set(name) & set("*?["):
            _known(name, versions, path, table.problems)
            chosen[name] = None
        elif found := [each for each in versions if fnmatchcase(each, name)]:
            chosen |= dict.fromkeys(found)
        else:
            table.problems.add(path, f"has {name!r}, which matches no version of [versions]: {', '.join(versions)}.")
    return tuple(chosen)


def _known(name: str, versions: Mapping[str, Version], path: str, problems: Problems) -> None:
    if name not in versions:
        problems.add(path, f"names {name!r}, which is not declared in [versions]. Declared: {', '.join(versions)}.")


def _pairs(table: Table, versions: Mapping[str, Version]) -> str | tuple[tuple[str, ...], ...]:
    value = table.values.get("pairs", "all")
    return value if isinstance(value, str) and value in PAIRS else _skews(table, "pairs", versions) or "all"


def _skews(table: Table, key: str, versions: Mapping[str, Version]) -> tuple[tuple[str, ...], ...]:
    """Explicit assignments of versions to ranks."""
    value, path = table.values.get(key, []), join(table.path, key)
    if not isinstance(value, list) or not all(isinstance(skew, list) and len(skew) > 1 for skew in value):
        words = f"one of {', '.join(PAIRS)}, or " if key == "pairs" else ""
        form = 'a list of skews like [["2.1.2", "2.2.2"]], rank 0 first'
        table.problems.add(path, f"must be {words}{form}, got {value!r}.")
        return ()
    for name in (name for skew in value for name in skew):
        _known(str(name), versions, path, table.problems)
    return tuple(tuple(str(name) for name in skew) for skew in value)
