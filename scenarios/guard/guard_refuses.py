"""Releases that may not mix are refused by name on every rank, within a second of the last arrival.

`by_era`: the default policy, so a mix that the table admits goes through and must then sum correctly. `by_release`:
the policy `exact`, under which any two releases are a mismatch. Each rank reports its arrival outside the code under
test. A refusal that comes later than a second after the last arrival, or that leaves out a release or the remedy, is
turned into an error without versions. Oracle: every rank refused by name, or (by_era) the sum.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one clock and one folder
GUARD = ("on",)
NEEDS = ("gloo", "guard")
TIERS = ("critical", "full")
VARIANTS = {"by_era": {}, "by_release": {"rank_env": {"0": {"TORCHSKEW_GUARD_POLICY": "exact"}}}}
SOON = 1.0


def rank(job):
    import time

    import torch
    import torch.distributed as dist
    from torchskew_guard import ProtocolVersionError

    if job.variant == "by_release" and len(set(job.skew)) == 1:
        job.unsupported("one release on all ranks: there is nothing to refuse")
    job.post("arrived %d" % job.rank, [time.time(), str(torch.__version__)])
    try:
        job.rendezvous()
    except ProtocolVersionError as error:
        complaint = unclear(str(error), [job.fetch("arrived %d" % one) for one in range(job.world_size)])
        if complaint:
            raise RuntimeError(complaint) from None
        raise
    number = torch.tensor([job.rank + 1])
    dist.all_reduce(number)
    return {"cases": {"sum": int(number)}}


def unclear(text, arrived):
    """What a refusal lacks, "" when nothing: it comes in time and names every release and the remedy."""
    import time

    late = time.time() - max(at for at, _ in arrived)
    if late > SOON:
        return "refused %.2f s after the last rank arrived" % late
    if any("torch %s" % release not in text for _, release in arrived):
        return "refused without the name of a release"
    return "" if "Remedy: " in text and "rank" in text else "refused without a remedy"


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare(reports, world, lambda rank: {"sum": world.size * (world.size + 1) // 2})
