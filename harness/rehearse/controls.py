"""Controls: the same job with the same seed and no upgrade, all its ranks in one warm node of one release."""

from __future__ import annotations

from harness.rehearse.model import Generation
from harness.rehearse.training import Training


def run(training: Training, version: str, name: str) -> Generation:
    """The control's record; MachineError when its node can't start.

    It is paced by nothing and waits nowhere, so it takes a second or two.
    """
    node = 0
    seat = training.cluster.seat(node, version)
    spec = training.spec
    how = {"hold": "", "formats": spec.formats, "pace": 0.0}
    place = f"control-{name.replace(' ', '-')}"
    live = training.begin([seat] * spec.nodes, place, how, place)
    live.group.settle(spec.timeout * 3 + 0.2 * spec.steps)
    finished = all(one.finished for one in live.group.facts())
    return training.keep(live, "finished" if finished else "it did not finish", place)
