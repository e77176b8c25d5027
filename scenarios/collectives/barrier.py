"""No rank leaves a barrier before the last rank has entered it.

Each rank is late in one round. Every rank notes when it entered and when it left, on the clock that all ranks of a
machine share. Oracle: in every round, the first rank leaves after the last one has entered.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one clock
WORLD = (2, None)
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "one machine")
TIERS = ("critical", "full")

LATE = 0.01  # seconds


def rank(job):
    import time

    import torch.distributed as dist

    job.rendezvous()
    entered, left = [], []
    for late in range(job.world_size):
        if job.rank == late:
            time.sleep(LATE)
        entered.append(time.monotonic_ns())
        dist.barrier()
        left.append(time.monotonic_ns())
    return {"entered": entered, "left": left}


def judge(reports, world):
    wrong = {}
    present = {rank: report for rank, report in enumerate(reports) if report is not None}
    for rank, report in present.items():
        if len(report["entered"]) != world.size or len(report["left"]) != world.size:
            wrong[rank] = "%d rounds instead of %d" % (len(report["left"]), world.size)
    for late in range(world.size if not wrong else 0):
        last = max(present, key=lambda rank: present[rank]["entered"][late])
        for rank, report in present.items():
            early = present[last]["entered"][late] - report["left"][late]
            if early > 0 and rank not in wrong:
                wrong[rank] = "left round %d %.2f ms before rank %d entered it" % (late, early / 1e6, last)
    return wrong
