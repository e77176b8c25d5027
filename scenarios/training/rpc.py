"""Remote calls run on the rank they are sent to and return what it computed.

Every rank calls its right neighbour: a builtin of torch (`builtin`), a function of this file (`user`), one that
raises (`raises`), asynchronously (`async`), and by a remote reference whose value stays there (`rref`). A value names
the rank that computed it, so an answer from another rank shows. The oracle is the closed form. RPC has its own store
and transport; gloo takes no part.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
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
    from torchskew_kit import meet_alone, refusal

    meet_alone(job)
    why = refusal(lambda: rank(job))
    return {"*": why} if why else {}


def rank(job):
    import torch
    import torchskew_kit as kit
    from torch.distributed import rpc

    kit.start_rpc(job)
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
    kit.host_leaves_last(job)
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
