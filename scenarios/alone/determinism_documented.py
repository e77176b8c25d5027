"""What the documentation of torch.use_deterministic_algorithms says of each operator, holds on this machine's CPU.

The statements are read from the release's own docstring: operators that act deterministically, and operators that raise
a RuntimeError. Each one runs twice on the same input with the same seed, forward and backward. Oracle: the statement.
An operator that is to raise, without a word about CUDA or MPS, raises and says so; every other one gives the same bits
twice. What the documentation names and this scenario has no call for is in the cell's reason. `determinism` tries other
operators in the same way.
"""

KIND = "solo"
WORLD = (1, 1)
NEEDS = ("use_deterministic_algorithms",)
TIERS = ("full",)
PATIENCE = 30.0
FEWEST = 20  # statements; fewer would mean that the docstring was not understood
ACTS, RAISES = "operations will act", "operations will throw a"
# What other lists of the docstring begin with: memory that is filled, and CUDA's own settings.
OTHERS = ("will fill", "fill uninitialized memory", "CUBLAS_WORKSPACE_CONFIG")


def statements(text):
    """Operator -> whether it has to raise on a CPU, as the docstring says."""
    import re

    found, raises, over = {}, False, False
    for part in re.split(r"\n\s*\* ", text)[1:] if ACTS in text else []:
        statement, _, heading = part.partition("\n\n")
        if not over:
            for name in re.findall(r":(?:class|func|meth):`~?(torch\.[\w.]+)`", statement):
                here = raises and "CUDA" not in statement and "MPS" not in statement
                found[name] = found.get(name, False) or here
        raises = raises or RAISES in heading
        over = over or any(other in heading for other in OTHERS)
    return found


def layers():
    """Layer of torch.nn -> its arguments and the shape of its input."""
    table = {"Conv": ((2, 3, 2), 2), "ConvTranspose": ((2, 3, 2), 2), "AvgPool": ((2,), 2), "MaxPool": ((2,), 2)}
    table.update({"ReplicationPad": ((1,), 2), "ReflectionPad": ((1,), 2), "AdaptiveAvgPool": ((2,), 2)})
    table.update({"AdaptiveMaxPool": ((2,), 2), "FractionalMaxPool": ((2, 2), 2)})
    found = {}
    for name, (args, channels) in table.items():
        for size in (1, 2, 3):
            found["torch.nn.%s%dd" % (name, size)] = (args, (1, channels) + (4,) * size)
    return found


def layered(name, args, shape):
    """The call of a layer."""
    import torch

    make = getattr(torch.nn, name.rpartition(".")[2])
    more = {"output_size": 2} if "Fractional" in name else {}
    args = args[:1] if more else args
    return lambda x: make(*args, **more)(x.reshape(-1)[: size(shape)].reshape(shape))


def size(shape):
    """How many elements a shape has."""
    count = 1
    for each in shape:
        count *= each
    return count


def unpooled(dims):
    """MaxUnpool of what MaxPool gave."""
    import torch

    pool = getattr(torch.nn, "MaxPool%dd" % dims)(2, return_indices=True)
    unpool = getattr(torch.nn, "MaxUnpool%dd" % dims)(2)
    shape = (1, 2) + (4,) * dims
    return lambda x: unpool(*pool(x.reshape(-1)[: size(shape)].reshape(shape)))


def calls():
    """Operator -> its call; of one that raises, the call that the documentation means."""
    import torch

    found = {name: layered(name, *how) for name, how in layers().items() if hasattr(torch.nn, name[9:])}
    found.update({"torch.nn.MaxUnpool%dd" % dims: unpooled(dims) for dims in (1, 2, 3)})
    found.update(functionals())
    found.update(tensors())
    return found


def rows(x):
    """The input as four rows of eight."""
    return x.reshape(-1)[:32].reshape(4, 8)


def functionals():
    """What is called through torch.nn.functional."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - as everybody writes it

    at, square = torch.tensor([0, 1, 1, 3]), lambda x: rows(x).reshape(1, 2, 4, 4)
    logs = lambda x: rows(x).reshape(4, 1, 8).log_softmax(-1)  # noqa: E731
    grid = torch.linspace(-1, 1, 8).reshape(1, 2, 2, 2)
    return {
        "torch.nn.Embedding": lambda x: F.embedding(at, rows(x)),
        "torch.nn.EmbeddingBag": lambda x: F.embedding_bag(at.reshape(2, 2), rows(x), mode="max"),
        "torch.nn.NLLLoss": lambda x: F.nll_loss(rows(x), at),
        "torch.nn.CTCLoss": lambda x: F.ctc_loss(logs(x), at[1:3].reshape(1, 2), torch.tensor([4]), torch.tensor([2])),
        "torch.nn.functional.interpolate": lambda x: F.interpolate(square(x), scale_factor=2, mode="bicubic"),
        "torch.nn.functional.grid_sample": lambda x: F.grid_sample(square(x), grid, align_corners=False),
    }


def tensors():
    """What is a function of torch or a method of a tensor."""
    import torch

    at, eye = torch.tensor([0, 1, 1, 3]), torch.eye(4).reshape(1, 4, 4)
    table, zeros = at.repeat(8, 1).t(), lambda: torch.zeros(4, 8)
    return {
        "torch.bmm": lambda x: torch.bmm(eye.to_sparse(), rows(x).detach().reshape(1, 4, 8)),
        "torch.cumsum": lambda x: rows(x).cumsum(1),
        "torch.Tensor.__getitem__": lambda x: rows(x)[[at, at]],
        "torch.Tensor.index_put": lambda x: zeros().index_put((at,), rows(x), accumulate=True),
        "torch.Tensor.index_put_": lambda x: zeros().index_put_((at,), rows(x), accumulate=True),
        "torch.Tensor.put_": lambda x: torch.zeros(8).put_(at, rows(x)[0][:4], accumulate=False),
        "torch.Tensor.scatter_add_": lambda x: zeros().scatter_add_(0, table, rows(x)),
        "torch.gather": lambda x: torch.gather(rows(x), 0, table),
        "torch.index_add": lambda x: torch.index_add(zeros(), 0, at, rows(x)),
        "torch.index_select": lambda x: torch.index_select(rows(x), 0, at),
        "torch.repeat_interleave": lambda x: torch.repeat_interleave(rows(x), at, 0),
        "torch.Tensor.index_copy": lambda x: zeros().index_copy(0, at, rows(x)),
        "torch.Tensor.index_add_": lambda x: zeros().index_add_(0, at, rows(x)),
        "torch.Tensor.scatter": lambda x: zeros().scatter(0, table, rows(x)),
        "torch.Tensor.scatter_reduce": lambda x: zeros().scatter_reduce(0, table, rows(x), reduce="sum"),
        "torch.Tensor.index_reduce": lambda x: torch.ones(4, 8).index_reduce(0, at, rows(x).detach(), "prod"),
        "torch.histc": lambda x: torch.histc(x.detach(), 4),
        "torch.bincount": lambda x: torch.bincount(at, weights=rows(x)[0][:4].detach()),
        "torch.kthvalue": lambda x: torch.kthvalue(rows(x), 2)[0],
        "torch.median": lambda x: rows(x).median(1)[0],
        "torch.Tensor.resize_": lambda x: torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.qint8).resize_(2),
        "torch.empty": lambda x: torch.empty(4),  # it is filled, in deterministic mode
        "torch.empty_like": lambda x: torch.empty_like(x.detach()),
        "torch.empty_strided": lambda x: torch.empty_strided((2, 2), (2, 1)),
        "torch.empty_permuted": lambda x: torch.empty_permuted((2, 2), (0, 1)),
    }


def digest(call, seed):
    """What one run gave, forward and backward; a RuntimeError's text."""
    import torch
    import torchskew_kit as kit

    torch.manual_seed(seed)
    x = torch.randn(256, requires_grad=True)
    try:
        result = call(x)
        data = kit.raw(result.detach().contiguous())
        if result.requires_grad:
            (result * result).sum().backward()
            data += kit.raw(x.grad.contiguous())
    except RuntimeError as error:
        return "raised: " + (str(error).strip().splitlines() or [""])[0][:200]
    return kit.digest(data)


def lacks(job):
    import torch

    del job
    return {} if hasattr(torch, "use_deterministic_algorithms") else {"*": "torch has no use_deterministic_algorithms"}


def rank(job):
    import warnings

    import torch

    warnings.simplefilter("ignore")
    said, known = statements(torch.use_deterministic_algorithms.__doc__ or ""), calls()
    torch.use_deterministic_algorithms(True)
    try:
        runs = {name: [digest(known[name], job.seed) for _ in range(2)] for name in said if name in known}
    finally:
        torch.use_deterministic_algorithms(False)
    return {"raises": said, "runs": runs}


def judge(reports, world):
    from torchskew.judging.oracle import summary
    from torchskew.planning.scenario import Opinion

    del world
    if reports[0] is None:
        return {}
    said, runs = reports[0]["raises"], reports[0]["runs"]
    if len(runs) < FEWEST:
        return {
            0: "only %d operators were found in the documentation and tried, %d are the fewest" % (len(runs), FEWEST)
        }
    problems = [text for name in runs for text in [broken(name, said[name], runs[name])] if text]
    if problems:
        return {0: summary(problems)}
    untried = sorted(set(said) - set(runs))
    note = "%d operators, %d of them raise as documented" % (len(runs), sum(said[name] for name in runs))
    return Opinion(note=note + ("; not tried: %s" % ", ".join(untried) if untried else ""))


def broken(name, raises, both):
    """What an operator did that its documentation does not say."""
    raised = [each.startswith("raised: ") for each in both]
    if raises:
        fine = all(raised) and all("determinis" in each for each in both)
        return None if fine else "%s has to raise, and did not: %s" % (name, both[0][:80])
    if any(raised):
        return "%s %s" % (name, both[raised.index(True)])
    return None if len(both) == 2 and both[0] == both[1] else "%s differs between two runs" % name
