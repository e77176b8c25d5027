"""What a torch was built for. That decides what it loads, so releases are measured in builds of one kind."""

from __future__ import annotations

from typing import Any, Iterable

# The fields of torch.version that a build for such a device fills in. A build for ROCm may fill in `cuda` as well.
DEVICES = (("hip", "ROCm"), ("cuda", "CUDA"), ("xpu", "XPU"))


def kind_of_build() -> str:
    """Return what this torch was built for: ROCm, CUDA, XPU, or the CPU alone."""
    import torch

    return next((kind for field, kind in DEVICES if getattr(torch.version, field, None)), "CPU")


def need_one_kind(job: Any, others: Iterable[int]) -> None:
    """End this rank where one of these others runs a build of another kind; every rank says what it runs.

    In a handover the others are the ranks before this one, because later ones have not started.
    """
    import torch

    kind = kind_of_build()
    mine = "{} is a {} build".format(torch.__version__, kind)
    job.post("build of {}".format(job.rank), [kind, mine])
    for rank in others:
        other, theirs = job.fetch("build of {}".format(rank))
        if other != kind:
            first, second = (theirs, mine) if rank < job.rank else (mine, theirs)
            job.unsupported("{} and {}; only builds of one kind can be compared".format(first, second))
