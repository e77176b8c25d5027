"""A store hosted by one release serves clients of another.

Rank 0 hosts a TCPStore, the others connect; there is no process group, so nothing of gloo takes part. Every rank sets
a key and reads those of all others; the values name their writer. The oracle is that list.
"""

KIND = "group"
RENDEZVOUS = "store"
NEEDS = ("TCPStore",)
TIERS = ("critical", "full")
GUARD = ("off",)


def rank(job):
    import datetime as dt

    import torch.distributed as dist

    job.phase("rendezvous")
    limit = dt.timedelta(seconds=job.timeout)
    store = dist.TCPStore(job.host, job.port, job.world_size, job.rank == 0, limit)
    job.phase("run")
    store.set("from %d" % job.rank, "rank %d was here" % job.rank)
    got = {"rank %d" % one: store.get("from %d" % one).decode() for one in range(job.world_size)}
    store.set("done %d" % job.rank, "")
    if job.rank == 0:  # the store dies with its host
        store.wait(["done %d" % one for one in range(job.world_size)], limit)
    return {"cases": got}


def judge(reports, world):
    from harness.oracle import compare

    return compare(
        reports, world, lambda rank: {"rank %d" % one: "rank %d was here" % one for one in range(world.size)}
    )
