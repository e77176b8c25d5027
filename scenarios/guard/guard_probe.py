"""A training job is unharmed while its store is probed a hundred times.

Every rank sums with the others and uses the store, step after step, until the last rank has probed the store's port a
hundred times, as `torchskew probe` does. `legacy`, `libuv`: the store's back end. A legacy store that is left with
half a message serves nobody until the probe gives up, after 3 s. Oracle: all sums, values and counts are right, every
probe identified this store, and no step took as long as a second and a half.
"""

KIND = "group"
SAME = True
GUARD = ("off",)
STORE = ("stock",)  # the probe must recognize it
NEEDS = ("gloo", "guard", "TCPStore")
TIERS = ("full",)
# A libuv store is recognised by its silence: a hundred looks wait `silence` each, longer on a busy machine.
PATIENCE = 40.0
VARIANTS = {
    "legacy": {"params": {"silence": 3.0}},
    "libuv": {"params": {"silence": 0.1}},
}
LOOKS, STALLED = 100, 1.5


def lacks(job):
    import torch.distributed as dist
    from torchskew_kit import refusal

    if "use_libuv" not in (dist.TCPStore.__init__.__doc__ or ""):
        return {"libuv": "TCPStore has no argument use_libuv"}
    why = refusal(lambda: dist.TCPStore("127.0.0.1", 0, 1, True, use_libuv=True))
    return {"libuv": why} if why else {}


def rank(job):
    import threading

    import torch.distributed as dist

    job.need(job.variant)
    # 2.2 and 2.3 read USE_LIBUV for env:// alone.
    job.rendezvous("tcp://%s:%d?use_libuv=%d" % (job.host, job.port, job.variant == "libuv"))
    store, looks = the_store(dist.distributed_c10d), []
    prober = threading.Thread(target=probe, args=(job, looks), daemon=True)
    probing = job.rank == job.world_size - 1
    if probing:
        prober.start()
    steps, slowest, wrong = train(job, store, lambda: probing and not prober.is_alive())
    dist.barrier()
    counted = store.add("steps", 0)
    dist.barrier()  # the store dies with its host
    cases = {"looks": len(looks), "unlike": [one for one in looks if one != seen(job)][:3], "wrong": wrong[:3]}
    cases.update({"uncounted": steps * job.world_size - counted, "stalled": slowest if slowest > STALLED else None})
    return {"cases": cases, "steps": steps, "slowest": slowest}


def the_store(c10d):
    """The store of the process group; before 1.8 there was no function that returns it."""
    if hasattr(c10d, "_get_default_store"):
        return c10d._get_default_store()
    return c10d._pg_map[c10d.group.WORLD][1]


def seen(job):
    """What a look must say of this release's store."""
    import torch
    from torchskew_guard import SEEN, era

    return "store %s %s" % (SEEN[era("store", str(torch.__version__))], job.variant)


def probe(job, looks):
    """Look again and again; what is no store gets a second look, since one that is busy answers like none."""
    import time

    from torchskew_guard import SEEN, look

    while len(looks) < LOOKS:
        time.sleep(0.01)  # the job steps on in between
        found = look(job.host, job.port, job.params["silence"])
        if found.what != "store":
            found = look(job.host, job.port, 3.0)
        looks.append("%s %s %s" % (found.what, SEEN.get(found.era), found.backend))


def train(job, store, over):
    """Step until it is over or stalled on some rank; the number of steps, the slowest one's seconds, what was wrong."""
    import time

    import torch
    import torch.distributed as dist

    steps, slowest, wrong, stop = 0, 0.0, [], False
    while not stop:
        began, mine = time.monotonic(), "%d of %d" % (steps, job.rank)
        value = torch.tensor([job.rank + 1, int(over() or slowest > STALLED)])
        dist.all_reduce(value)
        store.add("steps", 1)
        store.set("mine %d" % job.rank, mine)
        read = store.get("mine %d" % job.rank).decode()
        if read != mine or int(value[0]) != job.world_size * (job.world_size + 1) // 2:
            wrong.append("step %d: %s, %s" % (steps, read, value.tolist()))
        steps, slowest, stop = steps + 1, max(slowest, time.monotonic() - began), bool(value[1])
        time.sleep(0.002)
    return steps, slowest, wrong


def judge(reports, world):
    from torchskew.judging.oracle import compare

    right = {"unlike": [], "wrong": [], "uncounted": 0, "stalled": None}
    return compare(reports, world, lambda rank: {**right, "looks": 100 if rank == world.size - 1 else 0})
