"""Ranks may leave in any order, and the last one still ends well.

After one all_reduce, in `host_first` rank 0 destroys its process group and with it the store; the others leave when
nothing listens on its port any more. In `joiner_first`, rank 0 leaves when all others have reported, outside the code
under test, that they destroyed theirs. In `no_destroy`, every rank leaves without destroying anything. Oracle: every
rank reaches the end with the right sum and a normal exit.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)
VARIANTS = {"host_first": {}, "joiner_first": {}, "no_destroy": {}}


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous()
    tensor = torch.tensor([job.rank + 1])
    dist.all_reduce(tensor)
    others = range(1, job.world_size)
    if job.variant == "no_destroy":
        dist.destroy_process_group = lambda: None  # the harness would do it for us
    elif job.variant == "host_first":
        if job.rank:
            until_closed(job)
        dist.destroy_process_group()
        if job.rank == 0:
            job.post("host left", True)
    elif job.rank:
        dist.destroy_process_group()
        job.post("left %d" % job.rank, True)
    else:
        for one in others:
            job.fetch("left %d" % one)
        dist.destroy_process_group()
    return {"cases": {"sum": int(tensor)}}


def until_closed(job):
    """Wait until rank 0's group is gone, and then a moment for its store to close."""
    import time

    job.fetch("host left")
    time.sleep(0.05)


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare(reports, world, lambda rank: {"sum": world.size * (world.size + 1) // 2})
