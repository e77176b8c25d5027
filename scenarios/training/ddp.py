"""DistributedDataParallel trains all ranks to the same, arithmetically exact parameters.

Each rank pulls every parameter w towards a target of its own by the loss (w - target)² / 2, so three steps of
gradient descent over the mean gradient have a closed recurrence in every element. Variant `default` uses DDP's own
bucket sizes, `bucket_cap` an explicit bucket_cap_mb, `unused` the same with find_unused_parameters (the size of the
first bucket changed in 2.4, and only this layout is never agreed upon), and `hook` a communication hook that
all-reduces. Five parameters of 0.6 MiB make several buckets. The oracle is the recurrence in Python's floats: every
element within 4 float32 roundings per step, and all ranks identical bit by bit.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "autograd")
TIERS = ("critical", "full")
WARM = ("torch._dynamo",)
VARIANTS = {"default": {}, "bucket_cap": {}, "unused": {}, "hook": {}}
SETTINGS = {"bucket_cap": {"bucket_cap_mb": 2}, "unused": {"bucket_cap_mb": 2, "find_unused_parameters": True}}

TENSORS, ROWS, BLOCK = 5, 32000, 5
RATE, STEPS = 0.25, 3
BOUND = 4 * STEPS * 2.0**-23  # of the largest value that takes part


def start(tensor):
    """The first value of each column of a parameter."""
    return [0.5 * column - tensor for column in range(BLOCK)]


def target(tensor, rank):
    """Where a rank pulls each column."""
    return [(rank + 1) * (column + 1) + 2 * tensor for column in range(BLOCK)]


def trained(rank, size, variant):
    """The parameters after three steps."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    class Wells(torch.nn.Module):
        def __init__(self):
            super().__init__()
            rows = [torch.tensor(start(one)).repeat(ROWS, 1) for one in range(TENSORS)]
            self.wells = torch.nn.ParameterList([torch.nn.Parameter(one) for one in rows])

        def forward(self, targets):
            return sum(((one - goal) ** 2).sum() / 2 for one, goal in zip(self.wells, targets))

    model = Wells()
    wrapped = DistributedDataParallel(model, **SETTINGS.get(variant, {}))
    if variant == "hook":
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        wrapped.register_comm_hook(None, allreduce_hook)
    targets = [torch.tensor(target(one, rank), dtype=torch.float32) for one in range(TENSORS)]
    for _ in range(STEPS):
        model.zero_grad()
        wrapped(targets).backward()
        with torch.no_grad():
            for one in model.wells:
                one.sub_(RATE * one.grad)
    return [one.detach() for one in model.wells]


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {variant: refusal(lambda variant=variant: trained(0, 1, variant)) for variant in VARIANTS}
    return {variant: why for variant, why in found.items() if why}


def rank(job):
    import torchskew_kit as kit

    job.need(job.variant)
    job.rendezvous()
    parameters = trained(job.rank, job.world_size, job.variant)
    return {
        "columns": [one[0].tolist() for one in parameters],
        "spreads": [float((one - one[0]).abs().max()) for one in parameters],  # every row is the same problem
        "digests": [kit.digest(kit.raw(one)) for one in parameters],
    }


def reference(size):
    """Each parameter's columns after three steps, and the largest value on the way."""
    found, largest = [], 0.0
    for tensor in range(TENSORS):
        values, goals = start(tensor), [target(tensor, rank) for rank in range(size)]
        largest = max([largest, *map(abs, values), *(abs(goal) for one in goals for goal in one)])
        for _ in range(STEPS):
            means = [sum(column) / size for column in zip(*goals)]
            values = [value - RATE * (value - mean) for value, mean in zip(values, means)]
        found.append(values)
    return found, largest


def judge(reports, world):
    right, largest = reference(world.size)
    digests = next(report["digests"] for report in reports if report)
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            continue
        if [len(one) for one in report["columns"]] != [BLOCK] * TENSORS or len(report["spreads"]) != TENSORS:
            wrong[rank] = "it reported %d parameters of %d" % (len(report["columns"]), TENSORS)
            continue
        off = max(abs(a - b) for got, one in zip(report["columns"], right) for a, b in zip(got, one))
        if off + max(report["spreads"]) > BOUND * largest:
            wrong[rank] = "an element is off by %.2g, %.2g allowed" % (off + max(report["spreads"]), BOUND * largest)
        elif report["digests"] != digests:
            wrong[rank] = "its parameters differ from another rank's"
    return wrong
