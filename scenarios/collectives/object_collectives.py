"""Python objects sent between releases arrive equal.

Objects travel as pickles, which each release writes and reads in its own way. Every variant sends one kind of object
with broadcast_object_list from each rank, all_gather_object, gather_object, scatter_object_list, and send_object_list
where all versions have it: `builtin` (numbers, text, containers), `data_class` (defined in this file), `tensors`
(three dtypes, one of them a view), `torch_types` (dtype, device, Size), `numpy` (an array), `path` (a pathlib.Path,
whose module changed in Python 3.13), and `moved`, a class of torch whose module changed in 2.5 (the placement Shard of
DTensor). Each rank reports what it received as text; the oracle is the text of what was sent.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "numpy for `numpy`", "DTensor for `moved`")
TIERS = ("critical", "full")
WARM = ("torch.distributed.tensor", "torch.distributed._tensor", "torch._dynamo")

KINDS = ("builtin", "data_class", "tensors", "torch_types", "numpy", "path", "moved")
VARIANTS = {kind: {"params": {"kind": kind}} for kind in KINDS}
SHOWN = {
    "builtin": "[{'a': [1, 2.5, None, True]}, (%d,), 'text \\u20ac', b'\\x00\\xff', {3}, 1208925819614629174706176]",
    "data_class": "Point(x=%d, tag='p')",
    "tensors": "[int64 [%d, 2], float32 [[0.5], [1.5]], bool [True, False]]",
    "torch_types": "[torch.float16, device(type='cpu'), torch.Size([%d, 2])]",
    "numpy": "float64 [[%d.0, 2.0]]",
    "path": "PosixPath('/data/%d')",
    "moved": "Shard(dim=%d)",
}


def point():
    """A data class that the pickle finds by its module, this scenario."""
    import dataclasses

    if "Point" not in globals():
        made = dataclasses.make_dataclass("Point", [("x", int), ("tag", str)])
        made.__module__ = __name__
        globals()["Point"] = made
    return globals()["Point"]


def shard():
    """The placement class, from where this version has it."""
    try:
        from torch.distributed.tensor import Shard
    except ImportError:
        from torch.distributed._tensor import Shard
    return Shard


def thing(kind, number):
    """An object of a kind that holds a number."""
    import torch

    if kind == "builtin":
        return [{"a": [1, 2.5, None, True]}, (number,), "text \u20ac", b"\x00\xff", {3}, 1 << 80]
    if kind == "data_class":
        return point()(number, "p")
    if kind == "tensors":
        view = torch.tensor([[0.5, 9.0], [1.5, 9.0]])[:, :1]
        return [torch.tensor([number, 2]), view, torch.tensor([True, False])]
    if kind == "torch_types":
        return [torch.float16, torch.device("cpu"), torch.Size([number, 2])]
    return shard()(number) if kind == "moved" else {"numpy": array, "path": path}[kind](number)


def array(number):
    import numpy as np

    return np.array([[float(number), 2.0]])


def path(number):
    import pathlib

    return pathlib.Path("/data/%d" % number)


def shown(kind, received):
    """The text of what arrived, the same in every release."""
    if kind == "tensors":
        parts = ["%s %s" % (str(one.dtype)[6:], one.tolist()) for one in received]
        return "[%s]" % ", ".join(parts)
    if kind == "numpy":
        return "%s %s" % (received.dtype, received.tolist())
    if kind == "builtin":
        return ascii(received)
    if kind == "moved":
        return "Shard(dim=%d)" % received.dim if type(received).__name__ == "Shard" else repr(received)
    return repr(received)


def lacks(job):
    import torch.distributed as dist
    from torchskew_kit import refusal

    job.rendezvous()
    why = refusal(lambda: dist.all_gather_object([None], 1))
    if why:  # some releases need numpy for it, and don't install it
        return {"*": why}
    found = {kind: refusal(lambda kind=kind: shown(kind, thing(kind, 1))) for kind in KINDS}
    for case, name in (("send", "send_object_list"), ("scatter", "scatter_object_list")):
        if not hasattr(dist, name):
            found[case] = "torch.distributed has no " + name
    return {case: why for case, why in found.items() if why}


def rank(job):
    import torch.distributed as dist

    job.need(job.variant)
    kind, size, me = job.params["kind"], job.world_size, job.rank
    point()
    job.rendezvous()
    cases = {}
    for root in range(size):
        box = [thing(kind, root) if me == root else None]
        dist.broadcast_object_list(box, src=root)
        cases["broadcast %d" % root] = shown(kind, box[0])
    everything = [None] * size
    dist.all_gather_object(everything, thing(kind, me))
    cases["all_gather"] = [shown(kind, one) for one in everything]
    gathered = [None] * size if me == 0 else None
    dist.gather_object(thing(kind, me), gathered, dst=0)
    cases["gather"] = [shown(kind, one) for one in gathered] if me == 0 else None
    if not job.skipped("scatter"):
        mine = [None]
        dist.scatter_object_list(mine, [thing(kind, 10 + one) for one in range(size)] if me == 0 else None, src=0)
        cases["scatter"] = shown(kind, mine[0])
    if not job.skipped("send"):
        cases["send"] = sent_on(job, kind)
    return {"cases": cases}


def sent_on(job, kind):
    """Rank 0 sends to the last rank, which sends back."""
    import torch.distributed as dist

    last, box = job.world_size - 1, [None]
    if job.rank == 0:
        dist.send_object_list([thing(kind, 20)], dst=last)
        dist.recv_object_list(box, src=last)
    elif job.rank == last:
        dist.recv_object_list(box, src=0)
        dist.send_object_list([thing(kind, 21)], dst=0)
    else:
        return None
    return shown(kind, box[0])


def judge(reports, world):
    from torchskew.judging.oracle import compare

    text, last = SHOWN[world.params["kind"]], world.size - 1

    def expected(rank):
        everything = [text % one for one in range(world.size)]
        right = {"broadcast %d" % root: everything[root] for root in range(world.size)}
        right.update(all_gather=everything, gather=everything if rank == 0 else None, scatter=text % (10 + rank))
        right["send"] = {0: text % 21, last: text % 20}.get(rank)
        return right

    return compare(reports, world, expected)
