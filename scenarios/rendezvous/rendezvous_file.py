"""Ranks meet over file:// in a shared folder, without a listening store.

After the rendezvous, every rank contributes its own bit to a sum. Oracle: rank and size are those it was started
with, and the sum has every bit set.
"""

KIND = "group"
WORLD = (2, 32)
RENDEZVOUS = "file"
NEEDS = ("gloo", "shared folder")
TIERS = ("critical", "full")


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous("file://" + job.share + "/rendezvous")
    bits = torch.tensor([1 << job.rank], dtype=torch.int64)
    dist.all_reduce(bits)
    return {"rank": dist.get_rank(), "size": dist.get_world_size(), "bits": int(bits)}


def judge(reports, world):
    wrong = {}
    for rank, report in enumerate(reports):
        right = {"rank": rank, "size": world.size, "bits": (1 << world.size) - 1}
        if report is not None and report != right:
            wrong[rank] = "%r instead of %r" % (report, right)
    return wrong
