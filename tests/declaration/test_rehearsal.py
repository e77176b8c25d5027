"""What was asked for: the declaration's table with the command line over it, and every problem at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.declaration.fields import Problems, Table
from torchskew.declaration.rehearsal import for_rehearsal, requested
from torchskew.errors import ConfigError
from torchskew.model.rehearsal import CheckpointFormat, Rollback, Script
from torchskew.model.versions import Source, SourceKind, Version

VERSIONS = {
    name: Version(name=name, sources=(Source(kind=SourceKind.PIP, value=f"torch=={name}"),), torch=name)
    for name in ("2.6.0", "2.13.0")
}
TABLE = {"from": "2.6.0", "to": "2.13.0"}


def asked(values: dict, **options: object):
    table = Table(Problems("torchskew.toml"), "rehearsal", values)
    return requested(table, options, VERSIONS, lambda path: Path(path).read_text(encoding="utf-8"))


def test_the_table_alone_is_enough() -> None:
    found = asked({**TABLE, "faults": ["kill"], "rollback": True, "checkpoint": "plain"})
    assert len(found.specs) == 1
    spec = found.specs[0]
    assert (spec.old.torch, spec.new.torch, spec.faults) == ("2.6.0", "2.13.0", ("kill",))
    assert spec.rollback == Rollback()
    assert spec.formats == (CheckpointFormat.PLAIN,)


def test_the_command_line_wins_over_the_table() -> None:
    assert asked({**TABLE, "nodes": 8}, nodes=3).specs[0].nodes == 3


@pytest.mark.parametrize(
    ("value", "rollback"),
    [
        (True, Rollback()),
        ("true", Rollback()),
        (False, None),
        ("all", Rollback(after=(1, 2, 3, 4))),
        ("last", Rollback(after=(4,))),
        (2, Rollback(after=(2,))),
        ("3, 1", Rollback(after=(1, 3))),
        ([1, 4], Rollback(after=(1, 4))),
    ],
)
def test_a_rollback_is_asked_for_in_words_or_numbers(value, rollback: Rollback | None) -> None:
    assert asked({**TABLE, "rollback": value}).specs[0].rollback == rollback


def test_every_rollback_counts_the_replacements_of_its_own_strategy() -> None:
    found = asked({**TABLE, "rollback": "all", "strategy": ["rolling", "group:3", "stop-the-world"]})
    assert [spec.rollback.after for spec in found.specs] == [(1, 2, 3, 4), (1, 2), (1,)]


def test_several_strategies_give_several_specs() -> None:
    found = asked({**TABLE, "strategy": ["rolling", "stop-the-world"]})
    assert [str(spec.strategy) for spec in found.specs] == ["rolling", "stop-the-world"]


def test_several_seeds_give_a_spec_each_and_are_searched() -> None:
    found = asked({**TABLE, "seed": 4, "strategy": ["rolling", "group:2"]}, seeds=3)
    assert found.search
    assert [(str(spec.strategy), spec.seed) for spec in found.specs] == [
        (strategy, seed) for strategy in ("rolling", "group:2") for seed in (4, 5, 6)
    ]
    assert not asked(TABLE).search


def test_a_release_that_is_not_declared_comes_from_the_index() -> None:
    found = asked({"from": "2.6.0", "to": "2.9.1"})
    assert found.versions["2.9.1"].sources[0].value == "torch==2.9.1"


def _provisioned(version: Version, runtime: str = "venv", **more: object) -> Source:
    spec = replace(asked(TABLE).specs[0], **more)
    return for_rehearsal({"x": version}, runtime, "torchskew.toml", [spec])["x"].sources[0]


def test_numpy_is_added_where_checkpoints_need_it_and_no_other_is_pinned() -> None:
    plain = Version(name="x", sources=(Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=("pyyaml",)),))
    assert _provisioned(plain).requires == ("pyyaml", "numpy")
    assert _provisioned(plain, formats=(CheckpointFormat.PLAIN,)).requires == ("pyyaml",)
    assert _provisioned(plain, script=Script(name="train.py", text="print()")).requires == ("pyyaml",)
    pinned = Version(name="x", sources=(Source(kind=SourceKind.PIP, value="torch==2.1.2", requires=("NumPy<2",)),))
    assert _provisioned(pinned).requires == ("NumPy<2",)
    for release, numpy in (("2.3.1", "numpy<2"), ("2.4.1", "numpy")):
        of_its_time = Version(name="x", sources=(Source(kind=SourceKind.PIP, value="torch"),), torch=release)
        assert _provisioned(of_its_time).requires == (numpy,)
    suite = Version(name="x", sources=(Source(kind=SourceKind.DEBIAN, value="trixie"),))
    assert _provisioned(suite, "docker").requires == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "rehearsal.from is missing"),
        ({"from": "2.6.0", "to": "2.6.0"}, "must be another version"),
        ({"from": "2.6.0", "to": "mine"}, "'mine' is not a declared version"),
        ({**TABLE, "strategy": "sideways"}, "rehearsal.strategy must be one of rolling"),
        ({**TABLE, "strategy": "group:0"}, "strategy must be one of"),
        ({**TABLE, "policy": "hope"}, "policy must be one of"),
        ({**TABLE, "node": 3}, "did you mean 'nodes'"),
        ({**TABLE, "nodes": "three"}, "rehearsal.nodes must be a number"),
        ({**TABLE, "checkpoint": ["zip"]}, "must hold dcp, dcp-partial and plain only"),
        ({**TABLE, "script": "/no/such/train.py"}, "rehearsal.script can't be read"),
        ({**TABLE, "rollback": "half"}, "rehearsal.rollback must be true"),
        ({**TABLE, "rollback": 9}, "rehearsal.rollback must name replacements from 1 to 4, got 9. (strategy rolling)"),
        ({**TABLE, "rollback": 1.5}, "rehearsal.rollback must be true"),
        ({**TABLE, "seeds": 0}, "rehearsal.seeds must be from 1 to 1000, got 0"),
        ({**TABLE, "runtime": "moon"}, "must be one of auto, docker, venv"),
    ],
)
def test_what_is_wrong_is_reported_with_the_path_of_its_field(values: dict, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(values)
    assert text in str(caught.value)


def test_the_script_travels_as_text(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("print('hello')\n")
    spec = asked({**TABLE, "script": str(path)}).specs[0]
    assert spec.script == Script(name="train.py", text="print('hello')\n")


def test_a_version_that_the_runtime_can_not_provide_is_said() -> None:
    here = Version(name="here", sources=(Source(kind=SourceKind.INTERPRETER, value="/bin/python"),))
    with pytest.raises(ConfigError, match="docker runtime can't use"):
        for_rehearsal({"here": here}, "docker", "torchskew.toml", ())


@pytest.mark.parametrize("nodes", [1, 17, 10**30])
def test_the_number_of_nodes_is_bounded_before_anything_is_made_of_it(nodes: int) -> None:
    """Found by `make chaos`: `rollback = "all"` counted to it first, and took all memory."""
    with pytest.raises(ConfigError, match=r"rehearsal\.nodes must be from 2 to 16"):
        asked({**TABLE, "nodes": nodes, "rollback": "all"})


def test_no_job_runs_on_a_source_tree() -> None:
    tree = Version(name="tree", sources=(Source(kind=SourceKind.SOURCE, value="/src"),))
    with pytest.raises(ConfigError, match=r"rehearsal\.to: 'tree' is a source tree without a build"):
        requested(
            Table(Problems("torchskew.toml"), "rehearsal", {**TABLE, "to": "tree"}), {}, {**VERSIONS, "tree": tree}, str
        )


def test_a_release_that_is_none_is_told_with_its_field() -> None:
    with pytest.raises(ConfigError, match=r"rehearsal\.to: 'new' is not a declared version, and no release"):
        asked({**TABLE, "to": "new"})
