"""Under deterministic algorithms, an operator produces the same bits twice.

Under torch.use_deterministic_algorithms(True), each operator runs twice on the same input with the same seed, forward
and backward. PyTorch promises this within a release only, so releases are not compared with each other. An operator
that says it has no deterministic form is UNSUPPORTED, with its own text. Oracle: both digests are equal, and
different operators have different digests, which shows that each one computed something.
"""

KIND = "solo"
WORLD = (1, 1)
NEEDS = ("use_deterministic_algorithms",)
TIERS = ("full",)

NAMES = (
    "linear", "conv2d", "conv_transpose2d", "batch_norm", "layer_norm", "embedding", "embedding_bag", "lstm",
    "attention", "index_add", "scatter_add", "index_put", "bincount", "cumsum", "sort", "dropout", "interpolate",
    "max_pool2d", "cross_entropy", "ctc_loss",
)  # fmt: skip


def operators():
    """Name -> a call that makes its result from a float input of 4 x 8."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - as everybody writes it

    at = torch.tensor([0, 1, 1, 3, 0, 2, 2, 1])
    square = lambda x: x.reshape(1, 2, 4, 4)  # noqa: E731
    seed = lambda *shape: torch.arange(float(torch.tensor(shape).prod())).reshape(shape) / 7  # noqa: E731
    return {
        "linear": lambda x: F.linear(x, seed(3, 8)),
        "conv2d": lambda x: F.conv2d(square(x), seed(3, 2, 2, 2)),
        "conv_transpose2d": lambda x: F.conv_transpose2d(square(x), seed(2, 3, 2, 2)),
        "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
        "layer_norm": lambda x: F.layer_norm(x, (8,)),
        "embedding": lambda x: F.embedding(at, x),
        "embedding_bag": lambda x: F.embedding_bag(at.reshape(2, 4), x, mode="sum"),
        "lstm": lambda x: torch.nn.LSTM(8, 3)(x.reshape(4, 1, 8))[0],
        "attention": lambda x: torch.softmax(x @ x.t(), -1) @ x,
        "index_add": lambda x: torch.zeros(4, 8).index_add(1, at, x),
        "scatter_add": lambda x: torch.zeros(4, 8).scatter_add(1, at.repeat(4, 1), 2 * x),
        "index_put": lambda x: torch.zeros(4).index_put((at,), x[0], accumulate=True),
        "bincount": lambda x: torch.bincount(at, weights=x[0].detach()),
        "cumsum": lambda x: x.cumsum(1) ** 2,
        "sort": lambda x: x.sort(1)[0] * seed(4, 8),
        "dropout": lambda x: F.dropout(x, 0.5, training=True),
        "interpolate": lambda x: F.interpolate(square(x), scale_factor=2, mode="bilinear", align_corners=False),
        "max_pool2d": lambda x: F.max_pool2d(square(x), 2),
        "cross_entropy": lambda x: F.cross_entropy(x, at[:4]),
        "ctc_loss": lambda x: F.ctc_loss(
            x.reshape(4, 1, 8).log_softmax(-1), at[1:3].reshape(1, 2), torch.tensor([4]), torch.tensor([2])
        ),
    }


def digest(call, seed):
    """What one run gave, forward and backward."""
    import torch
    import torchskew_kit as kit

    torch.manual_seed(seed)
    x = torch.randn(4, 8, requires_grad=True)
    result = call(x)
    data = kit.raw(result.detach().contiguous())
    if result.requires_grad:
        (result * result).sum().backward()
        data += kit.raw(x.grad.contiguous())
    return kit.digest(data)


def lacks(job):
    import torch
    from torchskew_kit import refusal

    if not hasattr(torch, "use_deterministic_algorithms"):
        return {"*": "torch has no use_deterministic_algorithms"}
    torch.use_deterministic_algorithms(True)
    found = {name: refusal(lambda call=call: digest(call, 0)) for name, call in operators().items()}
    return {name: why for name, why in found.items() if why}


def rank(job):
    import torch

    torch.use_deterministic_algorithms(True)
    calls = {name: call for name, call in operators().items() if not job.skipped(name)}
    return {"runs": {name: [digest(call, job.seed) for _ in range(2)] for name, call in calls.items()}}


def judge(reports, world):
    from torchskew.judging.oracle import skipped, summary

    runs = reports[0]["runs"]
    wanted = [name for name in NAMES if not skipped(name, world.skip)]
    problems = [] if wanted else ["every operator was left out"]
    problems += ["%s is missing" % name for name in wanted if len(runs.get(name, [])) != 2]
    problems += ["%s was not asked for" % name for name in runs if name not in wanted]
    problems += ["%s differs between two runs" % name for name in runs if len(set(runs[name])) > 1]
    if len({both[0] for both in runs.values() if both}) < len(runs):
        problems.append("two operators gave the same bits")
    return {0: summary(problems)} if problems else {}
