"""Processes that do not form one group are refused on every rank, before anything starts.

The last rank contradicts the others: `world_size` is one more, `outside` is a rank number beyond the world, `backend`
is another backend, `method` is a store that the launcher serves, `file` is a rendezvous by file, and `twice` is the
number of the rank before it (this needs three ranks: two processes that both claim rank 0 never meet on two
machines). `file_host`: rank 0 meets by file and the others by address; the environment of all ranks names that
address. Oracle: every rank is refused, and the text names every release and the reason.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
GUARD = ("on",)
POLICY = "refuse"
NEEDS = ("gloo", "guard")
TIERS = ("full",)
REFUSED = ["CLEAR", "CLEAR"]
VARIANTS = {
    "world_size": {"params": {"says": "different world sizes"}, "predicted": REFUSED},
    "outside": {"params": {"says": "of a world of"}, "predicted": REFUSED},
    "backend": {"params": {"says": "different backends"}, "predicted": REFUSED},
    "method": {"params": {"says": "different init methods"}, "predicted": REFUSED},
    "file": {"params": {"says": "different init methods"}, "predicted": REFUSED},
    "file_host": {"params": {"says": "different init methods"}, "predicted": REFUSED},
    "twice": {"params": {"says": "more than one process says it is rank"}, "predicted": ["CLEAR"] * 3},
}


def rank(job):
    import os

    from torchskew_guard import ProtocolVersionError, check

    if job.variant == "twice" and job.world_size < 3:
        job.unsupported("two processes with one number need a third rank")
    claim = {"backend": "gloo", "init_method": "env://", "world_size": job.world_size, "rank": job.rank}
    os.environ.update(MASTER_ADDR=job.host, MASTER_PORT=str(job.port))
    if job.rank == (0 if job.variant == "file_host" else job.world_size - 1):
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(job.variant == "method")
        claim.update({
            "world_size": {"world_size": job.world_size + 1},
            "outside": {"rank": job.world_size},
            "backend": {"backend": "nccl"},
            "method": {},
            "file": {"init_method": "file://" + job.path("init")},
            "file_host": {"init_method": "file://" + job.path("init")},
            "twice": {"rank": job.rank - 1},
        }[job.variant])  # fmt: skip
    job.phase("rendezvous")
    try:
        check(timeout=job.timeout, **claim)
    except ProtocolVersionError as error:
        if job.params["says"] not in str(error) or error.kind != "group":
            raise RuntimeError("refused for another reason: %s" % error) from None
        raise
    return {}


def judge(reports, world):
    return {rank: "went on although the group is none" for rank, report in enumerate(reports) if report is not None}
