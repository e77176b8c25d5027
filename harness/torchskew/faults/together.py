"""Several faults at once, each on a node of its own: injected together, each observed and each healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torchskew.errors import HarnessError
from torchskew.faults.base import Fault, Target

# They end the job. The others are injected before them and healed before them: a job starts again on healthy nodes.
ENDING = frozenset({"kill"})
# While one of them holds, nothing gets on: neither the job nor the probe of another fault.
STOPPING = frozenset({"pause", "partition"})
# Seconds that a probe needs to see that nothing gets on.
SHORTEST = 0.8
Hit = tuple[Fault, Target]


def stopped_seconds(names: Sequence[str], lasts: float) -> float:
    """How long faults that are to last so long keep the job from every step."""
    return sum(name in STOPPING for name in names) * _share(names, lasts)


def _share(names: Sequence[str], lasts: float) -> float:
    """How long each that stops the job is watched: they hold together, and are watched one after another."""
    return max(SHORTEST, lasts / max(1, sum(name in STOPPING for name in names)))


class Together:
    """One or more faults with their targets; what one of them does not show, all of them do not.

    What only hinders traffic is seen before a fault begins that stops it: `loss` behind a `partition` would be looked
    for until the job's own timeout ends it. At the end all of them hold at once.
    """

    def __init__(self, hits: Sequence[Hit]) -> None:
        """Do nothing yet."""
        self._hits = sorted(hits, key=lambda hit: (hit[0].name in ENDING, hit[0].name in STOPPING))
        self._begun: list[Hit] = []
        self._seen: dict[int, str | None] = {}

    def inject(self, lasts: float) -> None:
        """Inject each; one that fails half-way has begun, and is healed as well."""
        hinders = [hit for hit in self._hits if hit[0].name not in ENDING | STOPPING]
        rest = self._hits[len(hinders) :]
        self._begin(hinders)
        if rest:
            self._seen = {number: fault.observed(target, lasts) for number, (fault, target) in enumerate(hinders)}
        self._begin(rest)

    def _begin(self, hits: Sequence[Hit]) -> None:
        for hit in hits:
            self._begun.append(hit)
            hit[0].inject(hit[1])

    def observed(self, lasts: float) -> str | None:
        """The evidence that each happened."""
        share = _share([fault.name for fault, _ in self._hits], lasts)

        def evidence(number: int, hit: Hit) -> str | None:
            if number in self._seen:
                return self._seen[number]
            return hit[0].observed(hit[1], share if hit[0].name in STOPPING else lasts)

        return self._evidence(evidence)

    def heal(self) -> None:
        """Undo what was begun, all of it whatever fails; a job that several faults ended starts again once.

        Raises:
            HarnessError: the first thing that could not be undone.
        """
        problems: list[HarnessError] = []
        ended = [hit for hit in self._begun if hit[0].name in ENDING]
        for fault, target in [*(hit for hit in self._begun if hit not in ended), *ended[:1]]:
            try:
                fault.heal(target)
            except HarnessError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def healed(self, seconds: float) -> str | None:
        """The evidence that each is undone."""
        return self._evidence(lambda _, hit: hit[0].healed(hit[1], seconds))

    def _evidence(self, of: Callable[[int, Hit], str | None]) -> str | None:
        shown = [(hit[0].name, of(number, hit)) for number, hit in enumerate(self._hits)]
        if any(text is None for _, text in shown):
            return None
        return "; ".join(f"{name}: {text}" if len(shown) > 1 else str(text) for name, text in shown)
