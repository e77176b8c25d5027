"""reduce gives the root the exact sum, whichever release the root runs.

Each rank is the root once; every rank contributes `rank + 1` times a short pattern, in int64 and in float64 (whole
numbers, so the sum is exact). Only the root's result is defined, so only the root reports it. The oracle is the
closed form: the pattern times n(n+1)/2.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)

PATTERN = [1, -2, 3, 40]
DTYPES = ("int64", "float64")


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous()
    cases = {}
    for root in range(job.world_size):
        for dtype in DTYPES:
            tensor = torch.tensor(PATTERN, dtype=getattr(torch, dtype)) * (job.rank + 1)
            dist.reduce(tensor, dst=root)
            if job.rank == root:
                cases["root %d %s" % (root, dtype)] = tensor.tolist()
    return {"cases": cases}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    total = world.size * (world.size + 1) // 2

    def expected(rank):
        return {"root %d %s" % (rank, dtype): [value * total for value in PATTERN] for dtype in DTYPES}

    return compare(reports, world, expected)
