"""When a rank stops answering, the others end at their timeout and not later.

The last rank stops itself (SIGSTOP) after the rendezvous; a process that it started first resumes it when the others
have their answers. They wait for it in an all_reduce and in a barrier, in groups whose timeout is 0.4 s. Each must
end with an error at most 1.6 s after it began to wait, and at least 0.3 s after the first of them began, because a
rank that gives up also ends the wait of the others. The oracle is that interval: too early breaks the promise as
well.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one clock and one folder
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")

LIMIT, GRACE, EARLY, LONGEST = 0.4, 1.2, 0.1, 8.0
OPERATIONS = ("all_reduce", "barrier")


def rank(job):
    import datetime as dt
    import time

    import torch
    import torch.distributed as dist
    from torchskew_kit import refusal

    job.rendezvous()
    everybody, limit = list(range(job.world_size)), dt.timedelta(seconds=LIMIT)
    groups = [dist.new_group(everybody, timeout=limit) for _ in OPERATIONS]
    calls = (lambda group: dist.all_reduce(torch.ones(1), group=group), lambda group: dist.barrier(group=group))
    # Once before, so that the groups' connections stand.
    for call, group in zip(calls, groups):
        call(group)
    if job.rank == job.world_size - 1:
        stop([job.path("over %d" % one) for one in range(job.rank)])
        return {"stopped": True}
    waits = {}
    for name, call, group in zip(OPERATIONS, calls, groups):
        began, clock = time.monotonic(), time.time()
        text = refusal(lambda call=call, group=group: call(group))
        waits[name] = {"seconds": time.monotonic() - began, "began": clock, "error": text}
    job.post("over %d" % job.rank, True)
    return {"waits": waits}


def stop(signs):
    """Stop this process until all these files are there."""
    import os
    import signal
    import time

    me = os.getpid()
    if os.fork() == 0:
        until = time.monotonic() + LONGEST
        while time.monotonic() < until and not all(os.path.exists(one) for one in signs):
            time.sleep(0.02)
        os.kill(me, signal.SIGCONT)
        os._exit(0)
    os.kill(me, signal.SIGSTOP)


def judge(reports, world):
    waiting = {rank: report.get("waits", {}) for rank, report in enumerate(reports[: world.size - 1]) if report}
    wrong = {}
    for name in OPERATIONS:
        first = min((waits[name]["began"] for waits in waiting.values() if name in waits), default=0.0)
        for rank, waits in waiting.items():
            why = "is missing" if name not in waits else objection(waits[name], first)
            if why:
                wrong.setdefault(rank, "%s %s" % (name, why))
    return wrong


def objection(wait, first):
    """What is wrong with a wait; first: when the first rank began to wait, on this machine's clock."""
    if not wait["error"]:
        return "succeeded without the stopped rank"
    if wait["seconds"] > LIMIT + GRACE or wait["began"] - first + wait["seconds"] < LIMIT - EARLY:
        return "ended after %.2f s where %.1f s were given" % (wait["seconds"], LIMIT)
    return None
