"""Invariants of the upgrade's windows: checkpoints across releases, refusals, collectives, hangs; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchskew.judging.judge import public
from torchskew.model.outcomes import Outcome
from torchskew.workflows.rehearsal.causes import core, root
from torchskew.workflows.rehearsal.findings import Breach, Invariant
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex, attempts
from torchskew.workflows.rehearsal.invariants.rule import Rule, first_few
from torchskew.workflows.rehearsal.observed import (
    CollectiveEvidence,
    Commit,
    FormatReading,
    Generation,
    ReadEvidence,
    Reading,
    StartResult,
    State,
    StepResult,
)
from torchskew.workflows.rehearsal.planned import (
    Collective,
    Expect,
    Finalise,
    ReadCheckpoint,
    Rejoin,
    StageKind,
    StartJob,
    Step,
)

R6 = Rule("R6", "the new release loads what the old one wrote, unchanged, and trains on")
R7 = Rule("R7", "on rollback the old release reads what the new one wrote, or its refusal names both")
R8 = Rule("R8", "a group that must not form refuses clearly on every rank, before any collective or checkpoint")
R9 = Rule("R9", "collectives of a mixed group are right on every rank, whichever release hosts it")
R10 = Rule("R10", "nothing hangs: every step of the plan ends before its deadline")
R11 = Rule("R11", "after finalise an old node is refused on every rank")
# Seconds from the rendezvous to the refusal.
REFUSAL = 1.0


def forward(index: EvidenceIndex) -> Invariant:
    """R6."""
    return _checkpoints(index, R6, back=False)


def backward(index: EvidenceIndex) -> Invariant:
    """R7."""
    if index.observation.plan.spec.rollback is None:
        return R7.untested("not rehearsed: --rollback was not given")
    return _checkpoints(index, R7, back=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A reading that was right: who read, what, and who wrote it. by_hash: whether what was read was compared."""

    by: frozenset[str]
    what: str
    writer: str
    by_hash: bool

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.by))} read {self.what}, which {self.writer} wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """Readings checked so far: those that are right, and those that are not. refused: refusals that name both."""

    good: tuple[_Read, ...] = ()
    breaches: tuple[Breach, ...] = ()
    refused: tuple[str, ...] = ()

    def and_(self, other: _Checked) -> _Checked:
        """Both together."""
        return _Checked(
            good=self.good + other.good, breaches=self.breaches + other.breaches, refused=self.refused + other.refused
        )  # fmt: skip


def _checkpoints(index: EvidenceIndex, rule: Rule, *, back: bool) -> Invariant:
    checked = _Checked()
    for step, result in index.steps(ReadCheckpoint):
        if _rolls_back(step) is back and result is not None and isinstance(result.evidence, ReadEvidence):
            checked = checked.and_(_read_alone(index, step, result.evidence, named=back))
    for step, result in index.steps(StartJob):
        upgraded = index.observation.plan.spec.new.name in step.versions
        if _rolls_back(step) is back and (back or upgraded):
            checked = checked.and_(_loaded_by_group(index, step, result))
    if checked.breaches:
        return rule.fails(checked.breaches)
    if untried := _untried(index):
        return rule.unknown(untried)
    return _proven(index, rule, checked, back=back)


def _proven(index: EvidenceIndex, rule: Rule, checked: _Checked, *, back: bool) -> Invariant:
    """What the readings show: only those across the releases count, in the direction that the rule speaks of."""
    spec = index.observation.plan.spec
    writer, reader = (spec.new.name, spec.old.name) if back else (spec.old.name, spec.new.name)
    across = [read for read in checked.good if read.writer == writer and reader in read.by]
    if not across and not checked.refused:
        why = f"{reader} read no checkpoint that {writer} wrote"
        why += f"; what was read: {first_few(dict.fromkeys(map(str, checked.good)), 2)}" if checked.good else ""
        return rule.untested(why) if back else rule.unknown(why)
    hashed = sum(read.by_hash for read in across)
    compared = "every hash as written" if hashed == len(across) else f"{hashed} of them compared by hash"
    texts = [f"{len(across)} readings, {compared}: {first_few(dict.fromkeys(map(str, across)), 2)}"] if across else []
    texts += [f"refused by name: {first_few(dict.fromkeys(checked.refused), 1)}"] if checked.refused else []
    return rule.passes("; ".join(texts))


def _rolls_back(step: Step) -> bool:
    return step.stage.kind is StageKind.ROLLBACK


def _read_alone(index: EvidenceIndex, step: Step, evidence: ReadEvidence, *, named: bool) -> _Checked:
    """What a node read alone. named: an error that names both releases is a refusal of the newest checkpoint."""
    checked = _Checked()
    for reading, may_refuse in ((evidence.newest, named), (evidence.kept, False)):
        if reading is None:
            continue
        if reading.unchanged is False:
            text = f"{reading.by} reading {reading.checkpoint}: the reader changed its files"
            checked = checked.and_(_Checked(breaches=(Breach(step.number, text),)))
        failed = {"": reading.error, **{name: read.error for name, read in reading.formats.items()}}
        for name, error in failed.items():
            refused = may_refuse and error is not None and _names_all(error, index.observation.reports)
            if error is not None:
                checked = checked.and_(_unread(step, reading, name, error, refused=refused))
            elif name:
                checked = checked.and_(_one_format(step, reading, name))
    return checked


def _unread(step: Step, reading: Reading, name: str, error: str, *, refused: bool) -> _Checked:
    """A checkpoint that could not be read. name: of the format; empty where the script's reader failed as a whole."""
    writer = f", which {reading.writer} wrote," if reading.writer else ""
    where = f"{reading.by} reading {reading.checkpoint}{writer}" + (f" as {name}" if name else "")
    text = f"{where}: {core(error)}{_remedy(reading, name)}"
    return _Checked(refused=(text,)) if refused else _Checked(breaches=(Breach(step.number, text, core(error)),))


def _remedy(reading: Reading, name: str) -> str:
    """What the reader showed to work instead."""
    read = reading.formats.get(name, FormatReading())
    ways = [other for other, each in reading.formats.items() if each.hash is not None and each.hash == reading.written]
    if read.partial is not None and read.partial == reading.written:
        ways.append("dcp with DefaultLoadPlanner(allow_partial_load=True)")
    return f" Tried here, and read as written: {', '.join(ways)}." if ways else ""


def _one_format(step: Step, reading: Reading, name: str) -> _Checked:
    read = reading.formats[name]
    if read.hash is None:
        return _Checked()
    if read.hash != reading.written:
        text = f"{reading.by} reading {reading.checkpoint} as {name}: what it read is not what was written"
        return _Checked(breaches=(Breach(step.number, text),))
    what = f"{reading.checkpoint} as {name}"
    return _Checked(good=(_Read(by=frozenset({reading.by}), what=what, writer=reading.writer, by_hash=True),))


def _names_all(text: str, reports: Mapping[str, str]) -> bool:
    return all(public(torch) in text for torch in reports.values())


def _loaded_by_group(index: EvidenceIndex, step: Step, result: StepResult | None) -> _Checked:
    """What a whole group loaded when it started."""
    checked = _Checked()
    for attempt, generation in zip(attempts(result), index.generations_of(step.number), strict=False):
        resumed, group = generation.resumed, ", ".join(generation.versions)
        if resumed is None or attempt.result is StartResult.REFUSED:
            continue
        if attempt.result is StartResult.FAILED:
            # Whether the loading failed, or something before it that R8 to R10 speak of.
            if not generation.loaded and (error := root(generation)):
                formats = "+".join(attempt.formats)
                text = f"({group}) could not load {resumed.name} ({formats}): {error}"
                checked = checked.and_(_Checked(breaches=(Breach(step.number, text, error),)))
            continue
        changed = [loaded.rank for loaded in generation.loaded if loaded.hash not in (None, resumed.hash)]
        if changed:
            text = f"({group}) loaded {resumed.name} with another hash on ranks {changed}"
            checked = checked.and_(_Checked(breaches=(Breach(step.number, text),)))
        elif generation.loaded:
            checked = checked.and_(_Checked(good=(_loaded(generation, resumed),)))
    return checked


def _untried(index: EvidenceIndex) -> str | None:
    """That torch.distributed.checkpoint was asked for and could not be tried, through no fault of a release."""
    versions = {
        generation.versions[missing.rank]
        for generation in index.observation.generations
        for missing in generation.missing_dcp
        if missing.no_numpy
    }
    if not versions:
        return None
    fix = 'Add requires = ["numpy"] to the version, or pass --checkpoint plain.'
    return f"DCP was not tried: the environment of {', '.join(sorted(versions))} has no NumPy. {fix}"


def _loaded(generation: Generation, resumed: Commit) -> _Read:
    """What a group that resumed shows: the releases of the ranks that logged that they had loaded."""
    by = frozenset(generation.versions[loaded.rank] for loaded in generation.loaded)
    by_hash = all(loaded.hash is not None for loaded in generation.loaded)
    return _Read(by=by, what=resumed.name, writer=resumed.by, by_hash=by_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """How a group that must refuse behaved. after: seconds until each rank's error; wrote: what it must not do."""

    outcomes: tuple[Outcome, ...]
    after: tuple[float, ...]
    wrote: tuple[str, ...] = ()


def refusals(index: EvidenceIndex) -> Invariant:
    """R8."""
    breaches: list[Breach] = []
    slowest, count = 0.0, 0
    for step, result in index.steps(StartJob, Collective, Rejoin):
        if _expect(step) is not Expect.REFUSE or result is None:
            continue
        count += 1
        refusal = _started(index, step) if isinstance(step.action, StartJob) else _collective(result)
        breaches += [Breach(step.number, f"step {step.number}: {text}") for text in _broken(refusal)]
        slowest = max(slowest, *refusal.after, 0.0)
    if breaches:
        return R8.fails(breaches)
    if not count:
        return R8.untested("no group of this plan must refuse")
    groups = "1 group" if count == 1 else f"{count} groups"
    return R8.passes(f"{groups} refused on every rank, the slowest after {slowest:.2f} s, nothing written")


def _expect(step: Step) -> Expect:
    """What the plan expects of a step's group; an old node that comes back after finalise must be refused."""
    match step.action:
        case StartJob(expect=expect) | Collective(expect=expect):
            return expect
        case _:
            return Expect.REFUSE


def _broken(refusal: _Refusal) -> list[str]:
    late = max(refusal.after, default=0.0)
    texts = []
    if set(refusal.outcomes) != {Outcome.CLEAR}:
        texts.append(", ".join(refusal.outcomes) or "no outcome")
    elif late > REFUSAL:
        texts.append(f"refused after {late:.1f} s, {REFUSAL:.0f} s is allowed")
    return [*texts, *refusal.wrote]


def _started(index: EvidenceIndex, step: Step) -> _Refusal:
    outcomes: list[Outcome] = []
    after: list[float] = []
    wrote: list[str] = []
    for generation in index.generations_of(step.number):
        outcomes += generation.outcomes
        after += [fact.error_after for fact in generation.facts if fact.error_after is not None]
        if generation.lines:
            wrote.append(f"{len(generation.lines)} training steps were logged")
        if generation.commits:
            wrote.append(f"checkpoint {generation.commits[0].name} was written")
    return _Refusal(outcomes=tuple(outcomes), after=tuple(after), wrote=tuple(wrote))


def _collective(result: StepResult) -> _Refusal:
    evidence = _evidence(result)
    after = tuple(seconds for seconds in evidence.error_after if seconds is not None)
    return _Refusal(outcomes=evidence.outcomes, after=after)


def _evidence(result: StepResult | None) -> CollectiveEvidence:
    """What a collective showed; nothing where it did not get that far."""
    evidence = result.evidence if result else None
    return evidence if isinstance(evidence, CollectiveEvidence) else CollectiveEvidence()


def collectives(index: EvidenceIndex) -> Invariant:
    """R9."""
    breaches: list[Breach] = []
    cases, hosts = 0, []
    for step, collective, result in index.actions(Collective):
        if collective.expect is not Expect.TRAIN or result is None:
            continue
        evidence = _evidence(result)
        if result.state is not State.DONE or set(evidence.outcomes) != {Outcome.OK}:
            breaches.append(Breach(step.number, f"step {step.number}: {result.why}"))
        cases += evidence.cases or 0
        hosts.append(step.versions[collective.order[0]])
    if breaches:
        return R9.fails(breaches)
    if not hosts:
        return R9.untested("no mixed group of this plan must train")
    if not cases:
        return R9.unknown("no case of a collective was counted")
    host = "at a bridge, rank 0 on" if index.observation.plan.spec.strategy.bridged else "hosted by"
    return R9.passes(f"{cases} cases of all_reduce right on every rank, {host} {', '.join(sorted(set(hosts)))}")


def hangs(index: EvidenceIndex) -> Invariant:
    """R10."""
    breaches = [
        Breach(generation.step, f"generation {generation.number}, rank {rank} ({generation.versions[rank]}): HANG")
        for generation in index.observation.generations
        for rank, outcome in enumerate(generation.outcomes)
        if outcome is Outcome.HANG
    ]
    for step in index.observation.plan.steps:
        result = index.results.get(step.number)
        if result and (result.seconds > step.deadline or Outcome.HANG in _evidence(result).outcomes):
            breaches.append(Breach(step.number, f"step {step.number}: {result.why or 'a rank hung'}"))
    if breaches:
        return R10.fails(breaches)
    if not index.observation.results:
        return R10.unknown("no step was carried out")
    longest = max(index.observation.results, key=lambda result: result.seconds)
    return R10.passes(f"the longest step, {longest.number}, took {longest.seconds:.1f} s")


def finalised(index: EvidenceIndex) -> Invariant:
    """R11."""
    done = [result for _, result in index.steps(Finalise) if result and result.state is State.DONE]
    rejoins = list(index.actions(Rejoin))
    if not done or not rejoins or rejoins[0][2] is None:
        return R11.unknown("the plan did not get as far as an old node that comes back after finalise")
    step, rejoin, result = rejoins[0]
    outcomes = _evidence(result).outcomes
    if set(outcomes) != {Outcome.CLEAR}:
        return R11.fails([Breach(step.number, f"an old node joined after finalise: {', '.join(outcomes)}")])
    return R11.passes(f"node {rejoin.node} came back with {step.versions[rejoin.node]}: refused on every rank")
