"""A store hosted by one release serves clients of another.

Rank 0 hosts a TCPStore and the others connect; there is no process group, so gloo takes no part. Every rank sets a
key and reads those of all others; the values name their writer. The oracle is that list.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
RENDEZVOUS = "store"
NEEDS = ("TCPStore",)
TIERS = ("critical", "full")
GUARD = ("off",)


def rank(job):
    store = job.store()
    store.set("from %d" % job.rank, "rank %d was here" % job.rank)
    got = {"rank %d" % one: store.get("from %d" % one).decode() for one in range(job.world_size)}
    job.post("read %d" % job.rank, True)
    for one in range(job.world_size if job.rank == 0 else 0):  # the store dies with its host
        job.fetch("read %d" % one)
    return {"cases": got}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare(
        reports, world, lambda rank: {"rank %d" % one: "rank %d was here" % one for one in range(world.size)}
    )
