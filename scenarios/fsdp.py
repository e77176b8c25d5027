"""Fully sharded training (FSDP) ends where unsharded training does.

Each rank pulls one parameter towards a target of its own by the loss (w - target)² / 2. After two steps of gradient
descent over the mean gradient, every rank gathers the whole parameter. The oracle is the recurrence in Python's
floats, within 4 float32 roundings per step, and the ranks must agree bit by bit. What FSDP needs of gloo on a CPU came
late: a version that refuses is UNSUPPORTED, in its own words.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "FSDP on a CPU")
TIERS = ("full",)
WARM = ("torch.distributed.fsdp", "torch._dynamo")

START = [0.5 * k - 3 for k in range(12)]
RATE, STEPS = 0.25, 2
BOUND = 4 * STEPS * 2.0**-23 * 30


def target(rank):
    """Where a rank pulls each element."""
    return [(rank + 1) * (k + 1) for k in range(len(START))]


def trained(rank, size):
    """The whole parameter after the steps."""
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel

    class Well(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.well = torch.nn.Parameter(torch.tensor(START))

        def forward(self, goal):
            return ((self.well - goal) ** 2).sum() / 2

    wrapped = FullyShardedDataParallel(Well(), device_id=torch.device("cpu"))
    goal = torch.tensor(target(rank), dtype=torch.float32)
    for _ in range(STEPS):
        wrapped.zero_grad()
        wrapped(goal).backward()
        with torch.no_grad():
            for shard in wrapped.parameters():
                if shard.grad is not None:
                    shard.sub_(RATE * shard.grad)
    with FullyShardedDataParallel.summon_full_params(wrapped):
        return [value for one in wrapped.parameters() for value in one.detach().reshape(-1).tolist()]


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    why = refusal(lambda: trained(0, 1))
    return {"*": why} if why else {}


def rank(job):
    job.rendezvous()
    return {"parameter": trained(job.rank, job.world_size)}


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
