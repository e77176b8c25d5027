"""Sharded state that one release wrote is taken up by another: by as many ranks, by more, and by none at all.

A group of two processes writes; a group of the next rank's release reads. `local`: FSDP's local state dict, one file a
rank with its part of the flat parameter, into FSDP of the same size. `sharded`: FSDP's sharded state dict through
torch.distributed.checkpoint, into FSDP of three ranks. `to_plain`: the same checkpoint into a module without FSDP.
`from_plain`: a module's own checkpoint into FSDP of three ranks. `full`: FSDP's full state dict, gathered on rank 0,
into a plain module; `optim`: its full optimizer state into a plain optimizer. `tensor`: a ShardedTensor, one file a
rank, into ShardedTensors of the same size. The oracle is the values of each parameter by name, given before it was
sharded.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("gloo", "FSDP on a CPU", "torch.distributed.checkpoint")
APPLIES = ">=2.1"
TIERS = ("full",)
WARM = ("torch.distributed.fsdp", "torch.distributed.checkpoint", "torch.distributed._shard", "torch._dynamo")
VARIANTS = {
    "local": {"params": {"form": "local", "readers": 2}},
    "sharded": {"params": {"form": "sharded", "readers": 3}},
    "to_plain": {"params": {"form": "to_plain", "readers": 1}},
    "from_plain": {"params": {"form": "from_plain", "readers": 3}},
    "full": {"params": {"form": "full", "readers": 1}},
    "optim": {"params": {"form": "optim", "readers": 1}},
    "tensor": {"params": {"form": "tensor", "readers": 2}},
}

SHAPES = {"0.weight": (5, 3), "0.bias": (5,), "1.weight": (2, 5), "1.bias": (2,)}
WRITERS, MOMENT = 2, 0.125


def value(name, position):
    """The value of an element; the position counts over the whole parameter."""
    return 100.0 * list(SHAPES).index(name) + position


def module(fresh):
    """Two layers with known values; fresh: -1 everywhere."""
    import torch

    made = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            values = [-1.0 if fresh else value(name, k) for k in range(parameter.numel())]
            parameter.copy_(torch.tensor(values).reshape(parameter.shape))
    return made


def wrapped(fresh, named=True):
    """The module in FSDP on the CPU; not named: with one flat parameter, as local state needs it."""
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(module(fresh), device_id=torch.device("cpu"), use_orig_params=named)


def typed(model, kind):
    """The context in which a state dict is of a kind; its parts stay on the CPU."""
    from torch.distributed import fsdp

    return fsdp.FullyShardedDataParallel.state_dict_type(model, getattr(fsdp.StateDictType, kind))


def whole(model):
    """Every parameter of an FSDP model by its plain name."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return shown({name.replace("_fsdp_wrapped_module.", ""): each for name, each in model.named_parameters()})


def shown(tensors):
    return {name: each.detach().reshape(-1).tolist() for name, each in tensors.items()}


def checkpoint(name, state, folder):
    """Save or load; dcp.save took the place of save_state_dict in 2.2."""
    import torch.distributed.checkpoint as dcp

    work = getattr(dcp, name, None) or getattr(dcp, name + "_state_dict")
    if name == "save":
        work(state, storage_writer=dcp.FileSystemWriter(folder))
    else:
        work(state, storage_reader=dcp.FileSystemReader(folder))


def file_of(share, rank):
    """The file of one rank."""
    return "%s.%d" % (share, rank)


def write(variant, share, rank):
    """What a writer leaves in the folder."""
    import torch

    if variant == "from_plain":
        checkpoint("save", {"model": module(fresh=False).state_dict()}, share)
    elif variant == "tensor":
        torch.save(cut(fresh=False), file_of(share, rank))
    elif variant in ("full", "optim"):
        state = gathered(variant)
        if rank == 0:
            torch.save(state, share)
    else:
        model = wrapped(fresh=False, named=variant != "local")
        with typed(model, "LOCAL_STATE_DICT" if variant == "local" else "SHARDED_STATE_DICT"):
            if variant == "local":
                torch.save(model.state_dict(), file_of(share, rank))
            else:
                checkpoint("save", {"model": model.state_dict()}, share)


def gathered(variant):
    """The whole state of the model, or of an optimizer that has taken one step."""
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = wrapped(fresh=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.5)
    model(torch.zeros(1, 3)).sum().backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(MOMENT)
    optimizer.step()
    with typed(model, "FULL_STATE_DICT"):
        if variant == "full":
            return model.state_dict()
        return FullyShardedDataParallel.optim_state_dict(model, optimizer)


def cut(fresh):
    """A ShardedTensor of ten rows over the group."""
    import torch
    from torch.distributed._shard import sharded_tensor
    from torch.distributed._shard.sharding_spec import ChunkShardingSpec

    size = torch.distributed.get_world_size()
    spec = ChunkShardingSpec(dim=0, placements=["rank:%d/cpu" % rank for rank in range(size)])
    made = sharded_tensor.full(spec, (10, 2), fill_value=-1.0)
    for shard in made.local_shards() if not fresh else []:
        first = shard.metadata.shard_offsets[0]
        rows = torch.arange(2.0 * first, 2.0 * (first + shard.tensor.shape[0]))
        shard.tensor.copy_(rows.reshape(shard.tensor.shape))
    return made


def read(variant, share, rank):
    """What a reader then holds."""
    import torch

    if variant in ("full", "optim"):
        state = torch.load(share, weights_only=False)
        return moments(state) if variant == "optim" else plain(state)
    if variant == "to_plain":
        state = {"model": module(fresh=True).state_dict()}
        checkpoint("load", state, share)
        return plain(state["model"])
    if variant == "tensor":
        return rows_of(torch.load(file_of(share, rank), weights_only=False))
    model = wrapped(fresh=True, named=variant != "local")
    with typed(model, "LOCAL_STATE_DICT" if variant == "local" else "SHARDED_STATE_DICT"):
        if variant == "local":
            model.load_state_dict(torch.load(file_of(share, rank), weights_only=False))
        else:
            state = {"model": model.state_dict()}
            checkpoint("load", state, share)
            model.load_state_dict(state["model"])
    return whole(model)


def plain(state):
    """A module without FSDP that has loaded a state."""
    model = module(fresh=True)
    model.load_state_dict(state)
    return shown(dict(model.named_parameters()))


def moments(state):
    """A plain optimizer that has loaded a state; FSDP's goes by name, an optimizer's by number."""
    import torch

    model = module(fresh=True)
    numbers = {name: number for number, (name, _) in enumerate(model.named_parameters())}
    held = {numbers[name]: each for name, each in state["state"].items()}
    groups = [dict(one, params=[numbers[name] for name in one["params"]]) for one in state["param_groups"]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    optimizer.load_state_dict({"state": held, "param_groups": groups})
    found = {
        name: sorted(set(optimizer.state[parameter]["momentum_buffer"].reshape(-1).tolist()))
        for name, parameter in model.named_parameters()
    }
    return dict(found, rate=optimizer.param_groups[0]["lr"])


def rows_of(written):
    """The rows of a ShardedTensor of this release that took up the parts of another's."""
    made = cut(fresh=True)
    for mine, shard in zip(made.local_shards(), written.local_shards()):
        mine.tensor.copy_(shard.tensor)
    return {"rows": [value for shard in made.local_shards() for value in shard.tensor.reshape(-1).tolist()]}


def lacks(job):
    """Return what this version says to state of its own, in a group of one."""
    import tempfile

    import torch.distributed as dist
    from torchskew_kit import refusal

    job.rendezvous()
    why = refusal(lambda: dist.all_gather_object([None], 1))
    if why:  # a group of two or more exchanges objects, for which some releases need NumPy
        return {"*": why}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            place = folder + "/" + variant
            found[variant] = refusal(lambda v=variant, p=place: (write(v, p, 0), read(v, p, 0)))
    return {variant: why for variant, why in found.items() if why}


def rank(job):
    import torchskew_kit as kit

    job.need(job.variant)
    share, variant = job.path("state"), job.variant
    if job.rank == 0:
        try:
            kit.forked_world(job, WRITERS, "writers", lambda rank: write(variant, share, rank))
        except RuntimeError as error:  # 2.2 asks for the statistics of a GPU when it gathers an optimizer
            if variant != "optim":
                raise
            job.unsupported("it can't gather an optimizer on CPUs: %s" % str(error).splitlines()[0])
        return {}
    told = kit.forked_world(job, job.params["readers"], "readers", lambda rank: read(variant, share, rank))
    return {"cases": {"reader %d" % number: each for number, each in enumerate(told)}}


def judge(reports, world):
    from math import prod

    from torchskew.judging.oracle import compare

    form, readers = world.params["form"], world.params["readers"]
    right = {name: [value(name, k) for k in range(prod(shape))] for name, shape in SHAPES.items()}
    if form == "optim":
        right = dict({name: [MOMENT] for name in SHAPES}, rate=0.0)
    told = {"reader %d" % number: right for number in range(readers)}
    if form == "tensor":
        told = {"reader 0": {"rows": list(range(10))}, "reader 1": {"rows": list(range(10, 20))}}
    return compare([None, *reports[1:]], world, lambda rank: told)
