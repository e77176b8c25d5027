"""A mix that the guard admits works: at the first init, and at a second one on the same port.

`once`: one init. `twice`: the group is destroyed and formed again at the same address, and the guard exchanges hellos
again. `early`: the rank calls a reference to init_process_group that it took before the guard was installed. A mix
that the table does not admit must be refused by name on every rank. Oracle: after every init, the sum of the ranks'
numbers and rank 0's word.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
GUARD = ("on",)
NEEDS = ("gloo", "guard")
TIERS = ("smoke", "critical", "full")
VARIANTS = {"once": {}, "twice": {}, "early": {}}


def rank(job):
    import datetime as dt

    import torch.distributed as dist

    taken = dist.init_process_group
    if job.variant == "early":
        from torchskew_guard import install

        install()
        job.phase("rendezvous")
        where, limit = "tcp://%s:%d" % (job.host, job.port), dt.timedelta(seconds=job.timeout)
        taken("gloo", init_method=where, rank=job.rank, world_size=job.world_size, timeout=limit)
        job.phase("run")
    else:
        job.rendezvous()
    cases = values(job, "first")
    if job.variant == "twice":
        leave(job)
        job.rendezvous()
        cases.update(values(job, "second"))
    return {"cases": cases}


def leave(job):
    """Destroy the group, the last rank first: stock gloo was seen to hang where three ranks do it at once."""
    from torchskew_kit import leave_group

    for later in range(job.rank + 1, job.world_size):
        job.fetch("left %d" % later)
    leave_group()
    job.post("left %d" % job.rank, True)


def values(job, when):
    """A sum over all ranks and a word of rank 0."""
    import torch
    import torch.distributed as dist

    number, word = torch.tensor([job.rank + 1]), torch.tensor([42 if job.rank == 0 else 0])
    dist.all_reduce(number)
    dist.broadcast(word, 0)
    return {"sum/%s" % when: int(number), "word/%s" % when: int(word)}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    def expected(rank):
        times = ("first", "second") if any(r and "sum/second" in r.get("cases", {}) for r in reports) else ("first",)
        right = {}
        for when in times:
            right.update({"sum/%s" % when: world.size * (world.size + 1) // 2, "word/%s" % when: 42})
        return right

    return compare(reports, world, expected)
