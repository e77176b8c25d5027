"""all_reduce's oracle is right by hand-made examples, and sees every kind of wrong."""

from __future__ import annotations

import copy
import hashlib
import itertools
import struct

import pytest

from tests.scenarios.judging import judged, names

SCENARIO = names("all_reduce")


def right(world: int = 2, *, large: bool = False, skip: tuple[str, ...] = ()) -> list[dict]:
    """Reports of ranks that compute as Python does, one element and one operation after another."""
    whole = {}
    for op, dtype, size in SCENARIO.cases(large):
        name = f"{op}/{dtype}/{size}"
        if size == "fraction":
            sums = [
                sum(column) for column in zip(*(SCENARIO.fractions_of(dtype, r) for r in range(world)), strict=True)
            ]
            whole[name] = rounded(dtype, sums).hex()
        elif name not in skip:
            whole[name] = SCENARIO.expected(op, dtype, size, world)
    return [{"cases": dict(whole)} for _ in range(world)]


def rounded(dtype: str, values: list[float]) -> bytes:
    """Bytes of values rounded to the dtype; bfloat16 by adding half a unit before cutting."""
    form = SCENARIO.DTYPES[dtype][0]
    if dtype != "bfloat16":
        return struct.pack(f"{len(values)}{form}", *values)
    bits = [int.from_bytes(struct.pack("<f", value), "little") + 0x7FFF for value in values]
    return b"".join((one >> 16).to_bytes(2, "little") for one in bits)


def changed(case: str, value: object, rank: int = 1, world: int = 2, *, large: bool = False) -> dict[int, str]:
    reports = copy.deepcopy(right(world, large=large))
    assert case in reports[rank]["cases"]
    reports[rank]["cases"][case] = value
    return judged("all_reduce", reports, variant="large" if large else "small")


@pytest.mark.parametrize("world", [2, 3, 7, 32])
def test_right_reports_pass_in_every_world(world: int) -> None:
    assert judged("all_reduce", right(world), variant="small") == {}


def test_right_reports_of_large_tensors_pass() -> None:
    assert judged("all_reduce", right(large=True), variant="large") == {}


@pytest.mark.parametrize(
    ("case", "inputs", "form", "result"),
    [
        (("SUM", "int32", 1), ([1], [3]), "i", [4]),
        (("PRODUCT", "int64", 1), ([3], [2]), "q", [6]),
        (("MIN", "float32", 1), ([-120], [-89]), "f", [-120.0]),
        (("MAX", "float64", 1), ([-120], [-89]), "d", [-89.0]),
        (("MAX", "uint8", 1), ([0], [31]), "B", [31]),
        (("BAND", "uint8", 1), ([5], [16]), "B", [0]),
        (("BOR", "uint8", 1), ([5], [16]), "B", [21]),
        (("BXOR", "int32", 1), ([0x05050505], [0x10101010]), "i", [0x15151515]),
        (("AVG", "float16", 1), ([3], [1]), "e", [2.0]),
        (("SUM", "bool", 1), ([True], [False]), "B", [1]),
        (("BAND", "bool", 1), ([True], [False]), "B", [0]),
    ],
)
def test_the_oracle_agrees_with_results_worked_out_by_hand(case, inputs, form, result) -> None:
    op, dtype, _ = case
    assert tuple(SCENARIO.block(op, dtype, rank, 2)[:1] for rank in range(2)) == inputs
    assert SCENARIO.expected(*case, 2) == struct.pack(form, *result).hex()


def test_a_bfloat16_is_the_upper_half_of_a_float32() -> None:
    assert SCENARIO.pack("bfloat16", [1.0, -2.0]) == bytes.fromhex("803f00c0")
    assert SCENARIO.unpack("bfloat16", bytes.fromhex("803f00c0")) == (1.0, -2.0)


def test_long_results_are_the_digest_of_the_block_repeated() -> None:
    values = [sum(column) for column in zip(*(SCENARIO.block("SUM", "int32", r, 3) for r in range(3)), strict=True)]
    data = struct.pack("1025i", *itertools.islice(itertools.cycle(values), 1025))
    assert SCENARIO.expected("SUM", "int32", 1025, 3) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("world", [2, 5, 32])
def test_every_contribution_matters_and_stays_exact(world: int) -> None:
    for op, dtype in itertools.product(("SUM", "PRODUCT", "MIN", "MAX", "AVG"), ("float16", "bfloat16")):
        columns = zip(*(SCENARIO.block(op, dtype, rank, world) for rank in range(world)), strict=True)
        values = [SCENARIO.fold(op, dtype, column) for column in columns]
        assert SCENARIO.unpack(dtype, SCENARIO.pack(dtype, values)) == tuple(values)
        assert len(set(values)) > 1


def test_a_wrong_value_is_reported_in_numbers_on_its_rank() -> None:
    assert changed("SUM/int32/1", struct.pack("i", 5).hex()) == {1: "SUM/int32/1 is [5], right is [4]"}


def test_what_a_rank_alone_contributed_is_wrong() -> None:
    alone = SCENARIO.expected("SUM", "float32", 1025, 1)
    assert "SUM/float32/1025 is sha256" in changed("SUM/float32/1025", alone, rank=0)[0]
    alone = SCENARIO.expected("MAX", "int64", 1048579, 1)
    assert list(changed("MAX/int64/1048579", alone, large=True)) == [1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_sum_may_be_off_by_half_a_unit_a_summand_and_no_more(dtype: str) -> None:
    case = f"SUM/{dtype}/fraction"
    near = bytes.fromhex(right()[0]["cases"][case])
    width = len(near) // 5
    up = (int.from_bytes(near[:width], "little") + 2).to_bytes(width, "little") + near[width:]
    reports = [{"cases": {**report["cases"], case: up.hex()}} for report in right()]
    wrong = judged("all_reduce", reports, variant="small")
    assert set(wrong) == {0, 1}
    assert "units from the exact sum, 0.5 allowed" in wrong[0]


def test_sums_within_the_bound_that_differ_between_ranks_are_wrong() -> None:
    case = "SUM/float32/fraction"
    near = bytes.fromhex(right(3)[0]["cases"][case])
    other = (int.from_bytes(near[:4], "little") ^ 1).to_bytes(4, "little") + near[4:]
    wrong = changed(case, other.hex(), world=3)
    assert set(wrong) == {0, 1, 2}
    assert wrong[0] == f"{case}: differs between the ranks"


def test_a_fraction_of_another_length_is_wrong() -> None:
    assert "0 elements instead of 5" in changed("SUM/float64/fraction", "")[1]


def test_a_missing_case_and_an_extra_one_are_wrong() -> None:
    reports = right()
    del reports[0]["cases"]["AVG/bool/0"]
    reports[1]["cases"]["SUM/int8/1"] = "00"
    assert judged("all_reduce", reports, variant="small") == {
        0: "AVG/bool/0 is missing",
        1: "SUM/int8/1 was not asked for",
    }


def test_what_a_version_lacks_is_absent_on_every_rank() -> None:
    skip = {"AVG/*": "no AVG before 1.11", "*/0": "opts.elements > 0"}
    reports = right()
    for report in reports:
        report["cases"] = {
            name: v for name, v in report["cases"].items() if not name.startswith("AVG") and not name.endswith("/0")
        }
    assert judged("all_reduce", reports, variant="small", skip=skip) == {}
    assert "AVG" in judged("all_reduce", reports, variant="small", skip={"*/0": "w"})[0]
    assert judged("all_reduce", [{"cases": {}}] * 2, variant="small", skip={"*": "w"})[1] == "every case was left out"


def test_a_rank_that_did_not_finish_is_not_judged() -> None:
    assert judged("all_reduce", [right()[0], None], variant="small") == {}
