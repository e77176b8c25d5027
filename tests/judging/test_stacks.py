"""The stacks of a hanging rank as records: which thread ran it, and where it waited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.judging.stacks import Frame, rank_first, read_stacks, waiting_in

OTHER = """Thread 0x00007f8d3d7fa700 [pt_autograd_0] (most recent call first):
  File "/env/lib/python3.11/threading.py", line 327 in wait
"""
HUNG = """Current thread 0x00007f8d5b1e4740 (most recent call first):
  File "/env/torch/distributed/c10d.py", line 41 in wait
  File "/env/torch/distributed/c10d.py", line ??? in _store_based_barrier
  File "/env/torch/distributed/c10d_logger.py", line 83 in wrapper
  File "/env/torch/distributed/c10d.py", line 4 in new_group
  File "/src/torchskew/inside/kit.py", line 70 in rendezvous
  File "/src/scenarios/all_reduce.py", line 12 in rank
  File "/src/torchskew/inside/child.py", line 150 in _work
  File "/src/torchskew/inside/child.py", line 80 in live
  File "/src/torchskew/inside/agent.py", line 190 in _fork
  File "<string>", line 5 in <module>
"""


def test_each_thread_has_its_frames_the_innermost_first() -> None:
    other, hung = read_stacks(f"{OTHER}\n{HUNG}")
    assert (other.current, other.runs_the_rank) == (False, False)
    assert (hung.current, hung.runs_the_rank) == (True, True)
    assert hung.frames[:2] == (
        Frame(file="/env/torch/distributed/c10d.py", line=41, function="wait"),
        Frame(file="/env/torch/distributed/c10d.py", line=None, function="_store_based_barrier"),
    )
    assert hung.text == HUNG.strip()


def test_a_place_is_named_by_the_innermost_calls_of_the_code_under_test() -> None:
    assert waiting_in(f"{OTHER}\n{HUNG}") == "new_group -> _store_based_barrier -> wait"


def test_the_innermost_call_is_named_though_it_is_called_like_a_decorator() -> None:
    lines = HUNG.splitlines()
    own = '  File "/home/user/test_walk.py", line 52 in inner'
    assert waiting_in("\n".join([lines[0], own, *lines[3:]])) == "rendezvous -> new_group -> inner"


def test_the_harnesss_own_frames_are_not_under_test() -> None:
    lines = HUNG.splitlines()
    assert waiting_in("\n".join([lines[0], *lines[6:]])) == "rank"
    assert waiting_in("\n".join([lines[0], *lines[7:]])) == ""


def test_the_ranks_thread_counts_even_if_another_one_wrote_the_stacks() -> None:
    written = OTHER.replace("Thread 0x", "Current thread 0x") + "\n" + HUNG.replace("Current thread", "Thread")
    assert waiting_in(written) == "new_group -> _store_based_barrier -> wait"


def test_a_stack_so_deep_that_its_outer_frames_are_cut_is_found_by_who_wrote_it() -> None:
    deep = "\n".join([*HUNG.splitlines()[:4], "  ..."])
    assert waiting_in(f"{OTHER}\n{deep}\n") == "_store_based_barrier -> wait"


def test_the_ranks_own_thread_comes_first() -> None:
    assert rank_first(f"{OTHER}\n{HUNG}") == f"{HUNG}\n{OTHER}"


@pytest.mark.parametrize("text", ["", "Fatal Python error: Aborted\n", "Thread 0x1 (most recent call first):\n"])
def test_text_without_frames_names_no_place_and_stays_as_it_is(text: str) -> None:
    assert (waiting_in(text), rank_first(text)) == ("", text)


def test_what_this_pythons_faulthandler_writes_is_understood(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import faulthandler\ndef wait():\n    faulthandler.dump_traceback()\nwait()\n")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert waiting_in(done.stderr) == "<module> -> wait"
