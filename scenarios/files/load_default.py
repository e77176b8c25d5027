"""A file of torch.save is read by torch.load(path), without arguments, whatever it holds.

Since 2.6 torch.load without arguments reads only what a list of allowed classes names. Each variant writes one kind of
content that people put into checkpoints. `state` is what the list names: tensors of several layouts, state dicts of a
module, an optimizer, schedulers and a scaler, generator states of torch and of Python, plain containers. The others
are objects: arguments, paths, times, NumPy's arrays and generator state, containers of the standard library, own
classes, whole modules, the state of OneCycleLR (early releases put a method into it) and a nested tensor. `trusted`
and `allowed` are the remedies: all of these but the nested tensor with weights_only=False, and the arguments, the path
and own classes after torch.serialization.add_safe_globals; `nested_trusted` is the nested tensor with
weights_only=False. The oracle is the text of what rank 0 wrote. A refusal names each content.
"""

import collections
import enum
import io

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("NumPy for `numpy_state`, `numpy_array` and `trusted`",)
TIERS = ("critical", "full")
WARM = ("torch.optim.lr_scheduler", "torch._dynamo")
CONTENTS = {
    "state": ["tensor", "parameter", "sparse", "csr", "quantized", "types", "model", "adam", "step_lr", "plateau",
              "scaler", "torch_state", "python_state", "ordered", "counter", "set", "bytes", "complex"],
    "namespace": ["namespace"],
    "path": ["path"],
    "time": ["datetime", "timedelta"],
    "numpy_state": ["numpy_state"],
    "numpy_array": ["array", "scalar"],
    "library": ["deque", "defaultdict", "frozenset", "range", "decimal", "uuid", "simple"],
    "own": ["settings", "enum", "named_tuple"],
    "module": ["module", "parameter_list", "optimizer"],
    "one_cycle": ["one_cycle"],
}  # fmt: skip
CONTENTS["trusted"] = [each for kind in CONTENTS for each in CONTENTS[kind]]
CONTENTS["nested"] = CONTENTS["nested_trusted"] = ["nested"]
CONTENTS["allowed"] = ["namespace", "path", "settings", "enum", "named_tuple"]
VARIANTS = {kind: {"params": {"contents": names}} for kind, names in CONTENTS.items()}


class Settings:
    """A class of the user's own."""

    def __init__(self, rate=0.5):
        self.rate = rate

    def __str__(self):
        return "Settings(%s)" % self.rate


class Mode(enum.Enum):
    """An enumeration of the user's own."""

    FAST = 1


Best = collections.namedtuple("Best", "epoch loss")


def library():
    """Objects of the standard library and of this file, by name."""
    import argparse
    import datetime as dt
    import decimal
    import pathlib
    import types
    import uuid

    return {
        "namespace": lambda: argparse.Namespace(rate=0.5, name="a run"),
        "path": lambda: pathlib.Path("/data/run"),
        "datetime": lambda: dt.datetime(2026, 1, 2, 3, 4, 5),
        "timedelta": lambda: dt.timedelta(seconds=90),
        "deque": lambda: collections.deque([1, 2], maxlen=3),
        "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
        "frozenset": lambda: frozenset([1]),
        "range": lambda: range(3),
        "decimal": lambda: decimal.Decimal("1.5"),
        "uuid": lambda: uuid.UUID(int=1),
        "simple": lambda: types.SimpleNamespace(a=1),
        "settings": Settings,
        "enum": lambda: Mode.FAST,
        "named_tuple": lambda: Best(3, 0.25),
        "ordered": lambda: collections.OrderedDict(b=1, a=2),
        "counter": lambda: collections.Counter("aab"),
        "set": lambda: {1},
        "bytes": lambda: b"ab",
        "complex": lambda: 2j,
    }


def tensors():
    """Tensors and what describes them, by name."""
    import torch

    return {
        "tensor": lambda: torch.arange(4.0),
        "parameter": lambda: torch.nn.Parameter(torch.arange(2.0)),
        "sparse": lambda: torch.eye(2).to_sparse(),
        "csr": lambda: torch.eye(2).to_sparse_csr(),
        "quantized": lambda: torch.quantize_per_tensor(torch.arange(3.0), 0.5, 1, torch.qint8),
        "nested": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        "types": lambda: [torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.strided],
        "torch_state": torch.get_rng_state,
    }


def training():
    """The state of a layer in training, by name; and the objects themselves."""
    import torch

    schedulers = torch.optim.lr_scheduler

    def sgd():
        return torch.optim.SGD(model().parameters(), lr=0.5, momentum=0.5)

    def scaler():
        return torch.amp.GradScaler("cpu") if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler()

    return {
        "model": lambda: model().state_dict(),
        "adam": lambda: torch.optim.Adam(model().parameters(), lr=0.5).state_dict(),
        "step_lr": lambda: schedulers.StepLR(sgd(), 2).state_dict(),
        "plateau": lambda: schedulers.ReduceLROnPlateau(sgd()).state_dict(),
        "one_cycle": lambda: schedulers.OneCycleLR(sgd(), 0.5, total_steps=9).state_dict(),
        "scaler": lambda: scaler().state_dict(),
        "module": model,
        "parameter_list": lambda: torch.nn.ParameterList([torch.nn.Parameter(torch.ones(1))]),
        "optimizer": sgd,
    }


def model():
    """A layer whose weights are known."""
    import torch

    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(0.5)
    return layer


def generators():
    """Generator states and arrays outside torch, by name."""
    import importlib
    import random

    return {
        "python_state": random.getstate,
        "numpy_state": lambda: importlib.import_module("numpy.random").get_state(),
        "array": lambda: importlib.import_module("numpy").arange(3.0),
        "scalar": lambda: importlib.import_module("numpy").float64(1.5),
    }


def text(value):
    """What a value holds, as text that two releases and two NumPys write alike."""
    import torch

    if isinstance(value, torch.Tensor):
        whole = value.dequantize() if value.is_quantized else value
        parts = whole.unbind() if whole.is_nested else [whole.to_dense() if whole.layout != torch.strided else whole]
        held = str([part.tolist() for part in parts])
    elif isinstance(value, torch.nn.Module):
        held = text(dict(value.state_dict()))
    elif isinstance(value, torch.optim.Optimizer):
        held = str([group["lr"] for group in value.param_groups])
    elif type(value).__module__ == "numpy":
        held = str(value.tolist())
    elif type(value).__name__ in ("dict", "OrderedDict"):
        held = ", ".join("%s: %s" % (key, text(inner)) for key, inner in value.items() if key[:1] != "_")
    elif type(value) in (list, tuple):
        held = ", ".join(map(text, value))
    else:
        held = value.__name__ if callable(value) else str(value)
    return "%s %s" % (type(value).__name__, held)


def lacks(job):
    import torch
    from torchskew_kit import refusal

    del job
    made = {**library(), **tensors(), **training(), **generators()}
    # Written, too: 2.1 makes nested tensors and can't write them.
    why = {name: refusal(lambda make=make: torch.save(make(), io.BytesIO())) for name, make in made.items()}
    kinds = {kind: next((why[name] for name in names if why[name]), None) for kind, names in CONTENTS.items()}
    return {kind: reason for kind, reason in kinds.items() if reason}


def rank(job):
    import torch

    job.need(job.variant)
    names = job.params["contents"]
    if job.rank > 0:
        return {"cases": read(job, names)}
    made = {**library(), **tensors(), **training(), **generators()}
    cases = {}
    for name in names:
        value = made[name]()
        torch.save({"content": value}, job.path(name + ".pt"))
        cases[name] = digest(value)
    return {"cases": cases}


def read(job, names):
    """Load every file; a refusal of any is an error that names them all."""
    options = {"weights_only": False} if job.variant in ("trusted", "nested_trusted") else {}
    if job.variant == "allowed":
        allow(job)
    answers = {name: loaded(job.path(name + ".pt"), options) for name in names}
    refused = {name: error for name, (_, error) in answers.items() if error}
    if refused:
        raise RuntimeError("torch.load refused %s\n%s" % (", ".join(refused), "\n".join(refused.values())))
    return {name: digest(value) for name, (value, _) in answers.items()}


def loaded(path, options):
    """What a file holds, and the error that came instead of it."""
    import torch

    try:
        return torch.load(path, **options)["content"], None
    except Exception as error:
        return None, "%s: %s" % (type(error).__name__, error)


def digest(value):
    """The text, or its digest where it is long."""
    import torchskew_kit as kit

    shown = text(value)
    return shown if len(shown) < 200 else kit.digest(shown.encode())


def allow(job):
    """Allow the classes of the variant `allowed`, as the refusal's text says; it came with 2.4."""
    import argparse
    import pathlib

    import torch

    if not hasattr(torch.serialization, "add_safe_globals"):
        job.unsupported("torch.serialization has no add_safe_globals")
    torch.serialization.add_safe_globals([argparse.Namespace, pathlib.PosixPath, Settings, Mode, Best])


def judge(reports, world):
    from torchskew.judging.oracle import compare

    first = reports[0]
    if first is None:
        return {}
    written = first.get("cases", {})
    if list(written) != world.params["contents"] or not all(written.values()):
        return {0: "rank 0 wrote %s" % (", ".join(written) or "nothing")}
    return compare([None, *reports[1:]], world, lambda rank: written)
