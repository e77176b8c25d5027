"""A checkpoint written by torch.save in one release is read by another, bit for bit, in both orders.

Rank 0 saves a dictionary: tensors of every common dtype, a view, two names for one storage, an empty tensor, a
model's state and plain values; once as a zip archive (the default since 1.6) and once in the old format. Rank 1
starts when rank 0 has ended and loads both, and the archive once more with weights_only where its release has that.
Oracle: the bytes that the writer had to write, packed without torch; the model loads its state strictly.
"""

import hashlib
import struct

KIND = "handover"
WORLD = (2, 2)
TIERS = ("smoke", "critical", "full")
PATIENCE = 30.0  # seconds; work, not waiting, takes the time here

# dtype -> format of struct; bfloat16 is the upper half of a float32
DTYPES = {"float64": "d", "float32": "f", "float16": "e", "bfloat16": "f", "int64": "q", "int32": "i", "int16": "h",
          "int8": "b", "uint8": "B", "bool": "?"}  # fmt: skip
COUNT = 24
PLAIN = {"step": 41, "name": "caf\u00e9", "rates": [0.1, 0.01], "nested": {"none": None, "yes": True}}
FORMATS = ("zip", "legacy", "weights_only")


def lacks(job):
    """Return what this version can't do: weights_only came with 1.13, and read no plain number with a point then."""
    import inspect
    import io

    import torch

    del job
    if "weights_only" not in inspect.signature(torch.load).parameters:
        return {"weights_only/*": "torch.load has no weights_only"}
    file = io.BytesIO()
    torch.save(PLAIN, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception as error:
        return {"weights_only/*": "%s: %s" % (type(error).__name__, str(error)[-200:])}
    return {}


def rank(job):
    import os

    import torch

    os.makedirs(job.share, exist_ok=True)
    paths = {form: os.path.join(job.share, form + ".pt") for form in ("zip", "legacy")}
    if job.rank == 0:
        content = checkpoint(torch)
        torch.save(content, paths["zip"])
        torch.save(content, paths["legacy"], _use_new_zipfile_serialization=False)
        return {"written": sorted(os.listdir(job.share))}
    found = {}
    for form in FORMATS:
        if not job.skipped(form + "/x"):
            path = paths["legacy" if form == "legacy" else "zip"]
            found.update({form + "/" + name: value for name, value in read(torch, path, form).items()})
    return {"cases": found}


def checkpoint(torch):
    """What is saved; the values follow from their positions alone."""
    whole = torch.arange(COUNT, dtype=torch.float32)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel(), dtype=torch.float32).reshape(parameter.shape))
    return {
        "dtypes": {name: torch.arange(COUNT).remainder(2 if name == "bool" else 100).to(getattr(torch, name))
                   for name in DTYPES},
        "view": whole.reshape(4, 6)[1:3, ::2],
        "shared": [whole, whole[:3]],
        "empty": torch.empty(0, 5),
        "model": model.state_dict(),
        "plain": PLAIN,
    }  # fmt: skip


def read(torch, path, form):
    """Load a file and say what it held; whether it comes whole with weights_only depends on the reader's default."""
    import inspect

    knows = "weights_only" in inspect.signature(torch.load).parameters
    content = torch.load(path, **({"weights_only": form == "weights_only"} if knows else {}))
    found = {"dtype/" + name: shown(content["dtypes"][name]) for name in DTYPES}
    found["view"] = shown(content["view"])
    found["empty"] = list(content["empty"].shape)
    first, part = content["shared"]
    part.fill_(9.0)
    found["shared"] = float(first[0])
    found["plain"] = content["plain"]
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    model.load_state_dict(content["model"], strict=True)
    found["model"] = [shown(value) for value in model.parameters()]
    return found


def shown(tensor):
    """The sha256 of a tensor's bytes in row order."""
    import torchskew_kit as kit

    return kit.digest(kit.raw(tensor.contiguous()))


def packed(dtype):
    """The sha256 of the bytes that a tensor of this dtype must hold."""
    values = [number % (2 if dtype == "bool" else 100) for number in range(COUNT)]
    data = struct.pack("=%d%s" % (COUNT, DTYPES[dtype]), *values)
    if dtype == "bfloat16":
        data = b"".join(data[place + 2 : place + 4] for place in range(0, len(data), 4))
    return hashlib.sha256(data).hexdigest()


def counted(size):
    """The sha256 of float32 numbers that count from 0."""
    return hashlib.sha256(struct.pack("=%df" % size, *range(size))).hexdigest()


def expected():
    """What every format must give the reader."""
    view = struct.pack("=6f", *(row * 6 + column for row in (1, 2) for column in (0, 2, 4)))
    right = {"dtype/" + name: packed(name) for name in DTYPES}
    right.update(view=hashlib.sha256(view).hexdigest(), empty=[0, 5], shared=9.0, plain=PLAIN)
    right["model"] = [counted(size) for size in (12, 4, 4, 4)]
    return right


def judge(reports, world):
    from fnmatch import fnmatchcase

    wrong = {}
    if reports[0] is not None and reports[0] != {"written": ["legacy.pt", "zip.pt"]}:
        wrong[0] = "wrote %r" % (reports[0].get("written"),)
    forms = [form for form in FORMATS if not any(fnmatchcase(form + "/x", pattern) for pattern in world.skip)]
    wanted = {form + "/" + name: value for form in forms for name, value in expected().items()}
    for number, report in list(enumerate(reports))[1:]:
        got = report.get("cases", {}) if report is not None else wanted
        bad = [
            "%s is %r, right is %r" % (n, got.get(n), wanted.get(n))
            for n in {**wanted, **got}
            if got.get(n) != wanted.get(n)
        ]
        if bad:
            wrong[number] = "; ".join(bad[:4]) + (" and %d more" % (len(bad) - 4) if len(bad) > 4 else "")
    return wrong
