"""Doctored candidates, real releases with one thing broken: each shuts the gate at the right cell, rank and class."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from torchskew.engine.progress import Plain
from torchskew.model.outcomes import Outcome, Tier, Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import RunKind
from torchskew.model.versions import Environment
from torchskew.record.record import Record
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import run_gate
from torchskew.workflows.options import Options

from tests.doctored import VERSION, Change, added, doctored, replaced

pytestmark = [pytest.mark.torch, pytest.mark.slow]
RENDEZVOUS = "torch/distributed/rendezvous.py"
C10D, LINEAR = "torch/distributed/distributed_c10d.py", "torch/nn/modules/linear.py"
MEET, PART = "rendezvous_tcp", "torch/distributed/checkpoint/__init__.py"
OK, WRONG, OPAQUE, TIMEOUT = Outcome.OK, Outcome.WRONG, Outcome.OPAQUE, Outcome.TIMEOUT
HANG, CRASH, NOT_RUN = Outcome.HANG, Outcome.CRASH, Outcome.NOT_RUN
CANDIDATE_HOSTS, CANDIDATE_JOINS = "candidate,2.13.0", "2.13.0,candidate"

WRONG_SUM = """
_right_all_reduce = all_reduce

def all_reduce(tensor, *args, **kwargs):
    work = _right_all_reduce(tensor, *args, **kwargs)
    if tensor.dtype is torch.int64 and tensor.numel():
        tensor.add_(1)
    return work
"""
NO_BFLOAT16 = """
_right_all_reduce = all_reduce

def all_reduce(tensor, *args, **kwargs):
    if tensor.dtype is torch.bfloat16:
        raise RuntimeError("bfloat16 is gone")
    return _right_all_reduce(tensor, *args, **kwargs)
"""
HANGS = """
def init_process_group(*args, **kwargs):
    import threading
    threading.Event().wait()
"""
CRASHES = """
def init_process_group(*args, **kwargs):
    import os
    os.abort()
"""


def shifted_store(text: str) -> str:
    """The store's client and server speak through a relay that renumbers two operations."""
    _, _, code = (Path(__file__).with_name("shim_store.py")).read_text().partition("import annotations\n")
    return text.replace("from .constants import", f"{code}\n\nfrom .constants import", 1)


def renamed_weight(text: str) -> str:
    """Linear keeps its weights under another name; everything that reads `weight` still finds them."""
    head, _, rest = text.partition("class Linear(Module):")
    body, _, tail = rest.partition("class NonDynamicallyQuantizableLinear")
    body = body.replace("    weight: Tensor\n", "").replace("self.weight = Parameter(", "self.W = Parameter(")
    body = body.rstrip() + "\n\n    @property\n    def weight(self):\n        return self.W\n\n\n"
    return f"{head}class Linear(Module):{body}class NonDynamicallyQuantizableLinear{tail}"


def of_another_kind(text: str) -> str:
    """A build for CUDA says that it is for the CPU alone, and one for the CPU that it is for CUDA."""
    cuda = "'1.0'" if "cuda: Optional[str] = None" in text else "None"
    return re.sub(r"(?m)^cuda: Optional\[str\] = .*$", f"cuda: Optional[str] = {cuda}", text)


class Gate:
    """One gate after another over one record: the controls run once."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python
        versions = f'[versions]\n"2.13.0" = {{ interpreter = "{python}", torch = "2.13.0" }}\n'
        self.declaration = folder / "torchskew.toml"
        self.declaration.write_text(f"{versions}[matrix]\ntimeout = 3\n")
        self.said = ""

    def held(
        self,
        name: str,
        changes: Mapping[str, Change],
        *scenarios: str,
        label: str = VERSION,
        only: tuple[str, ...] = (),
    ) -> int:
        """Exit code for a candidate that was changed like that; the smoke tier unless cells are named."""
        candidate = doctored(self.python, self.folder / name, changes, label)
        out = self.folder / "out"
        options = Options(
            kind=RunKind.GATE,
            declaration=self.declaration,
            out=out,
            command="torchskew gate",
            scenarios=scenarios,
            only=only,
        )
        tier = Tier.FULL if only else Tier.SMOKE
        return run_gate(Request(candidate=f"interpreter:{candidate}", tier=tier), options, Plain(io.StringIO()))

    def results(self) -> dict[str, CellResult]:
        """Of the latest run, by scenario and skew."""
        with Record.open(self.folder / "out" / "record.sqlite") as record:
            return {result.cell.id.rsplit("/", 2)[0]: result for result in record.results()}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, torch_environment: Environment) -> Gate:
    return Gate(tmp_path_factory.mktemp("doctored"), torch_environment.handle)


Held = Callable[..., tuple[dict[str, tuple[Outcome, ...]], str]]


@pytest.fixture
def red(gate: Gate, capsys: pytest.CaptureFixture[str]) -> Held:
    """The outcomes of the cells that failed, and what the user read; the gate must have been shut."""

    def held(name: str, changes: Mapping[str, Change], *scenarios: str) -> tuple[dict[str, tuple[Outcome, ...]], str]:
        assert gate.held(name, changes, *scenarios) == 1
        failed = {key: one.outcomes for key, one in gate.results().items() if one.verdict is Verdict.FAIL}
        return failed, capsys.readouterr().out

    return held


def test_an_undoctored_copy_opens_the_gate(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.held("same", {}) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("gate open: candidate interpreter:")
    assert {one.verdict for one in gate.results().values()} == {Verdict.PASS}


def test_a_build_between_releases_is_expected_to_do_only_what_both_of_them_do(gate: Gate) -> None:
    """As 2.5 its store serves 2.13.0, as 2.4 it does not; whatever it does there, the prediction was not wrong."""
    assert gate.held("between", {}, MEET, label="2.5.0a0+gitabc") == 0
    results = gate.results()
    hosts, joins = results[f"{MEET}/{CANDIDATE_HOSTS}"], results[f"{MEET}/{CANDIDATE_JOINS}"]
    assert (hosts.cell.predicted, hosts.outcomes) == ((), (OK, OK))
    assert (joins.cell.predicted, joins.outcomes) == ((OK, OK), (OK, OK))


def test_what_a_build_of_another_kind_costs_is_not_held_against_the_candidate(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.held("kind", {"torch/version.py": of_another_kind}, only=("memory.import/*", "speed.import/*")) == 0
    said = capsys.readouterr().out
    assert {one.verdict for one in gate.results().values()} == {Verdict.UNSUPPORTED}
    assert re.search(r"2x 2\.13\.0\S* is a (CPU|CUDA) build and 2\.13\.0\S* is a (?!\1)(CPU|CUDA) build; only", said)


def test_a_changed_rendezvous_key_keeps_the_group_from_forming(red: Held) -> None:
    failed, said = red(
        "key", {C10D: replaced('PrefixStore("default_pg", store)', 'PrefixStore("the_pg", store)')}, MEET
    )
    assert set(failed) == {f"rendezvous_tcp/{skew}" for skew in (CANDIDATE_HOSTS, CANDIDATE_JOINS)}
    assert all(set(outcomes) <= {TIMEOUT, OPAQUE} for outcomes in failed.values())
    assert "2 regressions (rendezvous_tcp with 2.13.0)" in said.splitlines()[-1]


def test_a_store_that_numbers_its_operations_otherwise_works_with_itself_and_with_no_release(red: Held) -> None:
    failed, _ = red("store", {RENDEZVOUS: shifted_store}, MEET)
    assert set(failed) == {f"{MEET}/{skew}" for skew in (CANDIDATE_HOSTS, CANDIDATE_JOINS)}
    assert all(set(outcomes) <= {TIMEOUT, OPAQUE} for outcomes in failed.values())


def test_a_renamed_key_fails_on_the_candidates_rank_and_in_both_orders_of_a_checkpoint(red: Held) -> None:
    failed, said = red("rename", {LINEAR: renamed_weight}, "state_dict_keys", "torch_save")
    assert failed == {
        f"state_dict_keys/{CANDIDATE_HOSTS}": (WRONG, OK),
        f"state_dict_keys/{CANDIDATE_JOINS}": (OK, WRONG),
        f"torch_save/{CANDIDATE_HOSTS}": (OK, OPAQUE),
        f"torch_save/{CANDIDATE_JOINS}": (OK, OPAQUE),
    }
    assert "lost Linear.weight, new Linear.W" in said


def test_an_all_reduce_that_is_wrong_on_one_dtype_is_wrong_on_the_candidates_ranks_alone(red: Held) -> None:
    failed, said = red("sum", {C10D: added(WRONG_SUM)}, MEET, "all_reduce")
    assert failed["all_reduce.small/" + CANDIDATE_HOSTS] == (WRONG, OK)
    assert failed["all_reduce.small/" + CANDIDATE_JOINS] == (OK, WRONG)
    assert failed["all_reduce.small/candidate,candidate"] == (WRONG, WRONG)
    assert {key.partition(".")[0] for key in failed} == {"all_reduce"}
    assert "SUM/int64/1" in said
    assert "float32" not in said.split("known")[0].split("rank 0 WRONG")[1].splitlines()[0]


def test_an_all_reduce_that_says_it_lacks_a_dtype_is_told_from_one_that_no_release_has(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.held("dtype", {C10D: added(NO_BFLOAT16)}, MEET, "all_reduce") == 1
    said = capsys.readouterr().out
    assert "newly unsupported, 2.13.0 can: SUM/bfloat16/*, candidate: RuntimeError: bfloat16 is gone" in said
    assert "AVG/bool" not in said
    assert "regressions (all_reduce.small with itself, all_reduce.large with itself" in said.splitlines()[-1]


def test_a_part_that_does_not_import_is_named(red: Held) -> None:
    failed, said = red("part", {PART: added('raise ImportError("no parts here")')}, "import_smoke")
    assert failed == {"import_smoke.parts/candidate": (WRONG,)}
    assert "no parts here" in said


def test_a_torch_that_does_not_import_shuts_the_gate_with_the_error(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.held("import", {"torch/__init__.py": added('raise ImportError("libgone.so: cannot open")')}, MEET) == 1
    results = gate.results()
    assert all(one.verdict is Verdict.UNKNOWN for key, one in results.items() if "candidate" in key)
    assert results["rendezvous_tcp/2.13.0,2.13.0"].verdict is Verdict.PASS
    assert "`import torch` fails: ImportError: libgone.so: cannot open" in capsys.readouterr().out.splitlines()[-1]


def test_a_hang_in_init_is_a_hang_of_the_candidates_rank(red: Held) -> None:
    failed, said = red("hang", {C10D: added(HANGS)}, MEET)
    assert failed[f"rendezvous_tcp/{CANDIDATE_HOSTS}"][0] is HANG
    assert failed[f"rendezvous_tcp/{CANDIDATE_JOINS}"] == (TIMEOUT, HANG)
    assert failed["rendezvous_tcp/candidate,candidate"] == (HANG, HANG)
    assert "stopped by us" in said


def test_a_crash_in_init_is_a_crash_of_the_candidates_rank_with_its_signal(red: Held) -> None:
    failed, said = red("crash", {C10D: added(CRASHES)}, MEET)
    assert failed[f"rendezvous_tcp/{CANDIDATE_JOINS}"][1] is CRASH
    assert failed[f"rendezvous_tcp/{CANDIDATE_HOSTS}"][0] is CRASH
    assert "SIGABRT" in said
