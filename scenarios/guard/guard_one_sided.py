"""A guard on one side only reports that within a quarter of the timeout, with the other side's store era.

guard-host: only rank 0 has the guard and the others are stock PyTorch; it names the ranks that never said hello, and
what connected instead. guard-joiners: only the others have it; they probe rank 0's store, safely, and name its era.
All ranks begin together and catch the error that ends them; a stock rank gives up at half of the timeout, because
nothing more depends on it. The guard is strict here: by default it refuses only a store era that can't work. Oracle:
every guarded rank was refused with kind "one-sided", in time and with the evidence, and no stock rank came through.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
GUARD = ("host", "joiners")
NEEDS = ("gloo", "guard")
TIERS = ("critical", "full")
# A stock client that finds nobody pauses for up to a second: a quarter of the timeout has to be longer than that.
PATIENCE = 12.0
VARIANTS = {"named": {"predicted": ["OK", "OK"]}}


def rank(job):
    import os
    import time

    import torch
    from torchskew_guard import SEEN, era

    os.environ["TORCHSKEW_GUARD"] = "strict"
    job.post("here %d" % job.rank, [job.guard, SEEN[era("store", str(torch.__version__))]])
    stock = [said for guarded, said in (job.fetch("here %d" % one) for one in range(job.world_size)) if not guarded]
    began, limit = time.monotonic(), 0.25 * job.timeout
    if not job.guard:
        job.timeout /= 2
    try:
        job.rendezvous()
    except Exception as error:
        told = unclear(error, stock, "never said hello" if job.rank == 0 else "but a TCPStore")
        late = time.monotonic() - began
        if not told and late > limit:
            told = "told after %.2f s, a quarter of the timeout is %.2f s" % (late, limit)
    else:
        told = "formed a group"
    return {"guarded": job.guard, "told": told}


def unclear(error, stock, evidence):
    """What an error lacks, "" where it is the guard's and says what it saw of the stock ranks."""
    if getattr(error, "kind", "") != "one-sided":
        return "ended with %s: %s" % (type(error).__name__, str(error)[:200])
    text = str(error)
    return "" if evidence in text and any(said in text for said in stock) else "no evidence in: %s" % text[:300]


def judge(reports, world):
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            wrong[rank] = "no report"
        elif report["told"] if report["guarded"] else report["told"] == "formed a group":
            wrong[rank] = report["told"]
    return wrong
