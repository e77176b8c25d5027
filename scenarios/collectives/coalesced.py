"""Coalesced collectives, which take several tensors in one call, keep the tensors apart.

`all_reduce_coalesced` sums three tensors of different lengths and `all_gather_coalesced` gathers two; gloo has had
both for a long time. The oracle is the closed form of each tensor. Each version is asked in a world of one what it
lacks.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)
NAMES = ("all_reduce", "all_gather")


def reduced(rank, size):
    import torch
    import torch.distributed as dist

    tensors = [torch.full((length,), float(rank + length)) for length in (1, 3, 2)]
    dist.all_reduce_coalesced(tensors)
    return [one.tolist() for one in tensors]


def gathered(rank, size):
    import torch
    import torch.distributed as dist

    mine = [torch.tensor([float(rank)]), torch.tensor([float(10 + rank), -1.0])]
    out = [[torch.zeros(1), torch.zeros(2)] for _ in range(size)]
    dist.all_gather_coalesced(out, mine)
    return [[one.tolist() for one in row] for row in out]


CALLS = {"all_reduce": reduced, "all_gather": gathered}


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {name: refusal(lambda name=name: CALLS[name](0, 1)) for name in NAMES}
    if all(found.values()):
        return {"*": found["all_reduce"]}
    return {name: why for name, why in found.items() if why}


def rank(job):
    job.rendezvous()
    names = [name for name in NAMES if not job.skipped(name)]
    return {"cases": {name: CALLS[name](job.rank, job.world_size) for name in names}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    ranks = range(world.size)
    right = {
        "all_reduce": [[float(sum(rank + length for rank in ranks))] * length for length in (1, 3, 2)],
        "all_gather": [[[float(rank)], [10.0 + rank, -1.0]] for rank in ranks],
    }
    return compare(reports, world, lambda rank: right)
