"""Several faults at once, each on a node of its own: injected together, each observed and each healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torchskew.errors import HarnessError
from torchskew.faults.base import Fault, Target

# They end the job. The others are injected before them and healed before them: a job starts again on healthy nodes.
ENDING = frozenset({"kill"})
Hit = tuple[Fault, Target]


class Together:
    """One or more faults with their targets; what one of them does not show, all of them do not."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        """Do nothing yet."""
        self._hits = sorted(hits, key=lambda hit: hit[0].name in ENDING)
        self._begun: list[Hit] = []

    def inject(self) -> None:
        """Inject each; one that fails half-way has begun, and is healed as well."""
        for hit in self._hits:
            self._begun.append(hit)
            hit[0].inject(hit[1])

    def observed(self, lasts: float) -> str | None:
        """The evidence that each happened."""
        return self._evidence(lambda fault, target: fault.observed(target, lasts))

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
        return self._evidence(lambda fault, target: fault.healed(target, seconds))

    def _evidence(self, of: Callable[[Fault, Target], str | None]) -> str | None:
        shown = [(fault.name, of(fault, target)) for fault, target in self._hits]
        if any(text is None for _, text in shown):
            return None
        return "; ".join(f"{name}: {text}" if len(shown) > 1 else str(text) for name, text in shown)
