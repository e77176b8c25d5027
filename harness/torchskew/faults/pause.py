"""pause: the node's rank stops for a while and goes on, as a frozen or swapping machine does."""

from __future__ import annotations

from torchskew.faults.base import Target


class Pause:
    """SIGSTOP, then SIGCONT, for less than the process group's timeout: the job is to wait for it."""

    name = "pause"

    def available(self, runtime: str) -> str | None:
        """A signal works everywhere."""
        del runtime
        return None

    def inject(self, target: Target) -> None:
        """Stop the rank."""
        target.signal("STOP")

    def observed(self, target: Target, lasts: float) -> str | None:
        """No step is completed while one rank of a synchronous job stands still."""
        return target.stands(lasts)

    def heal(self, target: Target) -> None:
        """Let it go on."""
        target.signal("CONT")

    def healed(self, target: Target, seconds: float) -> str | None:
        """New steps, of the same generation."""
        return target.advances(seconds)
