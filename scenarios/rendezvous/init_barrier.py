"""A group whose ranks all request the init barrier forms, and no rank leaves init before the last arrives.

TORCH_DIST_INIT_BARRIER is set on every rank (up to 2.0 every group has that barrier). The last rank arrives a tenth
of a second after the first. Each rank notes when it arrived and when it had its group, on the clock that all ranks of
a machine share. Oracle: the first group exists after the last rank arrived, and a sum over it is right.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one clock
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "one machine")
APPLIES = ">=1.8"
TIERS = ("full",)
VARIANTS = {"everywhere": {"env": {"TORCH_DIST_INIT_BARRIER": "1"}}}

LATE = 0.1  # seconds


def rank(job):
    import time

    import torch
    import torch.distributed as dist

    if job.rank == job.world_size - 1:
        time.sleep(LATE)
    came = time.monotonic_ns()
    job.rendezvous()
    there = time.monotonic_ns()
    number = torch.tensor([job.rank + 1])
    dist.all_reduce(number)
    return {"came": came, "there": there, "sum": number.item()}


def judge(reports, world):
    present = {rank: report for rank, report in enumerate(reports) if report is not None}
    last = max(present, key=lambda rank: present[rank]["came"])
    wrong = {}
    for rank, report in present.items():
        early = present[last]["came"] - report["there"]
        if report["sum"] != world.size * (world.size + 1) // 2:
            wrong[rank] = "the sum is %r" % report["sum"]
        elif early > 0:
            wrong[rank] = "it had its group %.1f ms before rank %d came" % (early / 1e6, last)
    return wrong
