"""A distributed checkpoint written by one release is read by another, byte for byte.

`one`: a single process writes tensors of four dtypes, a scalar, text and a list; a single process of the next rank's
release reads them. `resharded`: two processes write a tensor that is sharded between them (DTensor, Shard(0)), and
three processes of the next release read it back in three shards. The writers and the readers are separate groups, one
after the other, that meet over a file in the cell's folder. The oracle is the formula of the elements; bytes are
compared. Every further rank reads as well.
"""

KIND = "handover"
NEEDS = ("torch.distributed.checkpoint", "DTensor for `resharded`")
APPLIES = ">=2.0"
TIERS = ("critical", "full")
WARM = ("torch.distributed.checkpoint", "torch.distributed.tensor", "torch.distributed._tensor", "torch._dynamo")
VARIANTS = {"one": {"params": {"form": "one"}}, "resharded": {"params": {"form": "resharded"}}}

DTYPES = ("float32", "float64", "bfloat16", "int64")
WRITERS, READERS, ROWS = 2, 3, 12
OBJECT = {"epoch": 7, "name": "a name", "list": [1, 2.5, None]}


def values(dtype):
    """What is written in a dtype: exact in all of them."""
    return [3 * k - 8 for k in range(10 + DTYPES.index(dtype))]


def content(fresh):
    """The state that is written; fresh: the same places before they are read into."""
    import torch

    state = {
        dtype: torch.tensor([0] * len(values(dtype)) if fresh else values(dtype), dtype=getattr(torch, dtype))
        for dtype in DTYPES
    }
    return dict(state, scalar=torch.tensor(0.0 if fresh else 0.1), object=dict.fromkeys(OBJECT, 0) if fresh else OBJECT)


def save(state, path):
    """Write; dcp.save took the place of save_state_dict in 2.2."""
    import torch.distributed.checkpoint as dcp

    (dcp.save if hasattr(dcp, "save") else dcp.save_state_dict)(state, storage_writer=dcp.FileSystemWriter(path))


def load(state, path):
    """Read into the places that state holds."""
    import torch.distributed.checkpoint as dcp

    (dcp.load if hasattr(dcp, "load") else dcp.load_state_dict)(state, storage_reader=dcp.FileSystemReader(path))


def sharded(first, fresh):
    """ROWS rows of two, cut between the processes of the present world."""
    import torch
    import torch.distributed as dist

    try:
        from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
    except ImportError:
        from torch.distributed._tensor import DeviceMesh, Shard, distribute_tensor

        mesh = DeviceMesh("cpu", list(range(dist.get_world_size())))
    else:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.arange(first, first + 2 * ROWS, dtype=torch.float32).reshape(ROWS, 2)
    return distribute_tensor(torch.full_like(whole, -1) if fresh else whole, mesh, [Shard(0)])


def lacks(job):
    """Return what this version says to a checkpoint of its own."""
    import tempfile

    from torchskew_kit import refusal

    def alone():
        save(content(fresh=False), folder + "/one")
        load(content(fresh=True), folder + "/one")

    def cut():
        save({"cut": sharded(0, fresh=False)}, folder + "/cut")

    job.rendezvous()
    with tempfile.TemporaryDirectory() as folder:
        found = {"one": refusal(alone), "resharded": refusal(cut)}
    return {form: why for form, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    folder = job.path("checkpoint")
    return globals()[job.variant](job, folder) or {}


def one(job, folder):
    import torch.distributed as dist
    import torchskew_kit as kit

    # Without any group 2.2 can save but not load.
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    if job.rank == 0:
        save(content(fresh=False), folder)
        return None
    state = content(fresh=True)
    load(state, folder)
    told = {dtype: [state[dtype].tolist(), kit.digest(kit.raw(state[dtype]))] for dtype in DTYPES}
    return {"cases": dict(told, scalar=state["scalar"].item(), object=state["object"])}


def resharded(job, folder):
    import torchskew_kit as kit

    def write(_):
        save({"cut": sharded(100, fresh=False)}, folder)

    def read(_):
        state = {"cut": sharded(100, fresh=True)}
        load(state, folder)
        return state["cut"].to_local().tolist()

    if job.rank == 0:
        kit.forked_world(job, WRITERS, "writers", write)
        return None
    parts = kit.forked_world(job, READERS, "readers.%d" % job.rank, read)
    return {"cases": {"part %d" % number: part for number, part in enumerate(parts)}}


def judge(reports, world):
    import hashlib
    import struct

    from torchskew.judging.oracle import compare

    formats = {"float32": "f", "float64": "d", "int64": "q"}

    def packed(dtype):
        if dtype == "bfloat16":  # the upper half of a float32
            return b"".join(struct.pack("=f", value)[2:] for value in values(dtype))
        return struct.pack("=%d%s" % (len(values(dtype)), formats[dtype]), *values(dtype))

    whole = {dtype: [values(dtype), hashlib.sha256(packed(dtype)).hexdigest()] for dtype in DTYPES}
    whole.update(scalar=struct.unpack("f", struct.pack("f", 0.1))[0], object=OBJECT)
    rows = [[100 + 2 * row, 101 + 2 * row] for row in range(ROWS)]
    cut = {"part %d" % part: rows[part * ROWS // READERS :][: ROWS // READERS] for part in range(READERS)}
    right = {"one": whole, "resharded": cut}[world.params["form"]]
    return compare([None, *reports[1:]], world, lambda rank: right)
