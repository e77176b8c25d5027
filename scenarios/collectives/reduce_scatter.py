"""reduce_scatter gives every rank the sum of all ranks' parts for that rank.

A rank's part for another is [rank + 1, 10 * other]. Variant `list` calls reduce_scatter with a list of parts;
`tensor` calls reduce_scatter_tensor with their concatenation. The oracle is the closed form [n(n+1)/2, 10 * n *
rank]. gloo gained both late: a version that refuses is UNSUPPORTED, with its own text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)
VARIANTS = {"list": {}, "tensor": {}}


def summed(form, rank, size):
    """What one rank gets."""
    import torch
    import torch.distributed as dist

    parts = [torch.tensor([rank + 1, 10 * other]) for other in range(size)]
    out = torch.full((2,), -1)
    if form == "list":
        dist.reduce_scatter(out, parts)
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

    total = world.size * (world.size + 1) // 2
    return compare(reports, world, lambda rank: {"sum": [total, 10 * world.size * rank]})
