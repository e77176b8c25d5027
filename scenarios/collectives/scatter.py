"""scatter hands every rank its own part of the root's list.

Each rank in turn is the root; the root's part for a rank is [root, rank, 100 * root + rank]. The oracle: that rank,
the root included, holds exactly that.
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
