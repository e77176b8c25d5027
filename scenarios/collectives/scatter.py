"""scatter gives every rank its own part of the root's list.

Each rank is the root once; the root's part for a rank is [root, rank, 100 * root + rank]. Oracle: every rank,
including the root, holds exactly its part.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)


def part(root, rank):
    """What the root has for a rank."""
    return [root, rank, 100 * root + rank]


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous()
    cases = {}
    for root in range(job.world_size):
        mine = torch.full((3,), -1)
        parts = [torch.tensor(part(root, one)) for one in range(job.world_size)] if job.rank == root else None
        dist.scatter(mine, parts, src=root)
        cases["root %d" % root] = mine.tolist()
    return {"cases": cases}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare(reports, world, lambda rank: {"root %d" % root: part(root, rank) for root in range(world.size)})
