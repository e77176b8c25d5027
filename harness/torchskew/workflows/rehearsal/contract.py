"""The contract with a training script: what it finds in its environment; docs/rehearsal.md states it for a user."""

from __future__ import annotations

from dataclasses import dataclass

from torchskew.model.rehearsal import CheckpointFormat, RehearsalSpec
from torchskew.workflows.rehearsal.observed import Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start the script. hold: the training step to wait at (None: nowhere); resume: the checkpoint to load.

    until: train through this step (None: the plan's last). pace: shortest training step in seconds; place: keeps a
    control's checkpoints apart from the job's.
    """

    folder: str
    hold: int | None
    formats: tuple[CheckpointFormat, ...]
    resume: Commit | None
    pace: float
    until: int | None = None
    place: str = ""


def settings(spec: RehearsalSpec, launch: Launch, share: str, generation: int) -> dict[str, str]:
    """What the script finds in its environment. share: the job's folder that all ranks see."""
    return {
        "TORCHSKEW_CHECKPOINTS": f"{share}/checkpoints",
        "TORCHSKEW_HOLD": f"{share}/hold-{launch.folder}",
        "TORCHSKEW_RESUME": launch.resume.name if launch.resume else "",
        "TORCHSKEW_FORMATS": ",".join(launch.formats),
        "TORCHSKEW_STEPS": str(spec.training_steps if launch.until is None else launch.until),
        "TORCHSKEW_EVERY": str(spec.checkpoint_every),
        "TORCHSKEW_SEED": str(spec.seed),
        "TORCHSKEW_PACE": str(launch.pace),
        "TORCHSKEW_TIMEOUT": str(spec.timeout),
        "TORCHSKEW_GENERATION": str(generation),
    }
