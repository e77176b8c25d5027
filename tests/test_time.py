"""No test asserts how fast something is: on a busy machine it would be red, and prove nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.conftest import ROOT

# The shortest limit, in seconds, whose passing says that something waited for it, and not that the machine is busy.
FAR = 60.0
CLOCKS = ("monotonic", "perf_counter", "process_time", "time")
KEEPS_SECONDS = ("abs", "float", "int", "max", "min", "round", "sum")
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py"))
}
Values = Mapping[str, ast.expr]


def assigned(node: ast.AST) -> dict[str, ast.expr]:
    """The last value that each name gets in a node: a variable, a field of anything, or an item of either."""
    values = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Assign | ast.AnnAssign | ast.NamedExpr) and each.value is not None:
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                several = isinstance(target, ast.Tuple) and isinstance(each.value, ast.Tuple)
                pairs = zip(target.elts, each.value.elts, strict=False) if several else [(target, each.value)]
                values.update({name_of(name): value for name, value in pairs})
    return values


def name_of(node: ast.expr) -> str:
    """What holds a value, "" where that has no name."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else "." + node.attr if isinstance(node, ast.Attribute) else ""


def is_time(node: ast.expr, values: Values) -> bool:
    """Whether an expression is an instant of a clock, or the time between two."""
    if isinstance(node, ast.Call):
        name = name_of(node.func).lstrip(".")
        if name in CLOCKS and not node.args:
            return True
        if name == "values" and isinstance(node.func, ast.Attribute):
            return is_time(node.func.value, values)
        return name in KEEPS_SECONDS and any(is_time(each, values) for each in node.args)
    if isinstance(node, ast.BinOp):
        return is_time(node.left, values) or is_time(node.right, values)
    name = name_of(node)
    rest = {other: value for other, value in values.items() if other != name}  # a name may stand in its own value
    return name in values and is_time(values[name], rest)


def numbers(node: ast.AST, values: Values) -> Iterator[float]:
    """The numbers that an expression is made of, also by way of names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield float(node.value)
    elif isinstance(node, ast.Name) and node.id in values:
        yield from numbers(values[node.id], {name: value for name, value in values.items() if name != node.id})
    elif not isinstance(node, ast.Subscript):  # an index is no number of seconds
        for each in ast.iter_child_nodes(node):
            yield from numbers(each, values)


def hurried(source: str, constants: Values | None = None) -> list[str]:
    """The comparisons in assertions that an elapsed time must be below a small number."""
    wrong: list[str] = []
    if not re.search(rf"\b({'|'.join(CLOCKS)})\(", source):
        return wrong
    module = ast.parse(source)
    top = assigned(ast.Module([each for each in module.body if not hasattr(each, "body")], []))
    fields = {name: value for name, value in assigned(module).items() if name.startswith(".")}
    for function in (each for each in ast.walk(module) if isinstance(each, ast.FunctionDef)):
        values = {**(constants or {}), **top, **fields, **assigned(function)}
        for check in (each.test for each in ast.walk(function) if isinstance(each, ast.Assert)):
            wrong += [ast.unparse(each) for each in ast.walk(check) if is_hurried(each, values)]
    return wrong


def is_hurried(node: ast.AST, values: Values) -> bool:
    """Whether it compares a time with a limit that only a machine without other work keeps."""
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    for left, how, right in zip(sides, node.ops, sides[1:], strict=False):
        upward = isinstance(how, ast.Lt | ast.LtE)
        if not upward and not isinstance(how, ast.Gt | ast.GtE):
            continue
        time, limit = (left, right) if upward else (right, left)
        if is_time(time, values) and 0 < max(numbers(limit, values), default=FAR) < FAR:
            return True
    return False


def test_no_test_asserts_that_something_took_less_than_seconds() -> None:
    constants = assigned(ast.parse(SOURCES["tests/guard/ranks.py"]))
    wrong = {path: comparisons for path, source in SOURCES.items() if (comparisons := hurried(source, constants))}
    assert wrong == {}


HURRIED = {
    "at once": "assert time.monotonic() - began < 3",
    "by name": "took = time.perf_counter() - began\nassert MOST > took",
    "of many": "self.ended[1] = time.monotonic()\nassert max(self.ended.values()) - began < 1.0 + MOST",
    "between": "assert 1 < int(monotonic() - began) <= 15",
    "an instant": "until = time.monotonic() + MOST\nassert time.monotonic() < until",
}
PATIENT = {
    "it waited": "assert time.monotonic() - began >= 0.8",
    "far": "assert time.monotonic() - began < PATIENCE",
    "a far instant": "until = time.monotonic() + PATIENCE\nassert time.monotonic() < until",
    "an order": "first = time.monotonic()\nassert first <= ended[1]",
    "no time": "seen = read(time.monotonic())\nassert len(seen) < 3",
    "a loop": "while time.monotonic() - began < 5: pass",
}


def case(body: str) -> str:
    return "MOST, PATIENCE = 2.0, 60.0\ndef test():\n    began = time.monotonic()\n    " + body.replace("\n", "\n    ")


@pytest.mark.parametrize("body", HURRIED.values(), ids=HURRIED)
def test_a_planted_limit_of_seconds_is_found(body: str) -> None:
    assert hurried(case(body)) == [body.rpartition("assert ")[2]]


@pytest.mark.parametrize("body", PATIENT.values(), ids=PATIENT)
def test_what_a_busy_machine_can_keep_is_left_alone(body: str) -> None:
    assert hurried(case(body)) == []
