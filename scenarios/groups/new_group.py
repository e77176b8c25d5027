"""A subgroup created after the rendezvous finds its members, however its name is derived.

A group's name decides under which keys of the store its members meet, and each release derives names differently.
`counter`: two groups, of all ranks and of the first two. `local`: created by their members only
(use_local_synchronization), with digests as names. `destroyed` and `after_local` create another group first, so that
anything that counts groups has already counted: one named by counter and then destroyed, or one named by digest and
kept. Members then all-reduce rank + 1; the oracle is the sum over the members, and nothing for ranks outside. A
digest group that is created again after a destroy is left out: its name is the same and the store still holds the old
addresses, so which of them a rank reads is random even within one release.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")
VARIANTS = {way: {"params": {"way": way}} for way in ("counter", "local", "destroyed", "after_local")}


def groups(size):
    """Members of the groups of one cell, by the case's name."""
    return {"all": list(range(size)), "two": [0, 1]}


def lacks(job):
    import inspect

    import torch.distributed as dist

    if "use_local_synchronization" not in inspect.signature(dist.new_group).parameters:
        return dict.fromkeys(("local", "after_local"), "new_group has no use_local_synchronization")
    return {}


def rank(job):
    import torch
    import torch.distributed as dist

    job.need(job.variant)
    job.rendezvous()
    everybody = list(range(job.world_size))
    local = {"use_local_synchronization": True} if job.variant == "local" else {}
    if job.variant in ("destroyed", "after_local"):
        first = dist.new_group(everybody, **({"use_local_synchronization": True} if "local" in job.variant else {}))
        dist.all_reduce(torch.ones(1), group=first)
        dist.barrier()  # nobody destroys it while another still uses it
    if job.variant == "destroyed":
        dist.destroy_process_group(first)
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
    from torchskew.judging.oracle import compare

    def expected(rank):
        found = groups(world.size).items()
        return {name: sum(one + 1 for one in members) if rank in members else None for name, members in found}

    return compare(reports, world, expected)
