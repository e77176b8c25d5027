"""Of three or more ranks, one at any position lacks the guard: the others report it within a quarter of the timeout.

`first`, `middle`, `last`: which rank is stock PyTorch. A stock rank 0 serves a store where the guards expect hellos;
a stock joiner connects to rank 0's port, and rank 0 informs the other joiners. All ranks begin together and catch the
error that ends them; the stock rank gives up at half of the timeout. The guard is strict here: by default it refuses
only a store era that can't work. Oracle: every guarded rank was refused in time, with the era of the stock rank's
store (where the guarded ranks differ in version, that is named first), and the stock rank did not come through.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
WORLD = (3, None)
GUARD = ("on",)
NEEDS = ("gloo", "guard")
TIERS = ("full",)
# A stock client that finds nobody pauses for up to a second: a quarter of the timeout has to be longer than that.
PATIENCE = 12.0
VARIANTS = {
    "first": {"params": {"place": 0.0}, "predicted": ["OK"] * 3},
    "middle": {"params": {"place": 0.5}, "predicted": ["OK"] * 3},
    "last": {"params": {"place": 1.0}, "predicted": ["OK"] * 3},
}


def odd(params, size):
    """The rank without the guard."""
    return int(params["place"] * (size - 1))


def rank(job):
    import os
    import time

    import torch
    from torchskew_guard import SEEN, era

    os.environ["TORCHSKEW_GUARD"] = "strict"
    job.post("here %d" % job.rank, SEEN[era("store", str(torch.__version__))])
    stock = odd(job.params, job.world_size)
    said = [job.fetch("here %d" % one) for one in range(job.world_size)][stock]
    evidence = ["rank %d never said hello" % stock, "but stock PyTorch", said] if stock else ["but a TCPStore", said]
    began, limit = time.monotonic(), 0.25 * job.timeout
    job.guard = job.rank != stock
    if not job.guard:
        job.timeout /= 2
    try:
        job.rendezvous()
    except Exception as error:
        late = time.monotonic() - began > limit
        return {"cases": {"told": told(error, evidence, late) if job.guard else "stock"}}
    return {"cases": {"told": "formed a group"}}


def told(error, evidence, late):
    """Return "in time" for the guard's error with this evidence, else what is wrong with it."""
    if getattr(error, "kind", "") not in ("one-sided", "version"):
        return "%s: %s" % (type(error).__name__, str(error)[:200])
    if not all(one in str(error) for one in evidence):
        return "no evidence in: %s" % str(error)[:300]
    return "too late" if late else "in time"


def judge(reports, world):
    from torchskew.judging.oracle import compare

    stock = odd(world.params, world.size)
    return compare(reports, world, lambda rank: {"told": "stock" if rank == stock else "in time"})
