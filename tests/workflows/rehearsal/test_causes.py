"""One cause for each distinct error, whole, the root first; what only lost a peer is counted behind it."""

from __future__ import annotations

from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.model.outcomes import Outcome, Phase
from torchskew.workflows.rehearsal.causes import causes, core, ending, sentence

KEY = "Missing key in checkpoint state_dict: optim.param_groups.0.decoupled_weight_decay."
DCP = f"""CheckpointException ranks:dict_keys([0, 1, 2, 3])
Traceback (most recent call last): (RANK 0)
  File "utils.py", line 192, in reduce_scatter
    local_data = map_fun()
    raise RuntimeError(f"Missing key in checkpoint state_dict: {{fqn}}.")
RuntimeError: {KEY}
Traceback (most recent call last): (RANK 1)
RuntimeError: {KEY}
"""
REFUSED = """Weights only load failed. This file can still be loaded, to do so you have two options.
\t(1) In PyTorch 2.6, we changed the default value of the `weights_only` argument.
\tWeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default.
"""


def rank(number: int, text: str | None, after: float | None = 1.0, kind: str = "RuntimeError", **more) -> RankFacts:
    error = ErrorFacts(type=kind, text=text) if text is not None else None
    declared = "2.13.0" if number == 3 else "2.6.0"
    return RankFacts(
        rank=number, declared=declared, phase=Phase.RUN, error=error, error_after=after if error else None, **more
    )  # fmt: skip


OPAQUE, OK = Outcome.OPAQUE, Outcome.OK


def test_the_core_of_an_error_is_the_exception_inside_it_whole() -> None:
    assert core(DCP) == f"RuntimeError: {KEY}"
    assert core(REFUSED).startswith("WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace")
    assert core("ValueError: no") == "ValueError: no"
    assert core("") == "no text"
    assert core("x" * 1900) == "x" * 1900
    assert core("x" * 2010).endswith(" … and 10 more characters")


def test_an_error_is_told_with_its_kind_once() -> None:
    assert ending(rank(0, "'RANK'", kind="KeyError")) == "KeyError: 'RANK'"
    assert ending(rank(0, DCP, kind="torch.distributed.checkpoint.api.CheckpointException")) == f"RuntimeError: {KEY}"
    assert ending(rank(0, None, signal="SIGSEGV")) == "it was ended by SIGSEGV"


def test_four_ranks_with_one_error_have_one_cause() -> None:
    facts = [rank(number, f"port 4{number}: bad") for number in range(4)]
    assert sentence(facts, [OPAQUE] * 4) == (
        "RuntimeError: port 40: bad (OPAQUE on ranks 0, 1, 2 on 2.6.0 and rank 3 on 2.13.0)"
    )


def test_the_root_comes_first_even_where_a_peer_reports_its_loss_earlier() -> None:
    facts = [rank(0, "Connection closed by peer [::1]:5", 0.1), rank(1, "KeyError", 0.5), rank(2, None), rank(3, DCP)]
    found = causes(facts, [OPAQUE, OPAQUE, OK, OPAQUE])
    assert [(cause.text[:20], cause.ranks, cause.consequence) for cause in found] == [
        ("RuntimeError: KeyErr", [1], False),
        ("RuntimeError: Missin", [3], False),
        ("RuntimeError: Connec", [0], True),
    ]
    assert sentence(facts, [OPAQUE, OPAQUE, OK, OPAQUE]).endswith("; rank 0 then lost a peer")


def test_where_every_rank_only_lost_a_peer_that_is_the_cause() -> None:
    facts = [rank(number, "Connection reset by peer", number + 1.0) for number in range(2)]
    found = causes(facts, [OPAQUE] * 2)
    assert [(cause.ranks, cause.consequence) for cause in found] == [([0, 1], False)]


def test_ranks_that_ended_well_have_no_cause() -> None:
    assert sentence([rank(0, None)], [OK]) == ""
