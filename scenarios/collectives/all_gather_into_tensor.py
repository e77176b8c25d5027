"""all_gather_into_tensor fills one tensor with the parts of all ranks, in rank order.

A rank gives [10 * rank, 10 * rank + 1], in int64 and in float64. The oracle is the concatenation. gloo gained this
operation late: a version that refuses it is UNSUPPORTED, with its own text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)

DTYPES = ("int64", "float64")


def gathered(rank, size, dtype):
    """All ranks' parts, as this rank sees them."""
    import torch
    import torch.distributed as dist

    out = torch.full((2 * size,), -1, dtype=getattr(torch, dtype))
    dist.all_gather_into_tensor(out, torch.tensor([10 * rank, 10 * rank + 1], dtype=out.dtype))
    return out.tolist()


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    why = refusal(lambda: gathered(0, 1, "int64"))
    return {"*": why} if why else {}


def rank(job):
    job.rendezvous()
    return {"cases": {dtype: gathered(job.rank, job.world_size, dtype) for dtype in DTYPES}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    whole = [10 * rank + k for rank in range(world.size) for k in (0, 1)]
    return compare(reports, world, lambda rank: dict.fromkeys(DTYPES, whole))
