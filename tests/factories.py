"""Builds made-up but realistic runs of any size, the same each time, for the tests of record and reports."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt, ErrorFacts, RankFacts
from torchskew.model.ids import CellId, Conditions
from torchskew.model.outcomes import Guard, Kind, Outcome, Phase, Verdict
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.model.runs import Run, RunInfo, RunKind

VERSIONS = ("2.1.2", "2.2.2", "2.6.0", "2.13.0")
GROUPS = ("rendezvous_tcp", "rendezvous_file", "all_reduce", "broadcast", "all_gather", "barrier")
ENV_SKEW = {"lazy_init": Outcome.HANG, "detail": Outcome.OPAQUE, "init_barrier": Outcome.CRASH}
OK, CLEAR, OPAQUE, TIMEOUT = Outcome.OK, Outcome.CLEAR, Outcome.OPAQUE, Outcome.TIMEOUT
TEXTS = {
    Outcome.OPAQUE: (
        "torch.distributed.DistNetworkError",
        "Connection reset by peer\nException raised from recvBytes at torch/csrc/distributed/c10d/Utils.hpp:670",
    ),
    Outcome.TIMEOUT: (
        "torch.distributed.DistStoreError",
        "Timed out after 11 seconds waiting for clients. 1/2 clients joined.",
    ),
    Outcome.CLEAR: (
        "torchskew_guard.VersionSkewError",
        "ranks run 2.1.2 (host-a) and 2.6.0 (host-b), which can't talk.\nInstall one release on every rank.",
    ),
}
LOG = "".join(
    f"[W1121 12:30:{line:02}.404 socket.cpp:{200 + line}] [c10d] waiting for \x1b[33mrank 1\x1b[0m <&>\n"
    for line in range(40)
)
STACKS = 'Thread 0x00007f1 (most recent call first):\n  File "all_reduce.py", line 41 in rank\n'


def cell(scenario="all_reduce", skew=("2.1.2", "2.6.0"), guard=Guard.OFF, variant=None, **more) -> Cell:
    """One cell with the id that a plan would give it."""
    fields = {"scenario": scenario, "skew": tuple(skew), "guard": guard, "variant": variant}
    return Cell(runtime="docker", **fields, **more)


def facts(rank: int, declared: str, outcome: Outcome, **more) -> RankFacts:
    """The facts of a rank of that version with that outcome."""
    done = outcome in {OK, Outcome.WRONG}
    base = RankFacts(
        rank=rank,
        declared=declared,
        torch=f"{declared}+cpu",
        git_version="7bcf7da3a268b435777fe87c7794c382f444e86d",
        python="3.11.7",
        host=f"10.88.0.{rank + 2}",
        phase=Phase.DONE if done else Phase.RENDEZVOUS,
        seconds=0.055 if done else 10.4,
        phases={"rendezvous": 0.031, "run": 0.012, "teardown": 0.004} if done else {"rendezvous": 10.4},
        finished=done,
        exit=0 if done else 1,
        payload={"SUM/int64/odd": "a1b2"} if done else {},
        log="" if done else LOG,
    )
    if outcome in TEXTS:
        name, text = TEXTS[outcome]
        base = replace(base, error=ErrorFacts(type=name, text=text), error_after=10.1 if outcome is TIMEOUT else 0.21)
    if outcome is Outcome.CRASH:
        base = replace(base, exit=None, signal="SIGABRT")
    if outcome is Outcome.HANG:
        base = replace(base, exit=None, signal="SIGKILL", killed=True, stacks=STACKS)
    if outcome is Outcome.UNSUPPORTED:
        base = replace(base, unsupported=f"torch {declared} has no ReduceOp.AVG", log="")
    if outcome is Outcome.NOT_RUN:
        base = replace(base, phase=Phase.PROVISION, exit=None, machine="no memory for another rank", log="")
    return replace(base, **more)


def result(of: Cell, *outcomes: Outcome, verdict: Verdict | None = None, **more) -> CellResult:
    """The judged cell; the verdict follows from the outcomes unless it is given."""
    if verdict is None:
        same = set(outcomes)
        verdict = Verdict.PASS if same in ({OK}, {CLEAR}) else Verdict.FAIL
        verdict = Verdict.UNSUPPORTED if Outcome.UNSUPPORTED in same else verdict
        verdict = Verdict.UNKNOWN if Outcome.NOT_RUN in same else verdict
    ranks = tuple(facts(rank, of.skew[rank], outcome) for rank, outcome in enumerate(outcomes))
    seconds = max((one.seconds for one in ranks), default=0.0)
    attempts = (Attempt(number=1, ranks=ranks, seconds=seconds),) if ranks else ()
    reason = " · ".join(f"rank {rank} {outcome}" for rank, outcome in enumerate(outcomes)) or "nothing ran"
    base = {"reason": reason, "attempts": attempts, "seconds": seconds, "key": f"key-{of.id}"}
    base["phases"] = dict(ranks[0].phases) if ranks else {}
    return CellResult(cell=of, verdict=verdict, outcomes=tuple(outcomes), **(base | more))


def meet(skew: tuple[str, ...]) -> tuple[Outcome, ...]:
    """The outcome of a rendezvous of that skew in this made-up world: 2.1.2 talks to no other release."""
    old = [version == "2.1.2" or version.startswith("1.") for version in skew]
    if all(old) or not any(old):
        return (OK,) * len(skew)
    return tuple(TIMEOUT if rank == 0 else OPAQUE if old[0] else TIMEOUT for rank in range(len(skew)))


def _one(scenario: str, skew: tuple[str, ...], guard: Guard) -> CellResult:
    mixed = len(set(skew)) > 1
    met = (CLEAR,) * len(skew) if guard is Guard.ON and mixed and meet(skew)[0] is not OK else meet(skew)
    planned = cell(
        scenario,
        skew,
        guard,
        predicted=met,
        needs=()
        if scenario.startswith("rend")
        else (CellId.of("rendezvous_tcp", skew, "docker", Conditions(guard=guard)),),
    )
    if met[0] not in (OK, CLEAR) and planned.needs:
        return result(
            planned, verdict=Verdict.BLOCKED, blocked_by=planned.needs[0], reason=f"blocked by {planned.needs[0]}"
        )
    return result(planned, *met)


def results(versions=VERSIONS, groups=GROUPS):
    """Every cell of a matrix over those versions, in the order of a plan."""
    for version in versions:
        yield result(cell("import_smoke", (version,), kind=Kind.SOLO, predicted=(OK,)), OK)
    for (name, outcome), version in product(ENV_SKEW.items(), versions[-2:]):
        planned = cell(
            "env_skew", (version, version), variant=Variant(name=name, env={"X": "1"}), predicted=(OK, outcome)
        )
        yield result(planned, OK, outcome)
    for scenario, guard, skew in product(groups, (Guard.OFF, Guard.ON), product(versions, repeat=2)):
        yield _one(scenario, skew, guard)
    for scenario, skew in product(
        groups[:3], ((versions[0], versions[0], versions[1]), (versions[1], versions[1], versions[2]))
    ):
        yield _one(scenario, skew, Guard.OFF)


EXPECTATIONS = (
    Expectation(
        cells="*/2.1.2,*/guard-off/*",
        verdict=Verdict.FAIL,
        reason="the store's wire format changed in 2.2",
        link="https://github.com/pytorch/pytorch/issues/24273",
    ),
    Expectation(
        cells="*,2.1.2*/guard-off/*", verdict=Verdict.FAIL, reason="a newer client sends a PING that 2.1 does not know"
    ),
    Expectation(cells="env_skew.*", verdict=Verdict.FAIL, reason="one-sided settings, made on purpose"),
)


def checked(item: CellResult) -> Checked:
    """The result against EXPECTATIONS, without the gate's subtleties."""
    if item.verdict in (Verdict.BLOCKED, Verdict.UNSUPPORTED):
        return Checked(result=item, status=Status.NOT_JUDGED)
    if item.verdict is Verdict.UNKNOWN:
        return Checked(result=item, status=Status.UNKNOWN)
    known = EXPECTATIONS[2] if item.cell.scenario == "env_skew" else EXPECTATIONS[item.cell.skew[0] != "2.1.2"]
    known_here = item.cell.scenario == "env_skew" or len(set(item.cell.skew)) > 1
    if item.verdict is Verdict.FAIL and known_here and item.outcomes != (OK, Outcome.WRONG):
        return Checked(result=item, status=Status.KNOWN_FAILURE, expectation=known)
    return Checked(result=item, status=Status.REGRESSION if item.verdict is Verdict.FAIL else Status.EXPECTED)


def run(found: tuple[CellResult, ...], run_id="20261121-1230-a1b2", **more) -> Run:
    """A finished run of those results."""
    plan = Plan(cells=tuple(item.cell for item in found), runtime="docker", seed=0, digest="9f86d081884c")
    names = dict.fromkeys(version for item in found for version in item.cell.skew)
    info = RunInfo(
        run_id=run_id,
        kind=RunKind.MATRIX,
        command="torchskew matrix",
        seed=0,
        torchskew="0.1.0",
        runtime="docker 27.1 at unix:///var/run/docker.sock",
        runtime_why="a Docker engine answers",
        plan_digest=plan.digest,
        started="2026-11-21T12:30:00+00:00",
        finished="2026-11-21T12:30:41+00:00",
        environments={name: f"sha256:{name.replace('.', ''):0<12}" for name in names},
    )
    return Run(info=replace(info, **more), plan=plan, results=found, expectations=EXPECTATIONS)


def decision(found: tuple[CellResult, ...], problems: tuple[str, ...] = ()) -> Decision:
    """What the gate would say."""
    held = tuple(checked(item) for item in found)
    bad = sum(item.status not in (Status.EXPECTED, Status.KNOWN_FAILURE, Status.NOT_JUDGED) for item in held)
    words = f"not as expected: {bad} cells" if bad or problems else "as expected"
    return Decision(checked=held, problems=problems, exit_code=int(bool(bad or problems)), sentence=words)


def good_run() -> tuple[Run, Decision]:
    """A run where everything is as expected, known failures and blocked cells included."""
    found = tuple(results())
    return run(found), decision(found)


def bad_run() -> tuple[Run, Decision]:
    """The same run with a wrong value, a hang, a lost environment, a missing feature and an unexpected pass."""
    found = list(results())
    spoilt = {
        "all_reduce/2.6.0,2.13.0/guard-off/docker": (OK, Outcome.WRONG),
        "broadcast/2.2.2,2.6.0/guard-off/docker": (Outcome.HANG, Outcome.CRASH),
        "barrier/2.13.0,2.6.0/guard-off/docker": (Outcome.NOT_RUN, OK),
        "all_gather/2.6.0,2.6.0/guard-on/docker": (Outcome.UNSUPPORTED, Outcome.UNSUPPORTED),
    }
    for index, item in enumerate(found):
        if item.cell.id in spoilt:
            found[index] = result(
                item.cell, *spoilt[item.cell.id], skipped={"AVG/*": "torch 1.7.1 has no ReduceOp.AVG"}
            )
        if item.cell.id == "rendezvous_file/2.2.2,2.1.2/guard-off/docker":
            found[index] = result(item.cell, OK, OK)
    wrong = next(i for i, item in enumerate(found) if Outcome.WRONG in item.outcomes)
    found[wrong] = replace(found[wrong], reason="rank 1: SUM/float16/odd differs at index 7: 3.0, not 3.5 <b>&amp;</b>")
    held = decision(tuple(found), ("baseline.toml: cells[3] 'all_scatter/*' matches no cell of the plan. Remove it.",))
    passed = next(i for i, item in enumerate(found) if item.cell.id == "rendezvous_file/2.2.2,2.1.2/guard-off/docker")
    items = list(held.checked)
    items[passed] = Checked(result=found[passed], status=Status.UNEXPECTED_PASS, expectation=EXPECTATIONS[1])
    return run(tuple(found)), replace(held, checked=tuple(items))


def many(count: int) -> tuple[CellResult, ...]:
    """`count` results over as many versions as that needs."""
    versions = tuple(f"2.{minor}.{patch}" for minor in range(1, 40) for patch in (0, 1, 2))
    size = 2
    while 12 * size * size < count:
        size += 1
    return tuple(islice(results(versions[: size + 1]), count))
