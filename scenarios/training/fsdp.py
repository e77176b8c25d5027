"""Fully sharded training ends with the same parameters as unsharded training.

Each rank pulls one parameter towards a target of its own by the loss (w - target)² / 2. The parameter is sharded over
all ranks: `wrapped` by FullyShardedDataParallel (FSDP), `fully_shard` by the function of that name (FSDP2), which
makes it a DTensor. After two steps of gradient descent over the mean gradient, every rank gathers the whole
parameter. The oracle is the recurrence in Python's floats, within 4 float32 roundings per step, and the ranks must
agree bit by bit. gloo gained what either needs on a CPU late: a version that refuses is UNSUPPORTED, with its own
text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "FSDP on a CPU for `wrapped`", "fully_shard on a CPU for `fully_shard`")
TIERS = ("full",)
WARM = ("torch.distributed.fsdp", "torch.distributed._composable.fsdp", "torch._dynamo")
VARIANTS = {"wrapped": {}, "fully_shard": {}}

START = [0.5 * k - 3 for k in range(12)]
RATE, STEPS = 0.25, 2
BOUND = 4 * STEPS * 2.0**-23 * 30


def target(rank):
    """Where a rank pulls each element."""
    return [(rank + 1) * (k + 1) for k in range(len(START))]


def well():
    """A model whose loss is the distance to a goal."""
    import torch

    class Well(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.well = torch.nn.Parameter(torch.tensor(START))

        def forward(self, goal):
            return ((self.well - goal) ** 2).sum() / 2

    return Well()


def train(model, rank):
    """Descend, on whatever part of the parameter is here."""
    import torch

    goal = torch.tensor(target(rank), dtype=torch.float32)
    for _ in range(STEPS):
        model.zero_grad()
        model(goal).backward()
        with torch.no_grad():
            for shard in model.parameters():
                if shard.grad is not None:
                    shard.sub_(RATE * shard.grad)


def wrapped(rank, size):
    """The whole parameter after the steps, by FSDP."""
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(well(), device_id=torch.device("cpu"))
    train(model, rank)
    with FullyShardedDataParallel.summon_full_params(model):
        return [value for one in model.parameters() for value in one.detach().reshape(-1).tolist()]


def fully_shard(rank, size):
    """The whole parameter after the steps, by FSDP2, which moved to torch.distributed.fsdp in 2.6."""
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.fsdp import fully_shard as sharding
    except ImportError:
        from torch.distributed._composable.fsdp import fully_shard as sharding

    model = well()
    sharding(model, mesh=init_device_mesh("cpu", (size,)))
    train(model, rank)
    return model.well.full_tensor().tolist()


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {"wrapped": refusal(lambda: wrapped(0, 1)), "fully_shard": refusal(lambda: fully_shard(0, 1))}
    return {way: why for way, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    job.rendezvous()
    return {"parameter": globals()[job.variant](job.rank, job.world_size)}


def judge(reports, world):
    right, goals = START, [target(rank) for rank in range(world.size)]
    means = [sum(column) / world.size for column in zip(*goals)]
    for _ in range(STEPS):
        right = [value - RATE * (value - mean) for value, mean in zip(right, means)]
    first = next(report["parameter"] for report in reports if report)
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            continue
        got = report["parameter"]
        if len(got) != len(right):
            wrong[rank] = "it gathered %d elements of %d" % (len(got), len(right))
        elif max(abs(a - b) for a, b in zip(got, right)) > BOUND * world.size:
            wrong[rank] = "it ended at %s, expected %s" % (got[:3], right[:3])
        elif got != first:
            wrong[rank] = "its parameter differs from another rank's"
    return wrong
