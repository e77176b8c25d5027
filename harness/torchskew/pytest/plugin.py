"""The pytest plugin: `pytest --torchskew torchskew.toml` and the fixture `torchskew_group`; light until it is used."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torchskew.model.runtimes import choices, listed
from torchskew.pytest.kept import KeptGroups, refuse_workers

if TYPE_CHECKING:
    from torchskew.model.declared import Declaration
    from torchskew.pytest.project import Project
    from torchskew.pytest.runner import Groups

_PROJECT = pytest.StashKey["Project"]()
_GROUPS = pytest.StashKey["Groups"]()
_EXPECTED = pytest.StashKey[tuple[str, ...]]()
_SOURCES = pytest.StashKey[Any]()
_KEPT = pytest.StashKey[KeptGroups]()
DEFAULT = "torchskew.toml"
_MARK = "run a test of torchskew_group over the declared versions; docs/pytest.md"
_SLOW = "torchskew/slow_imports"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and the setting."""
    group = parser.getgroup("torchskew", "process groups over several PyTorch releases")
    group.addoption("--torchskew", metavar="FILE", help="collect the cells of this declaration as tests")
    keep = "leave the ranks of a failed group alive until pytest ends, and say how to look inside"
    group.addoption("--torchskew-keep", action="store_true", help=keep)
    group.addoption("--torchskew-runtime", choices=choices(), help=f"what ranks run in (as declared): {listed()}")
    parser.addini("torchskew_declaration", f"the declaration that names the versions of torchskew_group ({DEFAULT})")


def pytest_configure(config: pytest.Config) -> None:
    """The declaration is one more place to collect from: the only one when no other was named."""
    config.addinivalue_line("markers", f"torchskew(pairs, versions, world_size, guard, store): {_MARK}")
    refuse_workers(config)
    config.stash[_KEPT] = KeptGroups(config)
    config.pluginmanager.register(config.stash[_KEPT], "torchskew_kept")
    named = config.getoption("--torchskew")
    if not named:
        return
    path = str((config.invocation_params.dir / named).resolve())
    if not Path(path).is_file():
        raise pytest.UsageError(f"--torchskew {named}: there is no such file.")
    if any(arg.partition("::")[0] in (path, named) for arg in config.args):
        return
    asked = config.args_source is pytest.Config.ArgsSource.ARGS
    config.args[:] = [*config.args, path] if asked else [path]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The file that was named with --torchskew, and no other."""
    named = parent.config.getoption("--torchskew")
    if not named or (parent.config.invocation_params.dir / named).resolve() != file_path.resolve():
        return None
    from torchskew.pytest.cells import CellFile

    made = CellFile.from_parent(parent, path=file_path)
    made.opened = lambda: _project(parent.config, file_path)
    return made


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is selected now will run, unless the tests are only listed."""
    worker = hasattr(session.config, "workerinput")
    if not worker:  # a worker gets some of the tests, and finds out which
        session.config.stash[_EXPECTED] = _expected(session.items)
    if session.config.getoption("--torchskew") and not session.config.option.collectonly:
        from torchskew.pytest.cells import sources

        session.config.stash[_SOURCES] = sources(session.items, worker=worker)


def _expected(items: Sequence[pytest.Item]) -> tuple[str, ...]:
    """The versions that the marks of these tests chose, in the order of first use."""
    calls = (getattr(item, "callspec", None) for item in items)
    chosen = (call.params.get("torchskew_group") for call in calls if call is not None)
    return tuple(dict.fromkeys(name for each in chosen for name in getattr(each, "skew", ())))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every agent and rank, also after -x and Ctrl-C; not yet those that a failed test keeps."""
    for source in session.config.stash.get(_SOURCES, {}).values():
        source.stop()
    project = session.config.stash.get(_PROJECT, None)
    if project is not None:
        _remember(session.config, project.slow)
        if not session.config.stash[_KEPT].commands:
            project.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what a failed test kept, when its report has been printed and read."""
    project = config.stash.get(_PROJECT, None)
    if project is not None:
        try:
            config.stash[_KEPT].wait_for_reader()
        finally:
            project.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the mark torchskew runs once for each skew, guard and store that the mark asks for."""
    mark = metafunc.definition.get_closest_marker("torchskew")
    if mark is None or "torchskew_group" not in metafunc.fixturenames:
        return
    from torchskew.errors import HarnessError
    from torchskew.pytest.marks import chosen

    if mark.args:
        raise pytest.Collector.CollectError('the mark torchskew takes keywords only: pairs="all", world_size=[2, 3].')
    try:
        parameters = chosen(mark.kwargs, _declaration(_declared(metafunc.config)).versions)
    except HarnessError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    metafunc.parametrize("torchskew_group", parameters, indirect=True, ids=[each.id for each in parameters])


@pytest.fixture
def torchskew_group(request: pytest.FixtureRequest) -> Groups:
    """Run a function or a script as the ranks of a group over several versions; docs/pytest.md says how."""
    from torchskew.pytest.runner import Groups

    groups = Groups(
        lambda: _project(request.config, _declared(request.config)),
        request.path.parent,
        getattr(request, "param", None),
        keep=request.config.getoption("--torchskew-keep"),
    )
    request.node.stash[_GROUPS] = groups
    return groups


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows every group that it ran, rank by rank: with -vv all that each rank printed."""
    groups = item.stash.get(_GROUPS, None)
    if groups is not None and call.excinfo is not None and not item.config.getoption("fulltrace"):
        from torchskew.pytest.frames import end_at_the_call

        end_at_the_call(call.excinfo.value)
    report = yield
    if call.when == "call" and report.failed and groups is not None:
        from torchskew.pytest.group import sections, table

        for group in groups.ran:
            report.sections.append((f"torchskew group {','.join(group.versions)}", table(group.result, logs=False)))
            report.sections += sections(group.result, whole=item.config.get_verbosity() >= 2)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Which imports of torch took long in a rank, and were then done ahead."""
    project = config.stash.get(_PROJECT, None)
    if project is not None and project.slow:
        terminalreporter.section("torchskew")
        for name, took in project.slow.items():
            ahead = "each version has imported it ahead since; torchskew does so from the start next time"
            terminalreporter.write_line(f"{name} took a rank {took:.1f} s to import; {ahead}")


def _declared(config: pytest.Config) -> Path | None:
    """The declaration for the fixture: the option's, the setting's, or the one beside the settings."""
    named = config.getoption("--torchskew")
    if named:
        return Path(config.invocation_params.dir / named).resolve()
    setting = str(config.getini("torchskew_declaration"))
    path = config.rootpath / (setting or DEFAULT)
    return path if setting or path.is_file() else None


def _project(config: pytest.Config, path: Path | None) -> Project:
    """One project per pytest run: agents stay warm from test to test."""
    if _PROJECT not in config.stash:
        from torchskew.engine.progress import Silent
        from torchskew.engine.session import Session
        from torchskew.model.runtimes import AUTO
        from torchskew.pytest.project import Project
        from torchskew.runtimes.choice import choose

        declaration = _declaration(path)
        asked = config.getoption("--torchskew-runtime")
        declared = next((spec.runtime for spec in declaration.matrix.values()), AUTO)
        chosen = choose(asked or declared, declaration.by_runtime, "asked for" if asked else "declared")
        # Progress between tests would only disturb what pytest prints.
        session = Session(chosen, Silent())
        project = Project(declaration, session, f"pytest-{secrets.token_hex(4)}")
        session.import_ahead(_remembered(config))
        project.expected = config.stash.get(_EXPECTED, ())
        config.stash[_PROJECT] = project
    return config.stash[_PROJECT]


def _remembered(config: pytest.Config) -> list[str]:
    """Modules that took an earlier run long to import."""
    cache = getattr(config, "cache", None)  # -p no:cacheprovider
    return [str(name) for name in cache.get(_SLOW, [])] if cache else []


def _remember(config: pytest.Config, slow: Mapping[str, float]) -> None:
    cache = getattr(config, "cache", None)
    if cache and slow:
        cache.set(_SLOW, sorted({*_remembered(config), *slow}))


def _declaration(path: Path | None) -> Declaration:
    from torchskew.model.declared import Declaration
    from torchskew.workflows.inputs import read_declaration

    return read_declaration(path) if path else Declaration(path=DEFAULT, versions={}, matrix={})
