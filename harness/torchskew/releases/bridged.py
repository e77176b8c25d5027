"""What a bridge can do for two releases, and what it can't: what changed above the store stays broken. Pure."""

from __future__ import annotations

from torchskew.model.outcomes import Outcome, Store
from torchskew.releases import eras

# What some pairs of releases do not do together at a bridge, by the scenario that shows it (docs/bridge.md).
ABOVE_THE_STORE = {
    "ddp.unused": "DDP with find_unused_parameters",
    "fsdp.wrapped": "FSDP",
    "dtensor": "DTensor",
    "device_mesh.one_d": "device meshes",
    "device_mesh.two_d": "device meshes of two dimensions",
    "new_group.local": "groups made with use_local_synchronization",
    "new_group.after_local": "groups made after one with use_local_synchronization",
    "object_collectives.moved": "objects of classes that a release moved",
    "reduce_scatter.tensor": "reduce_scatter_tensor",
    "reduce_scatter.average": "reduce_scatter with AVG or MAX",
    "checkpoint_together.saved": "distributed checkpoints that a group saves",
    "checkpoint_together.loaded": "distributed checkpoints that a group loads",
}


def brought_together(first: str | None, second: str | None) -> bool:
    """Whether a bridge can bring these two releases into one group; False where a release is not known."""
    ranks = [eras.release(torch) if torch else None for torch in (first, second)]
    return all(rank is not None and eras.bridgeable(rank) for rank in ranks)


def uncovered(first: str, second: str) -> tuple[str, ...]:
    """What ranks of two releases are not known to do right together although they meet at a bridge, in words."""
    return (*(words for case, words in ABOVE_THE_STORE.items() if not _right(case, (first, second))), "NCCL")


def _right(case: str, torch: tuple[str, str]) -> bool:
    """Whether both orders are known to be right."""
    both = (torch, torch[::-1])
    predicted = [eras.predict(eras.Situation(torch=each, scenario=case, store=Store.BRIDGE)) for each in both]
    return all(set(outcomes) == {Outcome.OK} for outcomes in predicted)
