"""Random schedules of faults: what `--faults random` means for a seed, as far as the training steps allow; pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from torchskew.errors import ConfigError
from torchskew.faults import FAULTS
from torchskew.model.rehearsal import RehearsalSpec
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import RehearsalPlan

RANDOM = "random"
# How many injections a schedule has, and how often one of them is two faults at once.
MOST_INJECTIONS = 6
TOGETHER = 1 / 3


def plan(spec: RehearsalSpec, unsupported: Mapping[str, str]) -> RehearsalPlan:
    """The plan of a spec; `random` among its faults becomes a schedule that its seed decides.

    unsupported: fault -> why it can't be injected here; a random schedule leaves those out from the start.

    Raises:
        ConfigError: too few training steps, even without a random fault, and what make_plan refuses.
    """
    if RANDOM not in spec.faults:
        return make_plan(spec, unsupported)
    asked = tuple(name for name in spec.faults if name != RANDOM)
    drawn = _drawn(spec, tuple(name for name in FAULTS if name not in unsupported))
    for count in range(len(drawn), 0, -1):
        try:
            return make_plan(replace(spec, faults=(*asked, *drawn[:count])), unsupported)
        except ConfigError:
            continue  # too few training steps for so many
    return make_plan(replace(spec, faults=(*asked, *drawn[:1])), unsupported)


def _drawn(spec: RehearsalSpec, names: tuple[str, ...]) -> tuple[str, ...]:
    """One to MOST_INJECTIONS injections, each of one fault or of two at once."""
    rng = random.Random(f"torchskew faults {spec.seed}")
    count = rng.randint(1, MOST_INJECTIONS)
    sizes = [2 if rng.random() < TOGETHER else 1 for _ in range(count)]
    return tuple("+".join(rng.choice(names) for _ in range(size)) for size in sizes)
