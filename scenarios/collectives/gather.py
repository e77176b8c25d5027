"""gather brings the tensors of all ranks to the root, in rank order.

Each rank is the root once; a rank sends [rank, root, rank * root]. Oracle: the root holds exactly these rows, and no
other rank holds anything.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous()
    cases = {}
    for root in range(job.world_size):
        mine = torch.tensor([job.rank, root, job.rank * root])
        rows = [torch.full_like(mine, -1) for _ in range(job.world_size)] if job.rank == root else None
        dist.gather(mine, rows, dst=root)
        cases["root %d" % root] = [row.tolist() for row in rows] if rows else None
    return {"cases": cases}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    def expected(rank):
        ranks = range(world.size)
        return {
            "root %d" % root: [[sender, root, sender * root] for sender in ranks] if rank == root else None
            for root in ranks
        }

    return compare(reports, world, expected)
