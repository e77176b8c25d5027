"""The pytest plugin: `pytest --torchskew torchskew.toml` and the fixture `torchskew_group`; light until it is used."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torchskew.model.runtimes import choices, listed

if TYPE_CHECKING:
    from torchskew.model.declared import Declaration
    from torchskew.pytest.group import Group
    from torchskew.pytest.project import Project

_PROJECT = pytest.StashKey["Project"]()
_GROUPS = pytest.StashKey["list[Group]"]()
_SOURCES = pytest.StashKey[Any]()
DEFAULT = "torchskew.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and the setting."""
    group = parser.getgroup("torchskew", "process groups over several PyTorch releases")
    group.addoption("--torchskew", metavar="FILE", help="collect the cells of this declaration as tests")
    group.addoption("--torchskew-runtime", choices=choices(), help=f"what ranks run in (as declared): {listed()}")
    parser.addini("torchskew_declaration", f"the declaration that names the versions of torchskew_group ({DEFAULT})")


def pytest_configure(config: pytest.Config) -> None:
    """The declaration is one more place to collect from: the only one when no other was named."""
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
    if session.config.getoption("--torchskew") and not session.config.option.collectonly:
        from torchskew.pytest.cells import sources

        worker = hasattr(session.config, "workerinput")
        session.config.stash[_SOURCES] = sources(session.items, worker=worker)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every agent and rank, also after -x and Ctrl-C."""
    for source in session.config.stash.get(_SOURCES, {}).values():
        source.stop()
    project = session.config.stash.get(_PROJECT, None)
    if project is not None:
        project.close()


@pytest.fixture
def torchskew_group(request: pytest.FixtureRequest) -> Callable[..., Group]:
    """Run a function or a script as the ranks of a group over several versions; docs/pytest.md tells how."""
    groups: list[Group] = []
    request.node.stash[_GROUPS] = groups

    def run(
        versions: str | Sequence[str],
        rank: Callable[[Any], Any] | None = None,
        *,
        script: str | Path | None = None,
        world_size: int | None = None,
        judge: Callable[..., Mapping[int, str]] | None = None,
        **how: Any,
    ) -> Group:
        from torchskew.pytest.group import run_group

        if (rank is None) == (script is None):
            raise TypeError("torchskew_group needs either a rank function or script=PATH")
        work = rank if rank is not None else request.path.parent / str(script)
        names = [versions] if isinstance(versions, str) else list(versions)
        skew = [names[number % len(names)] for number in range(world_size or len(names))]
        project = _project(request.config, _declared(request.config))
        groups.append(run_group(project, skew, work, conditions(how), judge))
        return groups[-1]

    return run


def conditions(how: Mapping[str, Any]) -> Any:
    """Keyword arguments of torchskew_group as conditions; guard may be True, False or a name."""
    from dataclasses import fields

    from torchskew.model.outcomes import Guard
    from torchskew.pytest.group import Conditions

    known = [one.name for one in fields(Conditions)]
    unknown = [name for name in how if name not in known]
    if unknown:
        raise TypeError(f"torchskew_group has no argument {unknown[0]!r}; it has {', '.join(known)}")
    guard = how.get("guard", False)
    chosen = Guard(guard) if isinstance(guard, str) else (Guard.ON if guard else Guard.OFF)
    return Conditions(**{**how, "guard": chosen})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows every group that it ran, rank by rank."""
    report = yield
    if call.when == "call" and report.failed:
        for group in item.stash.get(_GROUPS, []):
            report.sections.append((f"torchskew group {','.join(group.result.cell.skew)}", str(group)))
    return report


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
        config.stash[_PROJECT] = Project(declaration, session, f"pytest-{secrets.token_hex(4)}")
    return config.stash[_PROJECT]


def _declaration(path: Path | None) -> Declaration:
    from torchskew.model.declared import Declaration
    from torchskew.workflows.inputs import read_declaration

    return read_declaration(path) if path else Declaration(path=DEFAULT, versions={}, matrix={})
