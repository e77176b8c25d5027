"""monitored_barrier waits for a late rank and names a missing one.

`late`: the last rank arrives a tenth of a second after all others, and every rank passes. `absent`: the last rank
does not call it at all; rank 0, which monitors, must end at its timeout (half a second) with an error that names that
rank. The other ranks are not judged, because releases differ in what they see. The oracle looks for the rank's number
in the error text.
"""

import re

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
APPLIES = ">=1.8"
TIERS = ("full",)
VARIANTS = {"late": {}, "absent": {}}

LATE, LIMIT = 0.1, 0.5


def lacks(job):
    import torch.distributed as dist

    return {} if hasattr(dist, "monitored_barrier") else {"*": "torch.distributed has no monitored_barrier"}


def rank(job):
    import datetime as dt
    import time

    import torch.distributed as dist
    from torchskew_kit import refusal

    job.rendezvous()
    last = job.world_size - 1
    if job.variant == "late":
        began = time.monotonic()
        job.post("here %d" % job.rank, True)
        if job.rank == last:
            for one in range(job.world_size):
                job.fetch("here %d" % one)
            time.sleep(LATE)
        dist.monitored_barrier(timeout=dt.timedelta(seconds=job.timeout))
        return {"passed": True, "waited": time.monotonic() - began}
    dist.barrier()
    began, text = time.monotonic(), None
    if job.rank != last:
        text = refusal(lambda: dist.monitored_barrier(timeout=dt.timedelta(seconds=LIMIT)))
        waited = time.monotonic() - began
        job.post("over %d" % job.rank, True)
        return {"text": text, "waited": waited}
    job.fetch("over 0")
    return {}


def judge(reports, world):
    first, last = reports[0], world.size - 1
    if any("passed" in report for report in reports if report):
        wrong = {
            r: "it did not pass" for r, report in enumerate(reports) if report and report.get("passed") is not True
        }
        if first and not wrong and first["waited"] < LATE / 2:
            wrong[0] = "it waited %.3f s, the last rank came after %.1f s" % (first["waited"], LATE)
        return wrong
    if first is None:
        return {}
    if not first.get("text"):
        return {0: "the barrier passed without rank %d" % last}
    if not re.search(r"\b%d\b" % last, first["text"].lower().split("rank", 1)[-1]):
        return {0: "the error does not name rank %d: %s" % (last, first["text"])}
    if first["waited"] > 4 * LIMIT:
        return {0: "it waited %.1f s where %.1f s were given" % (first["waited"], LIMIT)}
    return {}
