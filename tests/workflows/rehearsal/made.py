"""Builds what a sound rehearsal would have seen, without any process, for the tests of judge and report."""

from __future__ import annotations

from dataclasses import replace

from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.model.outcomes import Outcome, Phase
from torchskew.workflows.rehearsal.model import (
    Commit,
    Control,
    Do,
    Expect,
    Generation,
    Line,
    Loaded,
    Observed,
    Rehearsal,
    Release,
    Spec,
    State,
    Step,
    StepResult,
)
from torchskew.workflows.rehearsal.plan import make_rehearsal

OLD, NEW = Release(name="2.6.0", torch="2.6.0"), Release(name="2.13.0", torch="2.13.0")


def spec(**more) -> Spec:
    """2.6.0 to 2.13.0, which can mix."""
    return Spec(**{"old": OLD, "new": NEW, **more})


def line(step: int, rank: int, at: float = 0.0) -> Line:
    """What a rank logs: the same in every run, as a deterministic job does."""
    samples = tuple(step * 100 + rank * 4 + one for one in range(4))
    return Line(rank=rank, step=step, samples=samples, loss=1.0 / step + rank, at=at, hash=f"h{step}", norm=float(step))


class World:
    """Walks through a plan as a cluster without surprises would."""

    def __init__(self, plan: Rehearsal) -> None:
        self.plan, self.clock, self.done = plan, 1000.0, 0
        self.generations: list[Generation] = []
        self.results: list[StepResult] = []
        self.live: Generation | None = None
        self.commit: Commit | None = None
        self.versions = (plan.spec.old.name,) * plan.spec.nodes

    def observe(self) -> Observed:
        for step in self.plan.steps:
            self.act(step)
        points = [("old", OLD), ("old restarted", OLD), ("new restarted", NEW)]
        return Observed(
            plan=self.plan,
            results=tuple(self.results),
            generations=tuple(self.generations),
            controls=tuple(Control(name=name, version=one.name, generation=self.control(one)) for name, one in points),
            reports={one.name: f"{one.torch}+cpu" for one in (self.plan.spec.old, self.plan.spec.new)},
            seconds=60.0,
            memory={OLD.name: 200_000},
        )

    def control(self, release: Release) -> Generation:
        ranks = range(self.plan.spec.nodes)
        lines = tuple(line(step, rank) for step in range(1, self.plan.spec.steps + 1) for rank in ranks)
        versions = (release.name,) * len(ranks)
        return Generation(number=0, step=0, versions=versions, begun=0, ended=1, why="finished", lines=lines)

    def act(self, step: Step) -> None:
        before, evidence = self.versions, {}
        if step.do is Do.START:
            evidence = self.start(step)
        elif step.do in (Do.TRAIN, Do.FINISH):
            self.train(step.until or 0)
        elif step.do is Do.CHANGE:
            self.versions = step.versions
        elif step.do is Do.READ:
            evidence = {"newest": self.reading(step.versions[step.nodes[0]])}
        elif step.do is Do.PROBE:
            evidence = self.probed(step)
        elif step.do is Do.FAULT:
            evidence = self.fault(step)
        if step.do in (Do.DRAIN, Do.FINISH):
            self.end("drained" if step.do is Do.DRAIN else "finished")
        self.clock += 0.4
        self.results.append(
            StepResult(
                number=step.number, state=State.DONE, seconds=0.4, begun=self.clock - 0.4, before=before,
                after=self.versions, evidence=evidence,
            )
        )  # fmt: skip

    def start(self, step: Step) -> dict:
        refused = step.expect is Expect.REFUSE
        tried = {"checkpoint": self.commit.name if self.commit else None, "formats": ["plain"]}
        self.open(step.number, step.versions)
        if refused:
            self.end("refused")
        return {"starts": [{**tried, "outcome": "refused" if refused else "trains"}]}

    def open(self, number: int, versions: tuple[str, ...]) -> None:
        resumed = self.commit
        self.done = resumed.step if resumed else 0
        loaded = (
            tuple(Loaded(rank=r, checkpoint=resumed.name, hash=resumed.hash) for r in range(len(versions)))
            if resumed
            else ()
        )
        self.live = Generation(
            number=len(self.generations) + 1, step=number, versions=versions, begun=self.clock, ended=0.0, why="",
            resumed=resumed, loaded=loaded,
        )  # fmt: skip

    def train(self, until: int) -> None:
        assert self.live
        for step in range(self.done + 1, until + 1):
            self.clock += 0.03
            new = tuple(line(step, rank, self.clock) for rank in range(len(self.live.versions)))
            self.live = replace(self.live, lines=self.live.lines + new)
            if step % self.plan.spec.every == 0:
                self.save(step)
        self.done = until

    def save(self, step: int) -> None:
        assert self.live
        name = f"step-{step:05}-g{self.live.number}"
        self.commit = Commit(name=name, step=step, hash=f"h{step}", at=self.clock)
        self.live = replace(self.live, commits=(*self.live.commits, self.commit))

    def end(self, why: str) -> None:
        if self.live is None:
            return
        if why == "drained" and (self.commit is None or self.commit.step != self.done):
            self.save(self.done)
        outcome = {"refused": Outcome.CLEAR, "killed by a fault": Outcome.CRASH}.get(why, Outcome.OK)
        facts = tuple(self.facts(rank, name, outcome) for rank, name in enumerate(self.live.versions))
        done = replace(self.live, ended=self.clock, why=why, facts=facts, outcomes=(outcome,) * len(facts))
        self.generations.append(done if why != "refused" else replace(done, loaded=()))
        self.live = None

    def facts(self, rank: int, name: str, outcome: Outcome) -> RankFacts:
        error = ErrorFacts(type="Skew", text="2.6.0 and 2.13.0") if outcome is Outcome.CLEAR else None
        return RankFacts(
            rank=rank, declared=name, torch=f"{name}+cpu", phase=Phase.RUN, finished=outcome is Outcome.OK, error=error,
            error_after=0.05 if error else None,
        )  # fmt: skip

    def reading(self, by: str) -> dict:
        assert self.commit
        got = {"hash": self.commit.hash}
        told = {"checkpoint": self.commit.name, "written": self.commit.hash, "by": by, "unchanged": True}
        return {**told, "formats": {"dcp": got, "plain": got}}

    def probed(self, step: Step) -> dict:
        outcome = "CLEAR" if step.expect is Expect.REFUSE else "OK"
        ranks = len(step.versions)
        return {"outcomes": [outcome] * ranks, "cases": 45, "wrong": [], "after": [0.05] * ranks, "errors": []}

    def fault(self, step: Step) -> dict:
        if step.fault == "kill":
            assert self.live
            number, versions = self.live.step, self.live.versions
            self.end("killed by a fault")
            self.open(number, versions)
        well = {"healthy": True, "cases": 45}
        self.clock += 1.0
        return {"before": well, "observed": "seen", "healed": "seen", "after": well}


def sound(**more) -> Observed:
    """A rehearsal in which everything went well."""
    return World(make_rehearsal(spec(**more))).observe()
