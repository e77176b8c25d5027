"""A subgroup made after the rendezvous finds its members, however its name is made.

Group names decide which keys of the store a subgroup's members meet under, and each release has its own way to make
them. `counter`: two groups, of all ranks and of the first two. `local`: made by its members only
(use_local_synchronization), whose name is a digest. `destroyed`: a group is made and destroyed first, so that whatever
counts groups has counted. Members then all-reduce rank + 1; the oracle is the sum over the members, and nothing for
ranks outside.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")
VARIANTS = {way: {"params": {"way": way}} for way in ("counter", "local", "destroyed", "local_destroyed")}


def groups(size):
    """Members of the groups of one cell, by the case's name."""
    return {"all": list(range(size)), "two": [0, 1]}


def lacks(job):
    import inspect

    import torch.distributed as dist

    if "use_local_synchronization" not in inspect.signature(dist.new_group).parameters:
        return dict.fromkeys(("local", "local_destroyed"), "new_group has no use_local_synchronization")
    return {}


def rank(job):
    import torch
    import torch.distributed as dist

    job.need(job.variant)
    job.rendezvous()
    local = {"use_local_synchronization": True} if job.variant.startswith("local") else {}
    if job.variant.endswith("destroyed"):
        dist.destroy_process_group(dist.new_group(list(range(job.world_size)), **local))
    cases = {}
    for name, members in groups(job.world_size).items():
        if local and job.rank not in members:
            cases[name] = None
            continue
        group = dist.new_group(members, **local)
        tensor = torch.tensor([job.rank + 1])
        if job.rank in members:
            dist.all_reduce(tensor, group=group)
        cases[name] = int(tensor) if job.rank in members else None
    return {"cases": cases}


def judge(reports, world):
    from harness.oracle import compare

    def expected(rank):
        found = groups(world.size).items()
        return {name: sum(one + 1 for one in members) if rank in members else None for name, members in found}

    return compare(reports, world, expected)
