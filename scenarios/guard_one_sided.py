"""A guard on one side only says so at about a quarter of the timeout, and which store era the other side speaks.

guard-host: only rank 0 has it, the others are stock PyTorch; it names the ranks that never said hello and what knocked
instead. guard-joiners: only the others have it; they probe rank 0's store, safely, and say its era. Each rank catches
what ends it. Oracle: every guarded rank was refused with kind "one-sided", in time, with the evidence; no stock rank
came through.
"""

KIND = "group"
GUARD = ("host", "joiners")
NEEDS = ("gloo", "guard")
TIERS = ("critical", "full")
# A stock client that finds nobody pauses for up to a second before it knocks again.
GRACE = 1.0
VARIANTS = {"named": {"predicted": ["OK", "OK"]}}


def rank(job):
    import time

    began = time.monotonic()
    try:
        job.rendezvous()
    except RuntimeError as error:
        kind, text = getattr(error, "kind", "stock"), str(error)
    except Exception as error:
        kind, text = "stock", str(error)
    else:
        kind, text = "formed", ""
    return {
        "guarded": job.guard,
        "kind": kind,
        "text": text,
        "seconds": time.monotonic() - began,
        "limit": 0.25 * job.timeout + GRACE,
    }


def judge(reports, world):
    return {rank: why for rank, why in ((rank, fault(rank, one)) for rank, one in enumerate(reports)) if why}


def fault(rank, report):
    """What is wrong with one rank's report, None where nothing is."""
    if report is None:
        return "no report"
    if not report["guarded"]:
        return "formed a group with guarded ranks that refused" if report["kind"] == "formed" else None
    if report["kind"] != "one-sided":
        return "ended with %s instead of a refusal: %s" % (report["kind"], report["text"][:200])
    if report["seconds"] > report["limit"]:
        return "told after %.2f s, a quarter of the timeout and a second are %.2f s" % (
            report["seconds"],
            report["limit"],
        )
    evidence = "never said hello, but stock PyTorch" if rank == 0 else "but a TCPStore of"
    return None if evidence in report["text"] else "no evidence in: %s" % report["text"][:300]
