"""The fixture torchskew_group: runs a test's functions and scripts as the ranks of groups, and keeps the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pytest

from torchskew.model.cells import Cell, Variant
from torchskew.model.outcomes import Guard, Kind, Store
from torchskew.pytest.conditions import Conditions, How, conditions, place_of, skew_of
from torchskew.pytest.group import Group
from torchskew.pytest.marks import Chosen
from torchskew.pytest.project import Project
from torchskew.pytest.travel import Function, Oracle, Travelling, from_functions, from_script

Versions = str | Sequence[str]


class Groups:
    """Runs groups for one test. chosen: what its mark chose for this run of it, or None.

    beside: the folder of the test's file. keep: leave failed groups alive, as --torchskew-keep asks for.
    """

    def __init__(self, opened: Callable[[], Project], beside: Path, chosen: Chosen | None, *, keep: bool) -> None:
        """Start nothing yet."""
        self._opened, self._beside, self._chosen, self._keep = opened, beside, chosen, keep
        self.ran: list[Group] = []

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that the mark chose for this run of the test, rank 0 first."""
        return self._chosen.skew if self._chosen else ()

    @property
    def declared(self) -> tuple[str, ...]:
        """The names of the declared versions, in the order of the declaration."""
        return tuple(self._opened().declaration.versions)

    def __call__(
        self,
        versions: Versions | Function | None = None,
        rank: Function | None = None,
        *,
        script: str | Path | None = None,
        world_size: int | None = None,
        judge: Oracle | None = None,
        **how: Unpack[How],
    ) -> Group:
        """Run a function, or a script, once per rank of a group; rank 0 runs the first version.

        versions: names of the declaration or releases; may be left out in a test with the mark torchskew.
        world_size: how many ranks, the list of versions repeats. judge: payloads and world -> rank: what is wrong.
        how: see `Conditions`.
        """
        __tracebackhide__ = True
        if callable(versions):
            versions, rank = None, versions
        if (rank is None) == (script is None):
            raise TypeError("torchskew_group needs either a rank function or script=PATH")
        checked = self._conditions(how)
        skew = skew_of(self._named(versions), world_size, checked)
        kind = Kind.GROUP if len(skew) > 1 else Kind.SOLO
        project, path = self._opened(), self._beside / str(script) if script else None
        place = place_of(checked, self._beside, project.declaration.ranks.pythonpath, path)
        if path is not None:
            travelling = from_script(path.resolve(), checked.launcher, judge, place)
        else:
            assert rank is not None
            travelling = from_functions([rank], judge, place, kind)
        return self._run(project, skew, checked, travelling)

    def handover(
        self, versions: Versions | Function | None, *functions: Function, judge: Oracle | None = None,
        **how: Unpack[How],
    ) -> Group:  # fmt: skip
        """Run one function after another, each in its version, with one folder: `job.path(name)` is in it.

        functions: one for each version, or one for all, which asks `job.rank`.
        """
        __tracebackhide__ = True
        if callable(versions):
            functions, versions = (versions, *functions), None
        checked, names = self._conditions(how, Kind.HANDOVER), self._named(versions)
        if len(functions) not in (1, len(names)):
            raise TypeError(f"a handover over {len(names)} versions needs 1 or {len(names)} functions")
        project = self._opened()
        place = place_of(checked, self._beside, project.declaration.ranks.pythonpath, None)
        travelling = from_functions(functions, judge, place, Kind.HANDOVER)
        return self._run(project, names, checked, travelling)

    def _conditions(self, how: How, kind: Kind = Kind.GROUP) -> Conditions:
        if self._chosen is not None and self._chosen.guard is not None:
            how = {"guard": self._chosen.guard, **how}
        if self._chosen is not None and self._chosen.store is not None:
            how = {"store": self._chosen.store, **how}
        if self._keep:
            how = {**how, "keep": True}
        return conditions(how, kind)

    def _named(self, versions: Any) -> tuple[str, ...]:
        if versions is None and self._chosen is None:
            raise TypeError("torchskew_group needs versions, or a test with @pytest.mark.torchskew(…)")
        if versions is None:
            return self.versions
        return (versions,) if isinstance(versions, str) else tuple(versions)

    def _run(self, project: Project, skew: Sequence[str], how: Conditions, travelling: Travelling) -> Group:
        """One cell of one group; a version that the mark chose and that can't be had skips the test."""
        __tracebackhide__ = True
        for name in skew:
            project.version(name)
        result = project.run_one(_cell(project, tuple(skew), how, travelling), travelling.scenario, how.warm)
        self.ran.append(Group(result))
        if self._chosen is not None and result.unprovisioned is not None:
            pytest.skip(str(result.unprovisioned).partition("\n")[0])
        return self.ran[-1]


def _cell(project: Project, skew: tuple[str, ...], how: Conditions, travelling: Travelling) -> Cell:
    args = {"args": list(how.args)} if how.args else {}
    params: Mapping[str, Any] = {**travelling.params, **args, **how.params}
    kind = travelling.scenario.kind
    return Cell(
        scenario=travelling.scenario.name,
        skew=skew,
        runtime=project.runtime,
        kind=Kind.SOLO if kind is Kind.GROUP and len(skew) == 1 else kind,
        variant=Variant(name="", params=params, env=how.env, rank_env=how.rank_env),
        guard=how.guard if isinstance(how.guard, Guard) else Guard.OFF,
        store=how.store if len(skew) > 1 else Store.STOCK,
        timeout=how.timeout,
    )
