"""The judges of speed and memory: a seeded slowdown and a leak are WRONG, and what was not measured is never a pass."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.inside import kit
from torchskew.planning.scenario import with_bounds
from torchskew.workflows.inputs import read_scenarios

from tests.scenarios.judging import judged, names

STEADY = [1.0 + 0.001 * (number % 7) for number in range(40)]


def test_a_slower_operator_is_wrong_on_the_second_rank_and_a_faster_one_passes() -> None:
    slow = [value * 1.12 for value in STEADY]
    wrong = judged("speed", [{"seconds": STEADY}, {"seconds": slow}], variant="layer_norm").wrong
    assert list(wrong) == [1]
    assert wrong[1].startswith("slower by 12 % (")
    assert judged("speed", [{"seconds": slow}, {"seconds": STEADY}], variant="layer_norm").note.startswith("faster by")


def test_turns_that_are_missing_are_wrong() -> None:
    assert list(judged("speed", [{"seconds": STEADY}, {"seconds": STEADY[:3]}], variant="matmul")) == [1]
    assert list(judged("memory", [{"bytes": [1] * 3}, {"bytes": []}], variant="step")) == [1]


def test_the_ranks_take_turns_a_b_b_a() -> None:
    job = type("Job", (), {"path": staticmethod(str), "timeout": 1.0, "rank": 0})
    first = names("speed").Turns(job)
    job.rank = 1
    assert first.mine(8) == [0, 3, 4, 7]
    assert names("speed").Turns(job).mine(8) == [1, 2, 5, 6]


def test_a_leak_of_fifty_megabytes_is_wrong_with_both_sizes() -> None:
    before = [{"bytes": [400_000_000 + number for number in range(3)]}]
    wrong = judged("memory", [*before, {"bytes": [450_000_000 + number for number in range(3)]}], variant="step").wrong
    assert list(wrong) == [1]
    assert wrong[1].startswith("larger by 12 % (12 to ")
    assert wrong[1].endswith("; 5 % is allowed (400 then 450 MB)")
    assert judged("memory", before * 2, variant="step").note == "no difference above 0 % (400 then 400 MB)"


def test_a_process_that_holds_fifty_megabytes_more_is_measured_so_whatever_its_parent_holds() -> None:
    memory = names("memory")
    held = bytes(range(256)) * (800_000_000 // 256)  # more than the processes have, and written to
    small, large = (memory.peak(memory.started(f"x = b'1' * {size}")) for size in (0, 50_000_000))
    del held
    assert 45_000_000 < large - small < 55_000_000


def test_a_release_is_measured_once_for_all_cells_and_its_step_s_processes_say_what_the_import_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchskew_kit", kit)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.6", __file__="/2.6/torch"))
    memory = names("memory")
    code = memory.PEAK + "say_peak('import')\nheld = b'1' * 50_000_000\n"
    asked: list[str] = []

    def told(process: subprocess.Popen) -> dict[str, int]:
        asked.append("a process")
        return memory.told(process)

    memory.sizes.__globals__.update(IMPORT=code, STEP="", told=told)

    def sizes(variant: str) -> list[int]:
        return memory.sizes(SimpleNamespace(variant=variant, timeout=60.0))

    before, after = sizes("import"), sizes("step")
    assert all(45_000_000 < large - small < 55_000_000 for small, large in zip(before, after, strict=True))
    assert len(before) == len(asked) == memory.TIMES


@pytest.mark.parametrize(("name", "bound"), [("speed", "slower"), ("memory", "larger")])
def test_the_gate_s_bound_reaches_every_variant(name: str, bound: str) -> None:
    scenario = with_bounds(read_scenarios(), {bound: 0.3})[name]
    assert {variant.params[bound] for variant in scenario.variants if variant} == {0.3}


def memory_report(torch: str, *, cuda: bool = True, **changed) -> dict:
    """What a rank without a GPU reports of torch.cuda.memory."""
    answers = {f"function_{number}": ["value", "int 0"] for number in range(20)}
    answers.update(mem_get_info=["clear", "RuntimeError: no driver"], memory_summary=["unclear", "KeyError: 'a'"])
    answers.update(changed)
    return {"torch": torch, "cuda": cuda, "answers": {name: each for name, each in answers.items() if each}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"function_3": None}, "function_3 is gone"),
        ({"function_3": ["value", "int 7"]}, "function_3 was int 0, is int 7"),
        ({"function_3": ["clear", "RuntimeError: no driver"]}, "function_3 was int 0, is RuntimeError: no driver"),
        ({"mem_get_info": ["unclear", "AttributeError: _C"]}, "mem_get_info was RuntimeError: no driver, is Attr"),
    ],
)
def test_an_answer_without_a_gpu_that_got_worse_is_wrong_in_the_later_release_whichever_rank_that_is(
    changed: dict, says: str
) -> None:
    early, late = memory_report("2.6.0+cu124"), memory_report("2.15.0+cu132", **changed)
    for reports, later in (([early, late], 1), ([late, early], 0)):
        wrong = judged("cuda_memory", reports)
        assert list(wrong) == [later]
        assert says in wrong[later]


def test_answers_without_a_gpu_that_got_better_pass_and_builds_without_cuda_are_compared_by_names_alone() -> None:
    early = memory_report("2.6.0+cu124")
    better = memory_report(
        "2.15.0", memory_summary=["value", "str"], mem_get_info=["value", "tuple"], new=["value", "x"]
    )
    assert "23 functions; unclear: " in judged("cuda_memory", [early, better]).note
    other = memory_report("2.13.0+cpu", cuda=False, function_3=["unclear", "AttributeError: _C"])
    assert judged("cuda_memory", [early, other]).note.endswith("one build has CUDA and one has not")
    assert judged("cuda_memory", [early, memory_report("2.13.0+cpu", cuda=False, function_3=None)])[1].endswith("gone")
    assert list(judged("cuda_memory", [early, {**other, "answers": {}}])) == [1]


def test_an_error_without_a_text_or_from_inside_torch_is_unclear() -> None:
    def fails(error: Exception):
        def call() -> None:
            raise error

        return call

    answer = names("cuda_memory").answer
    assert answer(fails(RuntimeError("no driver\nmore"))) == ["clear", "RuntimeError: no driver"]
    assert answer(fails(RuntimeError()))[0] == answer(fails(KeyError("a")))[0] == "unclear"
    assert answer(dict) == ["value", "dict {}"]
    assert answer(lambda: "text") == ["value", "str"]
