"""reduce_scatter gives every rank the sum of all ranks' parts for that rank, or what else was asked for.

A rank's part for another is [rank + 1, 10 * other]. Variant `list` calls reduce_scatter with a list of parts;
`tensor` calls reduce_scatter_tensor with their concatenation; `average` does so with ReduceOp.AVG, as fully_shard does
with gradients, and `maximum` with ReduceOp.MAX. The oracle is the closed form: the sum [n(n+1)/2, 10 * n * rank], which
`average` divides by n, and the largest [n, 10 * rank]. gloo gained all of them late: a version that refuses is
UNSUPPORTED, with its own text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)
OPS = {"average": "AVG", "maximum": "MAX"}
VARIANTS = {"list": {}, "tensor": {}, **{name: {"params": {"op": op}} for name, op in OPS.items()}}


def summed(form, rank, size):
    """What one rank gets."""
    import torch
    import torch.distributed as dist

    dtype = torch.float64 if form == "average" else torch.int64
    parts = [torch.tensor([rank + 1, 10 * other], dtype=dtype) for other in range(size)]
    out = torch.full((2,), -1, dtype=dtype)
    if form == "list":
        dist.reduce_scatter(out, parts)
    elif form in OPS:
        dist.reduce_scatter_tensor(out, torch.cat(parts), op=getattr(dist.ReduceOp, OPS[form]))
    else:
        dist.reduce_scatter_tensor(out, torch.cat(parts))
    return out.tolist()


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {form: refusal(lambda form=form: summed(form, 0, 1)) for form in VARIANTS}
    return {form: why for form, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    job.rendezvous()
    return {"cases": {"sum": summed(job.variant, job.rank, job.world_size)}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    size, op = world.size, world.params.get("op")
    total, by = size * (size + 1) // 2, size if op == "AVG" else 1
    if op == "MAX":
        return compare(reports, world, lambda rank: {"sum": [size, 10 * rank]})
    return compare(reports, world, lambda rank: {"sum": [total / by, 10 * size * rank / by]})
