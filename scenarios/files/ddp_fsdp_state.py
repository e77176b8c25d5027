"""The state of a wrapped model loads into the same wrapper of another release.

Rank 0 wraps a small model in DDP or in FSDP (in a world of one, with the full state dict), gives its parameters known
values and saves the state. The next rank wraps a fresh model and loads the state strictly. The oracle is the values
and the keys: those of DDP begin with `module.`, and FSDP's full state has the model's own keys.
"""

KIND = "handover"
NEEDS = ("gloo", "FSDP on a CPU for `fsdp`")
TIERS = ("full",)
WARM = ("torch.distributed.fsdp", "torch._dynamo")
VARIANTS = {"ddp": {"params": {"prefix": "module."}}, "fsdp": {"params": {"prefix": ""}}}

SHAPES = {"0.weight": (2, 3), "0.bias": (2,), "1.weight": (2,), "1.bias": (2,)}


def value(name, position):
    """The value of an element."""
    return list(SHAPES).index(name) * 10.0 + position


def wrapped(kind):
    """A fresh model in its wrapper."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    if kind == "ddp":
        return model, torch.nn.parallel.DistributedDataParallel(model)
    from torch.distributed.fsdp import FullyShardedDataParallel

    return model, FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def fill(model):
    """Give each parameter its known values."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = [value(name, position) for position in range(parameter.numel())]
            parameter.copy_(torch.tensor(values).reshape(parameter.shape))


def written(kind, path):
    """Save the wrapper's state."""
    import torch

    model, wrapper = wrapped(kind)
    if kind == "ddp":
        fill(model)
    else:
        from torch.distributed.fsdp import FullyShardedDataParallel

        with FullyShardedDataParallel.summon_full_params(wrapper):
            fill(model)
    torch.save(wrapper.state_dict(), path)


def read(kind, path):
    """Load the state into a fresh wrapper; returns what it then holds."""
    import torch

    wrapper = wrapped(kind)[1]
    wrapper.load_state_dict(torch.load(path))
    return {name: tensor.reshape(-1).tolist() for name, tensor in wrapper.state_dict().items()}


def alone():
    """A world of one."""
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def lacks(job):
    import tempfile

    from torchskew_kit import refusal

    alone()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in VARIANTS:
            path = folder + "/" + kind
            found[kind] = refusal(lambda kind=kind, path=path: written(kind, path)) or refusal(
                lambda kind=kind, path=path: read(kind, path)
            )
    return {kind: why for kind, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    alone()
    path = job.path("state.pt")
    if job.rank == 0:
        written(job.variant, path)
        return {}
    return {"cases": read(job.variant, path)}


def judge(reports, world):
    from math import prod

    from torchskew.judging.oracle import compare

    prefix = world.params["prefix"]
    right = {prefix + name: [value(name, k) for k in range(prod(shape))] for name, shape in SHAPES.items()}
    return compare([None, *reports[1:]], world, lambda rank: right)
