"""The guard waits for a late rank, and reports an absent one as missing without blaming its version.

`joiner`, `host`: the last rank, or rank 0, begins after two fifths of the timeout; the group then forms, or is
refused by name where its releases may not mix. `absent`: the last rank never begins; the others catch their error.
Oracle: the sum, or for `absent` an error at the timeout, and not before, that names the missing rank.
"""

KIND = "group"
GUARD = ("on",)
NEEDS = ("gloo", "guard")
TIERS = ("full",)
VARIANTS = {"joiner": {}, "host": {}, "absent": {"predicted": ["OK", "OK"]}}
LATE = 0.4


def rank(job):
    import time

    import torch
    import torch.distributed as dist

    last = job.world_size - 1
    if job.variant == "absent":
        return {"cases": {"absence": told(job) if job.rank != last else "absent"}}
    if job.rank == (0 if job.variant == "host" else last):
        time.sleep(LATE * job.timeout)
    job.rendezvous()
    number = torch.tensor([job.rank + 1])
    dist.all_reduce(number)
    return {"cases": {"sum": int(number)}}


def told(job):
    """Return "missing" where this rank was told at its timeout that the last one is, else what happened."""
    import time

    from torchskew_guard import ProtocolVersionError

    began = time.monotonic()
    try:
        job.rendezvous()
    except ProtocolVersionError as error:
        took = time.monotonic() - began
        if not 0.9 * job.timeout <= took <= job.timeout + 2.0:
            return "told after %.2f s of %.1f s" % (took, job.timeout)
        if "stock" in str(error):
            return "accused"
        return "missing" if "rank %d never said hello" % (job.world_size - 1) in str(error) else "not named: %s" % error
    return "formed"


def judge(reports, world):
    from torchskew.judging.oracle import compare

    if any(report and "absence" in report.get("cases", {}) for report in reports):
        return compare(reports, world, lambda rank: {"absence": "absent" if rank == world.size - 1 else "missing"})
    return compare(reports, world, lambda rank: {"sum": world.size * (world.size + 1) // 2})
