"""The functional collectives, which compiled programs call, agree with the ordinary ones.

all_reduce, all_gather_tensor and reduce_scatter_tensor of torch.distributed._functional_collectives run on int64
numbers. The oracle is the closed form. Each version is asked in a world of one what it lacks.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
APPLIES = ">=2.1"
TIERS = ("full",)
WARM = ("torch.distributed._functional_collectives",)
NAMES = ("all_reduce", "all_gather_tensor", "reduce_scatter_tensor")


def result(name, rank, size):
    """What one rank gets from one of them."""
    import torch
    import torch.distributed as dist
    from torch.distributed import _functional_collectives as functional

    group = list(range(size)) if not hasattr(functional, "RANK_TYPES") else dist.group.WORLD
    calls = {
        "all_reduce": lambda: functional.all_reduce(torch.tensor([rank + 1, 5]), "sum", group),
        "all_gather_tensor": lambda: functional.all_gather_tensor(torch.tensor([rank, 7]), 0, group),
        "reduce_scatter_tensor": lambda: functional.reduce_scatter_tensor(
            torch.arange(2 * size) + rank, "sum", 0, group
        ),
    }
    return (calls[name]() + 0).tolist()  # adding waits for the result


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {name: refusal(lambda name=name: result(name, 0, 1)) for name in NAMES}
    if all(found.values()):
        return {"*": found["all_reduce"]}
    return {name: why for name, why in found.items() if why}


def rank(job):
    job.rendezvous()
    names = [name for name in NAMES if not job.skipped(name)]
    return {"cases": {name: result(name, job.rank, job.world_size) for name in names}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    n = world.size
    total = n * (n + 1) // 2

    def expected(rank):
        return {
            "all_reduce": [total, 5 * n],
            "all_gather_tensor": [number for one in range(n) for number in (one, 7)],
            "reduce_scatter_tensor": [n * (2 * rank + k) + total - n for k in (0, 1)],
        }

    return compare(reports, world, expected)
