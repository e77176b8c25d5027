"""broadcast gives every rank the root's bytes, whichever release the root runs.

Each rank is the root once, for every dtype and for sizes 0, 1 and 1025. The bytes are a pattern of root and dtype, so
float dtypes also carry NaNs and denormals. Oracle: sha256 of the root's bytes, computed without torch.
"""

import hashlib

KIND = "group"
WORLD = (2, None)
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")

WIDTHS = {"uint8": 1, "bool": 1, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
SIZES = (0, 1, 1025)


def pattern(dtype, size, root):
    """The bytes that the root sends."""
    length = size * WIDTHS[dtype]
    period = bytes((i * 31 + 7 * root + WIDTHS[dtype]) % 251 % (2 if dtype == "bool" else 256) for i in range(251))
    return (period * (length // 251 + 1))[:length]


def lacks(job):
    """Return the dtypes that this version refuses, in its own words."""
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    asked = {d + "/*": kit.refusal(lambda: dist.broadcast(torch.zeros(1, dtype=getattr(torch, d)), 0)) for d in WIDTHS}
    return {case: why for case, why in asked.items() if why}


def rank(job):
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    results = {}
    for dtype, size, root in cases(job.world_size):
        name = "%s/%d/root-%d" % (dtype, size, root)
        if not job.skipped(name):
            tensor = torch.zeros(size, dtype=getattr(torch, dtype))
            if job.rank == root:
                kit.fill(tensor, pattern(dtype, size, root))
            dist.broadcast(tensor, root)
            results[name] = kit.digest(kit.raw(tensor))
    return {"cases": results}


def cases(world):
    """Every dtype, size and root, in the order in which every rank runs them."""
    return [(dtype, size, root) for dtype in WIDTHS for size in SIZES for root in range(world)]


def judge(reports, world):
    from torchskew.judging import oracle

    right = {
        "%s/%d/root-%d" % (dtype, size, root): hashlib.sha256(pattern(dtype, size, root)).hexdigest()
        for dtype, size, root in cases(world.size)
    }
    return oracle.compare(reports, world, lambda rank: right)
