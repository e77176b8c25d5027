"""The judge of what the documentation says of deterministic operators: other bits and a missing error are WRONG."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged, names

RAISED = "raised: max_unpooling2d does not have a deterministic implementation"
DOCUMENTATION = """
    and if only nondeterministic algorithms are available they will throw a :class:`RuntimeError` when called.

    The following normally-nondeterministic operations will act
    deterministically when ``mode=True``:

        * :class:`torch.nn.Conv1d` when called on CUDA tensor
        * :func:`torch.Tensor.put_` with ``accumulate=True`` when called on a CPU
          tensor

    The following normally-nondeterministic operations will throw a
    :class:`RuntimeError` when ``mode=True``:

        * :class:`torch.nn.MaxUnpool1d`
        * :func:`torch.Tensor.put_` when ``accumulate=False``
        * :func:`torch.nn.MaxPool2d`, :func:`torch.nn.MaxPool3d`
          when attempting to differentiate an MPS tensor

    A handful of CUDA operations are nondeterministic unless ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` is set:

        * :func:`torch.mm`
"""


def report(**changed) -> dict:
    """What a rank reports of thirty operators, one of which raises."""
    runs = {f"torch.operator_{number}": [f"{number}"] * 2 for number in range(29)}
    runs = {**runs, "torch.nn.MaxUnpool2d": [RAISED] * 2, **{f"torch.{name}": both for name, both in changed.items()}}
    return {"raises": {name: name == "torch.nn.MaxUnpool2d" for name in runs}, "runs": runs}


def test_the_docstring_says_which_operators_raise_on_a_cpu() -> None:
    assert names("determinism_documented").statements(DOCUMENTATION) == {
        "torch.nn.Conv1d": False, "torch.Tensor.put_": True, "torch.nn.MaxUnpool1d": True, "torch.nn.MaxPool2d": False,
        "torch.nn.MaxPool3d": False,
    }  # fmt: skip
    assert names("determinism_documented").statements("Sets something.\n\n    * :func:`torch.mm`") == {}


def test_operators_that_do_as_documented_pass_and_those_that_were_not_tried_are_named() -> None:
    told = report()
    told["raises"]["torch.newcomer"] = False
    note = judged("determinism_documented", [told]).note
    assert note == "30 operators, 1 of them raise as documented; not tried: torch.newcomer"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"operator_3": ["a", "b"]}, "torch.operator_3 differs between two runs"),
        ({"operator_3": ["a"]}, "torch.operator_3 differs between two runs"),
        ({"operator_3": [RAISED, "a"]}, "torch.operator_3 raised: max_unpooling2d"),
        ({"nn.MaxUnpool2d": ["a", "a"]}, "torch.nn.MaxUnpool2d has to raise, and did not"),
        ({"nn.MaxUnpool2d": ["raised: out of memory"] * 2}, "torch.nn.MaxUnpool2d has to raise, and did not"),
    ],
)
def test_other_bits_and_a_missing_or_another_error_are_wrong(changed: dict, says: str) -> None:
    assert says in judged("determinism_documented", [report(**changed)])[0]


def test_documentation_that_was_not_understood_is_wrong() -> None:
    assert judged("determinism_documented", [{"raises": {}, "runs": {}}])[0].startswith("only 0 operators were found")
