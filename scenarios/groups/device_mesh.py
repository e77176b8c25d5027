"""A device mesh gives its groups the same names on every rank.

`one_d`: a mesh of all ranks. `two_d`: a mesh of two columns where the number of ranks is even, otherwise of one; rows
and columns are groups of their own. Each rank all-reduces rank + 1 along every dimension. The oracle is the sum over
the ranks that share the other coordinate.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "DeviceMesh")
TIERS = ("full",)
WARM = ("torch.distributed.device_mesh", "torch.distributed.tensor", "torch._dynamo")
VARIANTS = {"one_d": {"params": {"dimensions": 1}}, "two_d": {"params": {"dimensions": 2}}}


def shape(size, dimensions):
    """The mesh's shape."""
    if dimensions == 1:
        return (size,)
    columns = 2 if size % 2 == 0 else 1
    return (size // columns, columns)


def sums(rank, size, dimensions):
    """The sum along each dimension."""
    import torch
    import torch.distributed as dist

    try:
        from torch.distributed.device_mesh import init_device_mesh
    except ImportError:
        from torch.distributed._tensor import DeviceMesh

        mesh = DeviceMesh("cpu", torch.arange(size).reshape(shape(size, dimensions)))
    else:
        mesh = init_device_mesh("cpu", shape(size, dimensions))
    groups = mesh.get_group if hasattr(mesh, "get_group") else lambda one: mesh.get_dim_groups()[one]
    found = {}
    for one in range(dimensions):
        tensor = torch.tensor([rank + 1])
        dist.all_reduce(tensor, group=groups(one))
        found["dimension %d" % one] = int(tensor)
    return found


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {name: refusal(lambda d=d: sums(0, 1, d)) for name, d in (("one_d", 1), ("two_d", 2))}
    return {name: why for name, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    job.rendezvous()
    return {"cases": sums(job.rank, job.world_size, job.params["dimensions"])}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    dimensions = world.params["dimensions"]
    columns = shape(world.size, dimensions)[-1]

    def expected(rank):
        everybody = range(world.size)
        if dimensions == 1:
            return {"dimension 0": sum(one + 1 for one in everybody)}
        column = [one for one in everybody if one % columns == rank % columns]
        row = [one for one in everybody if one // columns == rank // columns]
        return {"dimension 0": sum(one + 1 for one in column), "dimension 1": sum(one + 1 for one in row)}

    return compare(reports, world, expected)
