"""split_group divides the world into two groups whose members find each other.

The even ranks and the odd ranks become one group each, in one call that every rank makes. Each group all-reduces rank
+ 1; the oracle is the sum over the group. gloo can be split only since 2.9: a version that refuses is UNSUPPORTED,
with its own text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "split_group")
APPLIES = ">=2.5"
TIERS = ("full",)


def halves(size):
    """The groups; a world of one has one."""
    return [part for part in (list(range(0, size, 2)), list(range(1, size, 2))) if part]


def summed(rank, size):
    """The sum over this rank's group."""
    import torch
    import torch.distributed as dist

    group = dist.split_group(split_ranks=halves(size))
    tensor = torch.tensor([rank + 1])
    dist.all_reduce(tensor, group=group)
    return int(tensor)


def meet(job):
    """Join the default group the way that split_group asks for: bound to a device."""
    import datetime as dt

    import torch
    import torch.distributed as dist

    job.phase("rendezvous")
    alone = {"store": dist.HashStore()} if not job.port else {"init_method": job.meeting_place()}
    dist.init_process_group(
        "gloo",
        rank=job.rank,
        world_size=job.world_size,
        timeout=dt.timedelta(seconds=job.timeout),
        device_id=torch.device("cpu", 0),  # up to 2.14 an accelerator is asked for
        **alone,
    )
    job.phase("run")


def lacks(job):
    from torchskew_kit import refusal

    why = refusal(lambda: meet(job)) or refusal(lambda: summed(0, 1))
    return {"*": why} if why else {}


def rank(job):
    meet(job)
    return {"cases": {"sum": summed(job.rank, job.world_size)}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare(reports, world, lambda rank: {"sum": sum(one + 1 for one in halves(world.size)[rank % 2])})
