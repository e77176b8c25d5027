"""Remote calls run on the rank they are sent to and return what it computed.

Every rank calls its right neighbour: a builtin of torch (`builtin`), a function of this file (`user`), one that
raises (`raises`), asynchronously (`async`), and by a remote reference whose value stays there (`rref`). A value names
the rank that computed it, so an answer from another rank shows. The oracle is the closed form. RPC has its own store
and transport; gloo takes no part.
"""

KIND = "group"
AFTER = ("store_connect",)
RENDEZVOUS = "store"
NEEDS = ("TensorPipe",)
TIERS = ("full",)
GUARD = ("off",)
WARM = ("torch.distributed.rpc",)


def where_am_i(number):
    """Runs on the called rank."""
    from torch.distributed import rpc

    return [rpc.get_worker_info().id, number + 1]


def fails(number):
    """Runs on the called rank and does not come back."""
    raise ValueError("no answer to %d" % number)


def lacks(job):
    import socket

    from torchskew_kit import refusal

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job.host, job.port = "127.0.0.1", port
    why = refusal(lambda: rank(job))
    return {"*": why} if why else {}


def rank(job):
    import os

    import torch
    from torch.distributed import rpc

    if "GLOO_SOCKET_IFNAME" in os.environ:  # which of the machine's addresses ranks reach each other by
        os.environ.setdefault("TP_SOCKET_IFNAME", os.environ["GLOO_SOCKET_IFNAME"])
    job.phase("rendezvous")
    options = rpc.TensorPipeRpcBackendOptions(
        init_method="tcp://%s:%d" % (job.host, job.port), rpc_timeout=job.timeout, num_worker_threads=4
    )
    rpc.init_rpc("rank%d" % job.rank, rank=job.rank, world_size=job.world_size, rpc_backend_options=options)
    job.phase("run")
    me, to = job.rank, "rank%d" % ((job.rank + 1) % job.world_size)
    cases = {
        "builtin": rpc.rpc_sync(to, torch.add, args=(torch.tensor([me, 2]), 10)).tolist(),
        "user": rpc.rpc_sync(to, where_am_i, args=(me,)),
        "async": rpc.rpc_async(to, where_am_i, args=(me + 5,)).wait(),
        "rref": rpc.remote(to, where_am_i, args=(me + 7,)).to_here(),
    }
    try:
        rpc.rpc_sync(to, fails, args=(me,))
    except ValueError as error:
        cases["raises"] = "no answer to %d" % me in str(error)
    job.phase("teardown")
    rpc.shutdown()
    job.post("down %d" % me, True)
    for one in range(job.world_size if me == 0 else 0):  # the store dies with its host, and the last steps need it
        job.fetch("down %d" % one)
    return {"cases": cases}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    def expected(rank):
        to = (rank + 1) % world.size
        return {
            "builtin": [rank + 10, 12],
            "user": [to, rank + 1],
            "async": [to, rank + 6],
            "rref": [to, rank + 8],
            "raises": True,
        }

    return compare(reports, world, expected)
