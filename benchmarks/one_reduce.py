"""Two ranks meet, reduce four numbers, and part: the smallest cell that does what every cell does.

The oracle is the closed form of the sum.
"""

KIND = "group"


def rank(job):
    """Meet and reduce."""
    import torch
    import torch.distributed as dist

    job.rendezvous()
    tensor = torch.ones(4) * (job.rank + 1)
    dist.all_reduce(tensor)
    return {"values": tensor.tolist()}


def judge(reports, world):
    """Every rank has 1 + 2 + … + size."""
    want = [world.size * (world.size + 1) / 2] * 4
    return {rank: f"{report['values']}" for rank, report in enumerate(reports) if report and report["values"] != want}
