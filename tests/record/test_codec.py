"""Records survive the way to JSON and back; anything else is refused with the path of the field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchskew.errors import RecordError
from torchskew.model.cells import Cell, Variant
from torchskew.model.declared import MatrixSpec
from torchskew.model.facts import Attempt, ErrorFacts, RankFacts
from torchskew.model.outcomes import Guard, Outcome, Phase, Store, Verdict
from torchskew.model.results import CellResult
from torchskew.record.codec import decode, dumps, encode, loads

from tests import factories

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
payloads = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
seconds = st.floats(0, 1e6)
texts = st.text(max_size=20)
errors = st.builds(ErrorFacts, type=texts, text=texts)
facts = st.builds(
    RankFacts,
    rank=st.integers(0, 9),
    declared=texts,
    phase=st.sampled_from(Phase),
    seconds=seconds,
    phases=st.dictionaries(texts, seconds, max_size=2),
    error=st.none() | errors,
    error_after=st.none() | seconds,
    payload=payloads,
    log=texts,
)
attempts = st.builds(Attempt, number=st.integers(1, 9), ranks=st.lists(facts, max_size=2).map(tuple), seconds=seconds)
outcomes = st.lists(st.sampled_from(Outcome), max_size=3).map(tuple)
variants = st.builds(
    Variant,
    name=texts,
    params=payloads,
    rank_env=st.dictionaries(st.integers(0, 3), st.dictionaries(texts, texts, max_size=2), max_size=2),
    predicted=st.none() | outcomes,
)
cells = st.builds(
    Cell,
    scenario=texts,
    skew=st.lists(texts, max_size=3).map(tuple),
    runtime=texts,
    variant=st.none() | variants,
    guard=st.sampled_from(Guard),
    predicted=outcomes,
)
results = st.builds(
    CellResult,
    cell=cells,
    verdict=st.sampled_from(Verdict),
    outcomes=outcomes,
    reason=texts,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    phases=st.dictionaries(texts, seconds, max_size=2),
)


@given(results)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_result_comes_back_as_it_went(result):
    assert loads(CellResult, dumps(result), "result") == result


@pytest.mark.parametrize("made", [factories.run(tuple(factories.results())), MatrixSpec(versions=("a",))])
def test_whole_runs_and_specs_come_back_as_they_went(made):
    assert loads(type(made), dumps(made), "it") == made


def test_a_union_of_text_and_tuples_keeps_its_shape():
    spec = MatrixSpec(versions=("a", "b"), pairs=(("a", "b"), ("b", "a")))
    assert loads(MatrixSpec, dumps(spec), "spec").pairs == (("a", "b"), ("b", "a"))


def test_fields_that_hold_their_default_are_not_stored():
    assert encode(ErrorFacts(type="E", text="")) == {"type": "E", "text": ""}
    assert "guard" not in encode(factories.cell())
    assert "store" not in encode(factories.cell())


def test_a_cell_at_a_bridge_says_so_and_comes_back():
    cell = factories.cell(store=Store.BRIDGE)
    assert encode(cell)["store"] == "bridge"
    assert loads(Cell, dumps(cell), "cell") == cell
    assert loads(Cell, dumps(cell), "cell").id == cell.id


def test_lone_surrogates_from_a_rank_survive():
    odd = ErrorFacts(type="E", text="\ud800 and \x00")
    assert dumps(odd).isascii()
    assert loads(ErrorFacts, dumps(odd), "error") == odd


CELL = {"scenario": "a", "skew": ["x"], "runtime": "docker"}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "cell must be Cell, got []"),
        ({"scenario": "a"}, "cell.skew is missing"),
        (CELL | {"guard": "half"}, "cell.guard must be one of off, on, host, joiners, got 'half'"),
        (CELL | {"timeout": "10"}, "cell.timeout must be float, got '10'"),
        (CELL | {"timeout": True}, "cell.timeout must be float, got True"),
        (CELL | {"skew": "x"}, "cell.skew must be list, got 'x'"),
        (CELL | {"skew": ["x", 1]}, "cell.skew[1] must be str, got 1"),
        (CELL | {"fault": 3}, "cell.fault must be str, got 3"),
        (CELL | {"variant": {"name": "v", "env": []}}, "cell.variant.env must be mapping, got []"),
        (CELL | {"variant": {"name": "v", "env": {"A": 1}}}, 'cell.variant.env."A" must be str, got 1'),
        (CELL | {"variant": {"name": "v", "rank_env": {"one": {}}}}, 'cell.variant.rank_env."one" must be int as key'),
        (CELL | {"colour": "red"}, "cell.colour is unknown"),
    ],
)
def test_a_damaged_field_is_named_with_its_path(value, says):
    with pytest.raises(RecordError) as caught:
        decode(Cell, value, "cell")
    assert says in str(caught.value)
    assert "Move it away" in str(caught.value)


def test_fields_of_a_newer_writer_are_passed_over_when_the_caller_says_so():
    assert decode(Cell, CELL | {"colour": "red"}, "cell", newer=True).scenario == "a"


def test_text_that_is_no_json_is_a_damaged_record():
    with pytest.raises(RecordError, match="cell is not JSON"):
        loads(Cell, "{", "cell")


def test_what_json_cannot_carry_never_reaches_the_record():
    with pytest.raises(TypeError, match="bytes can't be recorded"):
        encode({"a": b"x"})


class Shape(StrEnum):
    CIRCLE = "circle"
    SQUARE = "square"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    kind: ClassVar[Shape] = Shape.CIRCLE
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    kind: ClassVar[Shape] = Shape.SQUARE
    side: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    shapes: tuple[Circle | Square, ...]
    frame: Circle | Square | None = None


@pytest.mark.parametrize("frame", [None, Circle(radius=2.0)])
def test_records_of_a_union_are_told_apart_by_their_kind(frame):
    drawing = Drawing(shapes=(Circle(radius=1.0), Square(side=1.0)), frame=frame)
    assert loads(Drawing, dumps(drawing), "drawing") == drawing
    assert '{"kind":"square","side":1.0}' in dumps(drawing)


@pytest.mark.parametrize("shape", [{"radius": 1.0}, {"kind": "oval"}, {"kind": ["circle"]}, 3])
def test_a_record_of_no_known_kind_is_refused_with_its_path(shape):
    with pytest.raises(RecordError, match=r"drawing\.shapes\[0\]\.kind must be one of circle, square"):
        decode(Drawing, {"shapes": [shape]}, "drawing")


def test_a_record_that_says_another_kind_than_its_own_is_refused():
    with pytest.raises(RecordError, match=r"it\.kind must be circle, got 'square'"):
        decode(Circle, {"kind": "square", "radius": 1.0}, "it")
