"""One rank has a setting that another lacks, on one release: each failure gets its class on the right rank.

These faults prove the harness: real crashes, hangs, timeouts and opaque errors. Every rank meets the others and sums
a number. Oracle: the sum, which only the control may reach. The predictions come from plain scripts, run without a
harness on 2.13.0 (x86-64).

An empty prediction means that the outcome is random. The rank that reads the other's address in the wrong format
always crashes. Of two gloo peers, the one with the higher address (on one machine, the higher port) waits without
limit for a connection. So the survivor is either refused at once (OPAQUE) or waits for the crashed rank (HANG).
"""

KIND = "group"
WORLD = (2, 2)
SAME = True
APPLIES = ">=2.8"
GUARD = ("off",)
STORE = ("stock",)  # one of the faults is a store that never answers
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
VARIANTS = {
    "control": {"predicted": ["OK", "OK"]},
    # Rank 1 indexes the pair ids that a lazy rank does not send.
    "lazy_init": {"rank_env": {"0": {"TORCH_GLOO_LAZY_INIT": "1"}}, "predicted": []},
    "rank_as_sequence": {"rank_env": {"0": {"GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER": "1"}}, "predicted": []},
    # Rank 0 wraps its group and waits for the wrapper of rank 1; rank 1 is in the all_reduce.
    "debug_detail": {"rank_env": {"0": {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}}, "predicted": ["TIMEOUT", "TIMEOUT"]},
    # Rank 0 waits in a barrier that rank 1 has not; it looks at its timeout every ten seconds only.
    "init_barrier": {"rank_env": {"0": {"TORCH_DIST_INIT_BARRIER": "1"}}, "predicted": ["TIMEOUT", "TIMEOUT"]},
    # Rank 1 stops before it has told its address; rank 0 waits for that.
    "no_interface": {"rank_env": {"1": {"GLOO_SOCKET_IFNAME": "torchskew0"}}, "predicted": ["TIMEOUT", "OPAQUE"]},
    # Both are clients of a store that accepts and never answers; a client's first read has no limit.
    "silent_store": {
        "params": {"silent": True},
        "env": {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"},
        "predicted": ["HANG", "HANG"],
    },
}


def rank(job):
    import torch
    import torch.distributed as dist

    listener = be_silent(job) if job.params.get("silent") else None
    job.rendezvous()
    number = torch.tensor([job.rank + 1.0])
    dist.all_reduce(number)
    if listener:
        listener.close()
    return {"sum": float(number)}


def be_silent(job):
    """Let rank 0 listen where the store should, and answer nobody."""
    import os
    import socket

    # Since 2.14 a rank is a client only of the store that these two name.
    os.environ.update(MASTER_ADDR=job.host, MASTER_PORT=str(job.port))
    if job.rank != 0:
        return None
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", job.port))
    listener.listen(8)
    return listener


def judge(reports, world):
    right = {"sum": world.size * (world.size + 1) / 2}
    return {
        rank: "%r instead of %r" % (report, right)
        for rank, report in enumerate(reports)
        if report is not None and report != right
    }
