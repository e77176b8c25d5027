"""Hostile ranks beside right ones: each cell is told as what it was, and its neighbours are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torchskew.model.outcomes import Verdict

from tests.chaos.desk import ROOT, Desk
from tests.chaos.trials import Trial

FOLDER = ROOT / "tests" / "chaos" / "hostile"
RIGHT = (Verdict.PASS, ("OK",))
# What the harness can't say more of than that the machine failed it: the rank broke its own report, or its agent.
MACHINES = (Verdict.UNKNOWN, ("NOT_RUN",))
TOLD = {
    "garbage": MACHINES, "kill_agent": MACHINES, "stop_agent": MACHINES, "deaf": (Verdict.FAIL, ("HANG",)),
    "close_all": (Verdict.FAIL, ("CRASH",)), "liar": (Verdict.FAIL, ("WRONG",)),
}  # fmt: skip
NEIGHBOURS = '"import_smoke", "rendezvous_tcp", "torch_save"'


def trials(make: Callable[..., Desk], deeds: str = "*", timeout: int = 2) -> Iterator[Trial]:
    """All deeds in one run, four cells at a time. deeds: which of them, as a pattern. timeout: seconds of each cell."""
    scenarios = f'[scenarios]\npath = "{FOLDER}"\n'
    desk = make("ranks", names="a", cells=f'["deed", {NEIGHBOURS}]', more=scenarios, timeout=timeout)
    code = desk.run(("matrix", "-j", "4", "--only", f"deed.{deeds}/*", "--only", "[!d]*"))
    if code not in (0, 1) or "Traceback" in desk.said.replace('Traceback (most recent call last):\n  File "<', ""):
        yield Trial(done="hostile ranks", wrong=f"exit code {code}", said=desk.said)
    for name, (verdict, outcomes) in desk.verdicts().items():
        deed = name.partition("/")[0].partition(".")[2] if name.startswith("deed.") else ""
        expected = TOLD.get(deed, (Verdict.PASS, ("OK",) * len(outcomes)))
        shown = f"{verdict} ({', '.join(outcomes)})"
        yield Trial(done=f"{name}: {shown}", wrong="" if (verdict, outcomes) == expected else f"expected {expected}")
    left = desk.left_behind()
    yield Trial(done="hostile ranks: nothing is left behind", wrong=f"left behind: {left}" if left else "")
