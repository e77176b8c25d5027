"""kill: the node's rank dies at once, as by the kernel's out-of-memory killer; the job restarts."""

from __future__ import annotations

from torchskew.faults.base import Target


class Kill:
    """SIGKILL to the rank; healed by a restart from the last checkpoint."""

    name = "kill"

    def available(self, runtime: str) -> str | None:
        """A signal works everywhere."""
        del runtime
        return None

    def inject(self, target: Target) -> None:
        """Kill the rank."""
        target.signal("KILL")

    def observed(self, target: Target, lasts: float) -> str | None:
        """The end of the rank, as its agent saw it."""
        end = target.ended(lasts + 5.0)
        return f"the rank ended by {end}" if end == "SIGKILL" else None

    def heal(self, target: Target) -> None:
        """Restart the job from its last checkpoint."""
        target.restart()

    def healed(self, target: Target, seconds: float) -> str | None:
        """Steps are completed again."""
        return target.advances(seconds)
