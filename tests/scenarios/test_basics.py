"""The judges of rendezvous, broadcast, all_gather, barrier, imports and one-sided settings turn red when they must."""

from __future__ import annotations

import copy
import hashlib
import struct

import pytest
from torchskew.model.outcomes import Outcome
from torchskew.workflows.inputs import read_scenarios

from tests.scenarios.judging import judged, names

MEETING = [
    {"rank": 0, "size": 2, "read": ["from 0", "from 1"], "heard": {"1": 1001}},
    {"rank": 1, "size": 2, "read": ["from 0", "from 1"], "heard": {"0": 1000}},
]
BITS = [{"rank": rank, "size": 3, "bits": 7} for rank in range(3)]
IMPORTS = {
    "torch": "2.13.0+cpu",
    "git_version": "abc",
    "backends": {"gloo": True},
    "parts": dict.fromkeys(("torch", "torch.nn", "torch.optim", "torch.distributed", "torch.distributed.rpc"), "ok"),
}
MS = 1_000_000


def test_right_meetings_pass() -> None:
    assert judged("rendezvous_tcp", MEETING) == {}
    assert judged("rendezvous_file", BITS) == {}
    assert judged("rendezvous_tcp", [MEETING[0], None]) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("rank", 0), ("size", 3), ("read", ["from 1", "from 0"]), ("heard", {}), ("heard", {"0": 1001}), ("more", 1)],
)
def test_a_rank_that_met_otherwise_is_wrong(field: str, value: object) -> None:
    reports = copy.deepcopy(MEETING)
    reports[1][field] = value
    assert list(judged("rendezvous_tcp", reports)) == [1]


def test_a_missing_part_of_a_meeting_is_named() -> None:
    reports = copy.deepcopy(MEETING)
    del reports[0]["heard"]
    assert judged("rendezvous_tcp", reports) == {0: "heard: None instead of {'1': 1001}"}


@pytest.mark.parametrize(("field", "value"), [("rank", 1), ("size", 2), ("bits", 5)])
def test_a_meeting_over_a_file_is_wrong_when_anything_differs(field: str, value: int) -> None:
    reports = copy.deepcopy(BITS)
    reports[2][field] = value
    assert list(judged("rendezvous_file", reports)) == [2]


def broadcasts() -> list[dict]:
    scenario = names("broadcast")
    one = {
        f"{dtype}/{size}/root-{root}": hashlib.sha256(scenario.pattern(dtype, size, root)).hexdigest()
        for dtype, size, root in scenario.cases(2)
    }
    return [{"cases": dict(one)} for _ in range(2)]


def test_broadcast_sees_another_roots_bytes_and_a_missing_case() -> None:
    assert judged("broadcast", broadcasts()) == {}
    reports = broadcasts()
    reports[1]["cases"]["int64/1025/root-0"] = reports[1]["cases"]["int64/1025/root-1"]
    del reports[0]["cases"]["bool/1/root-0"]
    wrong = judged("broadcast", reports)
    assert wrong[0] == "bool/1/root-0 is missing"
    assert wrong[1].startswith("int64/1025/root-0 is ")


def test_broadcasts_patterns_fill_their_tensors_and_differ_by_root() -> None:
    scenario = names("broadcast")
    for dtype, width in scenario.WIDTHS.items():
        assert len(scenario.pattern(dtype, 1025, 0)) == 1025 * width
        assert scenario.pattern(dtype, 1025, 0) != scenario.pattern(dtype, 1025, 1)
    assert set(scenario.pattern("bool", 1025, 1)) == {0, 1}


def gathered(world: int = 3) -> list[dict]:
    scenario = names("all_gather")
    one = {f"{d}/{s}": [scenario.expected(d, s, rank) for rank in range(world)] for d, s in scenario.cases()}
    return [{"cases": copy.deepcopy(one)} for _ in range(world)]


def test_all_gathers_oracle_is_the_digest_of_each_ranks_values() -> None:
    scenario = names("all_gather")
    data = struct.pack("q", scenario.block(2)[0])
    assert scenario.expected("int64", 1, 2) == hashlib.sha256(data).hexdigest()[:16]


def test_all_gather_sees_two_ranks_swapped_one_missing_and_one_too_many() -> None:
    assert judged("all_gather", gathered()) == {}
    reports = gathered()
    places = reports[0]["cases"]["float32/1025"]
    places[1], places[2] = places[2], places[1]
    reports[1]["cases"]["uint8/1"].pop()
    reports[2]["cases"]["int64/1"].append("x")
    wrong = judged("all_gather", reports)
    assert [why.split(" ")[0] for _, why in sorted(wrong.items())] == ["float32/1025", "uint8/1", "int64/1"]


def rounds(*left: int) -> list[dict]:
    """Two ranks, two rounds; rank 0 enters last at 10 ms, rank 1 at 30 ms."""
    return [
        {"entered": [10 * MS, 20 * MS], "left": [left[0] * MS, left[1] * MS]},
        {"entered": [1 * MS, 30 * MS], "left": [left[2] * MS, left[3] * MS]},
    ]


def test_a_barrier_that_lets_a_rank_out_early_is_wrong() -> None:
    assert judged("barrier", rounds(11, 31, 12, 32)) == {}
    assert judged("barrier", rounds(11, 31, 9, 32)) == {1: "left round 0 1.00 ms before rank 0 entered it"}
    assert judged("barrier", rounds(11, 28, 12, 32)) == {0: "left round 1 2.00 ms before rank 1 entered it"}


def test_a_barrier_with_a_round_missing_is_wrong() -> None:
    reports = rounds(11, 31, 12, 32)
    reports[0]["left"].pop()
    assert judged("barrier", reports) == {0: "1 rounds instead of 2"}


def test_imports_pass_and_say_what_they_need_from_elsewhere() -> None:
    assert judged("import_smoke", [IMPORTS], variant="parts") == {}
    elsewhere = {"type": "ModuleNotFoundError", "text": "t", "where": "w", "missing": "numpy.core"}
    parts = {**IMPORTS["parts"], "torch.distributed.rpc": elsewhere}
    assert judged("import_smoke", [{**IMPORTS, "parts": parts}], variant="parts") == {}


@pytest.mark.parametrize(
    ("part", "missing"), [("torch.distributed.rpc", "torch._C"), ("torch.distributed.rpc", None), ("torch.nn", "numpy")]
)
def test_a_part_of_torch_that_does_not_import_is_named_with_its_line(part: str, missing: str | None) -> None:
    failed = {"type": "ImportError", "text": "no", "where": "torch/x.py:3: import y", "missing": missing}
    wrong = judged("import_smoke", [{**IMPORTS, "parts": {**IMPORTS["parts"], part: failed}}], variant="parts")
    assert wrong == {0: f"{part}: ImportError: no at torch/x.py:3: import y"}


@pytest.mark.parametrize("name", ["torch", "git_version"])
def test_a_version_that_does_not_say_what_it_is_is_wrong(name: str) -> None:
    assert judged("import_smoke", [{**IMPORTS, name: None}], variant="parts") == {0: f"it does not say its {name}"}


def test_imports_that_were_not_tried_are_wrong() -> None:
    few = dict.fromkeys(list(IMPORTS["parts"])[:3], "ok")
    wrong = judged("import_smoke", [{**IMPORTS, "parts": few}], variant="parts")[0]
    assert wrong == "no part below torch.distributed was tried; torch.distributed was not tried"


def test_a_survivor_of_one_sided_settings_with_another_sum_is_wrong() -> None:
    assert judged("env_skew", [{"sum": 3.0}, {"sum": 3.0}], variant="control") == {}
    assert judged("env_skew", [{"sum": 3.0}, {"sum": 2.0}], variant="control") == {
        1: "{'sum': 2.0} instead of {'sum': 3.0}"
    }
    assert judged("env_skew", [{"sum": 3.0}, None], variant="lazy_init") == {}


def test_one_sided_settings_are_planned_for_one_release_only_and_a_lottery_predicts_nothing() -> None:
    scenario = read_scenarios()["env_skew"]
    predicted = {variant.name: variant.predicted for variant in scenario.variants if variant}
    assert scenario.same
    assert "2.13.0" in scenario.applies
    assert "2.6.0" not in scenario.applies
    assert predicted["lazy_init"] == ()
    assert {outcome for row in predicted.values() for outcome in row} == {
        Outcome.OK, Outcome.TIMEOUT, Outcome.OPAQUE, Outcome.HANG,
    }  # fmt: skip
