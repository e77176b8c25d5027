"""A distributed tensor keeps its content under every sharding.

A matrix of 2n + 1 rows is distributed as Shard(0) over all ranks, then redistributed to Shard(1), to Replicate and
back, and a partial sum is replicated. After each step, a rank reports its own shard and the whole. The oracle shards
the same matrix with Python lists, in chunks as torch.chunk makes them.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "DTensor")
TIERS = ("full",)
WARM = ("torch.distributed.tensor", "torch.distributed._tensor", "torch._dynamo")

COLUMNS = 3


def matrix(size):
    """The whole."""
    return [[float(COLUMNS * row + column) for column in range(COLUMNS)] for row in range(2 * size + 1)]


def steps(rank, size):
    """What one rank shows."""
    import torch

    try:
        from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh
    except ImportError:
        from torch.distributed._tensor import DeviceMesh, DTensor, Replicate, Shard, distribute_tensor
        from torch.distributed._tensor.placement_types import _Partial as Partial

        mesh = DeviceMesh("cpu", list(range(size)))
    else:
        mesh = init_device_mesh("cpu", (size,))
    cut = distribute_tensor(torch.tensor(matrix(size)), mesh, [Shard(0)])
    across = cut.redistribute(mesh, [Shard(1)])
    whole = across.redistribute(mesh, [Replicate()])
    again = whole.redistribute(mesh, [Shard(0)])
    partial = DTensor.from_local(torch.tensor([rank + 1.0, 10.0]), mesh, [Partial()])
    return {
        "rows": shown(cut),
        "columns": shown(across),
        "whole": shown(whole),
        "rows again": shown(again),
        "partial": shown(partial.redistribute(mesh, [Replicate()])),
    }


def shown(tensor):
    """A rank's own piece; adding waits for a result that is still on its way."""
    return (tensor.to_local() + 0).tolist()


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    why = refusal(lambda: steps(0, 1))
    return {"*": why} if why else {}


def rank(job):
    job.rendezvous()
    return {"cases": steps(job.rank, job.world_size)}


def piece(whole, rank, size):
    """A rank's chunk of a list."""
    length = -(-len(whole) // size)
    return whole[rank * length : (rank + 1) * length]


def judge(reports, world):
    from torchskew.judging.oracle import compare

    whole = matrix(world.size)

    def expected(rank):
        rows = piece(whole, rank, world.size)
        columns = piece(list(range(COLUMNS)), rank, world.size)
        return {
            "rows": rows,
            "columns": [[row[column] for column in columns] for row in whole],
            "whole": whole,
            "rows again": rows,
            "partial": [world.size * (world.size + 1) / 2, 10.0 * world.size],
        }

    return compare(reports, world, expected)
