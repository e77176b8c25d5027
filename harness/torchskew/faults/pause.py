"""pause: the node's rank stops for a while, then continues, as on a frozen or swapping machine."""

from __future__ import annotations

from torchskew.faults.base import Target


class Pause:
    """SIGSTOP, then SIGCONT before the process group's timeout: the job has to wait for the rank."""

    name = "pause"

    def available(self, runtime: str) -> str | None:
        """A signal works everywhere."""
        del runtime
        return None

    def inject(self, target: Target) -> None:
        """Stop the rank."""
        target.signal("STOP")

    def observed(self, target: Target, lasts: float) -> str | None:
        """No step is completed while one rank of a synchronous job is stopped."""
        return target.stalls(lasts)

    def heal(self, target: Target) -> None:
        """Let the rank continue."""
        target.signal("CONT")

    def healed(self, target: Target, seconds: float) -> str | None:
        """Steps are completed again, without a restart."""
        return target.advances(seconds)
