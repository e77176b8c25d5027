"""Objects that users give to remote calls arrive whole, and what a remote call raises comes back.

Every rank calls its right neighbour with: a function of this file (`function`), a module that is run there (`module`),
a view of a tensor, a sparse and an empty one (`views`), a storage of one tensor twice (`shared`), a data class and a
class of the user's own (`classes`), a path (`path`), a remote reference that the other side reads (`reference`), and a
weight of distributed autograd, whose gradient comes back (`autograd`). `raises`: the called function raises an error
of Python, of torch and of the user's own, and the caller gets its text. Each answer names the rank that gave it. The
oracle is the closed form.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("store_connect",)
RENDEZVOUS = "store"
NEEDS = ("TensorPipe",)
TIERS = ("full",)
GUARD = ("off",)
WARM = ("torch.distributed.rpc", "torch.distributed.autograd", "torch._dynamo")
KINDS = ("function", "module", "views", "shared", "classes", "path", "reference", "autograd", "raises")
VARIANTS = {kind: {"params": {"kind": kind}} for kind in KINDS}


class Setting:
    """A class of the user's own."""

    def __init__(self, rate):
        self.rate = rate


class Broken(Exception):  # noqa: N818 - a name that a user could have chosen
    """An exception of the user's own."""


def point():
    """A data class that the pickle finds by its module, this scenario."""
    import dataclasses

    if "Point" not in globals():
        made = dataclasses.make_dataclass("Point", [("x", int), ("tag", str)])
        made.__module__ = __name__
        globals()["Point"] = made
    return globals()["Point"]


def here():
    """The rank that runs this."""
    from torch.distributed import rpc

    return rpc.get_worker_info().id


def apply(function, number):
    """Runs on the called rank: call a function that came with the call."""
    return [here(), function(number)]


def twice(number):
    return 2 * number


def forward(layer, rows):
    """Runs on the called rank: use a module that came with the call."""
    return [here(), layer(rows).tolist(), sorted(layer.state_dict())]


def describe(tensors):
    """Runs on the called rank: shape and elements of tensors."""
    dense = [each.to_dense() if each.is_sparse else each for each in tensors]
    return [here(), [[list(one.shape), one.tolist()] for one in dense]]


def change(pair):
    """Runs on the called rank: change the first; the second shows whether they are one storage."""
    pair[0].fill_(7)
    return [here(), pair[1].tolist()]


def attributes(thing, record):
    return [here(), thing.rate, record.x, record.tag, type(record).__name__]


def text(path):
    return [here(), str(path), type(path).__name__]


def fetch(reference):
    return [here(), reference.to_here().tolist()]


def scaled(weight):
    return weight * 3


def fails(kind):
    """Runs on the called rank and does not come back."""
    import torch

    if kind == "python":
        raise ValueError("no answer")
    if kind == "own":
        raise Broken("no answer", 3)
    return torch.ones(2) @ torch.ones(3)


def ask(kind, to, me):
    """What the neighbour answered."""
    import pathlib

    import torch
    from torch.distributed import rpc

    if kind in ("autograd", "raises"):
        return gradient(to, me) if kind == "autograd" else raised(to)
    base, pair = torch.arange(6.0).reshape(2, 3) + me, torch.zeros(2)
    function, args = {
        "function": lambda: (apply, (twice, me)),
        "module": lambda: (forward, (layer(me), torch.tensor([[1.0, 2.0]]))),
        "views": lambda: (describe, ([base[:, 1:], base.t(), base.to_sparse(), base[:0], base[0, 0]],)),
        "shared": lambda: (change, ([pair, pair.view(2)],)),
        "classes": lambda: (attributes, (Setting(me), point()(me, "p"))),
        "path": lambda: (text, (pathlib.Path("/data/%d" % me),)),
        "reference": lambda: (fetch, (rpc.RRef(torch.tensor([me, 2])),)),
    }[kind]()
    return rpc.rpc_sync(to, function, args=args)


def layer(number):
    """A module whose weights are known."""
    import torch

    made = torch.nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.fill_(number)
        made.bias.fill_(0.5)
    return made


def gradient(to, me):
    """The gradient of a weight through a remote product."""
    import torch
    import torch.distributed.autograd as dist_autograd
    from torch.distributed import rpc

    weight = torch.tensor([float(me), 1.0], requires_grad=True)
    with dist_autograd.context() as context:
        loss = (rpc.rpc_sync(to, scaled, args=(weight,)) * weight).sum()
        dist_autograd.backward(context, [loss])
        return dist_autograd.get_gradients(context)[weight].tolist()


def raised(to):
    """What came back of three errors."""
    return {kind: caught(to, kind) for kind in ("python", "own", "torch")}


def caught(to, kind):
    """The type of an error of Python, and whether the text of what was raised is in it."""
    from torch.distributed import rpc

    try:
        rpc.rpc_sync(to, fails, args=(kind,))
    except Exception as error:
        wanted = "size" if kind == "torch" else "no answer"
        return [type(error).__name__ if kind == "python" else "", wanted in str(error)]
    return ["it raised nothing", False]


def lacks(job):
    from torchskew_kit import meet_alone, refusal

    meet_alone(job)
    found = {}

    def each():
        for kind in KINDS:
            found[kind] = refusal(lambda: ask(kind, "rank0", 0))

    why = refusal(lambda: inside(job, each))
    return {"*": why} if why else {kind: text for kind, text in found.items() if text}


def inside(job, work):
    """Run work between the start and the end of RPC."""
    import torchskew_kit as kit
    from torch.distributed import rpc

    point()
    kit.start_rpc(job)
    gave = work()
    job.phase("teardown")
    rpc.shutdown()
    return gave


def rank(job):
    import torchskew_kit as kit

    job.need(job.variant)
    me, size = job.rank, job.world_size
    answer = inside(job, lambda: ask(job.variant, "rank%d" % ((me + 1) % size), me))
    kit.host_leaves_last(job)
    return {"cases": {job.variant: answer}}


def expected(kind, me, to):
    """The answer by hand."""
    base = [[me, me + 1, me + 2], [me + 3, me + 4, me + 5]]
    views = [[[2, 2], [row[1:] for row in base]], [[3, 2], [list(column) for column in zip(*base)]], [[2, 3], base],
             [[0, 3], []], [[], me]]  # fmt: skip
    return {
        "function": [to, 2 * me],
        "module": [to, [[3.0 * me + 0.5]], ["bias", "weight"]],
        "views": [to, views],
        "shared": [to, [7, 7]],
        "classes": [to, me, me, "p", "Point"],
        "path": [to, "/data/%d" % me, "PosixPath"],
        "reference": [to, [me, 2]],
        "autograd": [6.0 * me, 6.0],
        "raises": {"python": ["ValueError", True], "own": ["", True], "torch": ["", True]},
    }[kind]


def judge(reports, world):
    from torchskew.judging.oracle import compare

    kind = world.params["kind"]
    return compare(reports, world, lambda rank: {kind: expected(kind, rank, (rank + 1) % world.size)})
