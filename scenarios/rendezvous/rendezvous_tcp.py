"""Ranks meet over tcp://, know their rank and size, share the store, and are connected pair by pair.

Rank 0 hosts the store. Each rank writes one key and reads those of all others; then every pair exchanges one number
in both directions. Oracle: rank and size are those it was started with, and every key and every number names its
sender.
"""

KIND = "group"
WORLD = (2, None)
NEEDS = ("gloo",)
TIERS = ("smoke", "critical", "full")


def rank(job):
    import torch.distributed as dist

    job.rendezvous()
    store = the_store(dist.distributed_c10d)
    store.set("torchskew/%d" % job.rank, "from %d" % job.rank)
    read = [store.get("torchskew/%d" % peer).decode() for peer in range(job.world_size)]
    # Last, because it keeps rank 0, and with it the store, until everybody has read.
    heard = {peer: exchange(dist, job.rank, peer) for peer in range(job.world_size) if peer != job.rank}
    return {"rank": dist.get_rank(), "size": dist.get_world_size(), "read": read, "heard": heard}


def the_store(c10d):
    """The store of the process group; before 1.8 there was no function that returns it."""
    if hasattr(c10d, "_get_default_store"):
        return c10d._get_default_store()
    return c10d._pg_map[c10d.group.WORLD][1]


def exchange(dist, own, peer):
    """Send our number to a peer and receive the peer's; the lower rank begins."""
    import torch

    mine, other = torch.tensor([1000 + own]), torch.zeros(1, dtype=torch.int64)
    if own < peer:
        dist.send(mine, peer)
        dist.recv(other, peer)
    else:
        dist.recv(other, peer)
        dist.send(mine, peer)
    return int(other)


def judge(reports, world):
    wrong = {}
    for rank, report in enumerate(reports):
        right = {
            "rank": rank,
            "size": world.size,
            "read": ["from %d" % peer for peer in range(world.size)],
            "heard": {str(peer): 1000 + peer for peer in range(world.size) if peer != rank},
        }
        if report is not None and report != right:
            fields = [name for name in right if report.get(name) != right[name]] or ["fields"]
            wrong[rank] = "; ".join("%s: %r instead of %r" % (n, report.get(n), right.get(n)) for n in fields)
    return wrong
