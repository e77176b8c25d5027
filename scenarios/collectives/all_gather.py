"""all_gather gives every rank the tensors of all ranks, in rank order.

Each rank contributes a tensor that names it, for several dtypes and for sizes 1 and 1025. Oracle: sha256 of the
tensors' bytes, one digest per place in the result, computed without torch, so two swapped ranks are WRONG. Size 0 is
left out: gloo up to 1.7 divides by it and crashes, so a version can't even be asked.
"""

import hashlib
import struct

KIND = "group"
WORLD = (2, 100)
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")

FORMATS = {"uint8": "B", "int32": "i", "int64": "q", "float16": "e", "float32": "f", "float64": "d"}
SIZES = (1, 1025)


def block(rank):
    """Seven values that name the rank and fit every dtype exactly."""
    return [(rank * 2 + i * 17) % 200 + i % 2 for i in range(7)]


def cases():
    """Every dtype and size, in the order in which every rank runs them."""
    return [(dtype, size) for dtype in FORMATS for size in SIZES]


def lacks(job):
    """Return the dtypes and sizes that this version refuses, in its own words."""
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    refused = {}
    for dtype, size in cases():
        tensor = torch.zeros(size, dtype=getattr(torch, dtype))
        why = kit.refusal(lambda: dist.all_gather([torch.zeros_like(tensor)], tensor))
        if why:
            refused["%s/%d" % (dtype, size)] = why
    return refused


def rank(job):
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    results = {}
    for dtype, size in cases():
        name = "%s/%d" % (dtype, size)
        if not job.skipped(name):
            own = kit.patterned(block(job.rank), size, dtype)
            gathered = [torch.zeros_like(own) for _ in range(job.world_size)]
            dist.all_gather(gathered, own)
            results[name] = [kit.digest(kit.raw(tensor))[:16] for tensor in gathered]
    return {"cases": results}


def judge(reports, world):
    from torchskew.judging import oracle

    places = range(world.size)
    right = {"%s/%d" % case: [expected(*case, rank) for rank in places] for case in cases()}
    return oracle.compare(reports, world, lambda rank: right)


def expected(dtype, size, rank):
    """The digest of what one rank contributes, shortened so that a reason shows all places."""
    data = struct.pack("=7" + FORMATS[dtype], *block(rank))
    return hashlib.sha256((data * (size // 7 + 1))[: size * len(data) // 7]).hexdigest()[:16]
