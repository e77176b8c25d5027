"""An object that one Python and one NumPy pickled is read under another, as ranks and checkpoints do it.

Rank 0 writes objects with torch.save; the next rank reads them with weights_only=False where its torch has that. Each
variant is one kind: `path` (pathlib), `standard` (times, numbers, containers, exceptions, a pattern), `random`
(random.Random in the middle of its numbers), `own` (classes of this file), `numpy_array`, `numpy_state` (of
numpy.random), `numpy_generator`, and `numpy_protocol`: an array in pickle protocol 5. `dcp` puts a path into a
distributed checkpoint. `allowed` reads a path with weights_only=True, after add_safe_globals with the reader's own
class for it. Three are remedies: `text` writes a path as text, `path_alias` and `dcp_alias` give the reader the name
that Python 3.13 wrote, as sys.modules["pathlib._local"]. The oracle is the text of what rank 0 wrote, and the numbers
that its generators drew next.
"""

import collections
import enum

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("NumPy for `numpy_*`", "torch.distributed.checkpoint for `dcp`")
TIERS = ("full",)
VARIANTS = {
    "path": {}, "standard": {}, "random": {}, "own": {}, "numpy_array": {}, "numpy_state": {}, "numpy_generator": {},
    "numpy_protocol": {"params": {"protocol": 5}},
    "dcp": {}, "allowed": {}, "text": {}, "path_alias": {}, "dcp_alias": {},
}  # fmt: skip


class Mode(enum.Enum):
    """An enumeration of the user's own."""

    FAST = "fast"


class Flag(enum.IntFlag):
    """Flags of the user's own."""

    A = 1
    B = 2


class Broken(Exception):  # noqa: N818 - a name that a user could have chosen
    """An exception of the user's own."""


Best = collections.namedtuple("Best", "epoch loss")


def standard():
    """Objects of the standard library."""
    import argparse
    import datetime as dt
    import decimal
    import fractions
    import functools
    import re
    import types
    import uuid

    return [
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), dt.date(2026, 1, 2), dt.timedelta(seconds=90),
        decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=1), collections.deque([1], 3),
        collections.defaultdict(list, a=[1]), collections.OrderedDict(b=1), collections.Counter("aab"), range(3),
        frozenset([1]), types.SimpleNamespace(a=1), argparse.Namespace(rate=0.5), ValueError("no", 1),
        FileNotFoundError(2, "gone"), re.compile("a+"), functools.partial(int, base=2), slice(1, 2).indices(5), 1 << 90,
    ]  # fmt: skip


def path():
    import pathlib

    return [pathlib.Path("/data/run"), pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c:/d")]


def drawn():
    """A generator of Python in the middle of its numbers."""
    import random

    made = random.Random(7)
    made.random()
    return made


def arrays():
    import numpy as np

    pair = np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
    return [np.arange(3.0), np.float64(1.5), np.dtype("int16"), np.array(["a", "bc"]), pair, np.ma.array([1, 2])]


def numpy_state():
    import numpy as np

    made = np.random.RandomState(3)
    made.rand()
    return made.get_state()


def numpy_generator():
    import numpy as np

    return [np.random.default_rng(3), np.random.RandomState(3)]


MAKERS = {
    "path": path, "standard": standard, "random": drawn, "numpy_array": arrays, "numpy_state": numpy_state,
    "numpy_generator": numpy_generator, "path_alias": path, "allowed": lambda: path()[:1],
    "numpy_protocol": lambda: arrays()[:1],
    "text": lambda: [str(path()[0])],
    "own": lambda: [Best(3, 0.25), Broken("no", 2), Mode.FAST, Flag.A | Flag.B],
}  # fmt: skip


def text(value):
    """What a value holds, as text that every Python and NumPy writes alike; generators are drawn from."""
    if isinstance(value, (list, tuple)):
        held = [text(each) for each in value]
    elif hasattr(value, "uniform"):
        held = [float(value.uniform(0, 1)) for _ in range(3)]
    elif isinstance(value, dict):
        held = sorted(value.items())
    elif isinstance(value, BaseException):
        held = value.args
    elif isinstance(value, enum.Enum):
        held = value.value
    elif hasattr(value, "tolist"):
        held = [value.dtype.names or value.dtype.str, value.tolist()]
    else:
        held = getattr(value, "pattern", None) or value
    return "%s %s" % (type(value).__name__, held)


def lacks(job):
    import inspect
    import io
    import tempfile

    import torch
    from torchskew_kit import refusal

    found = {name: refusal(lambda make=make: torch.save(make(), io.BytesIO())) for name, make in MAKERS.items()}
    with tempfile.TemporaryDirectory() as folder:
        found["dcp"] = found["dcp_alias"] = refusal(lambda: through_checkpoint(job, folder))
    if not hasattr(torch.serialization, "add_safe_globals"):
        found["allowed"] = "torch.serialization has no add_safe_globals"
    if "weights_only" not in inspect.signature(torch.load).parameters:
        found["text"] = "torch.load has no weights_only"
    return {name: why for name, why in found.items() if why}


def rank(job):
    import torch

    job.need(job.variant)
    if job.rank > 0 and job.variant.endswith("_alias"):
        give_the_name()
    file = job.path("objects")
    if job.variant.startswith("dcp"):
        return through_checkpoint(job, file)
    if job.rank == 0:
        made = MAKERS[job.variant]()
        torch.save(made, file, pickle_protocol=job.params.get("protocol", 2))
        return {"cases": {"objects": text(made)}}
    return {"cases": {"objects": text(loaded(job.variant, file))}}


def give_the_name():
    """Let pickles of Python 3.13 find pathlib's classes."""
    import pathlib
    import sys

    sys.modules.setdefault("pathlib._local", pathlib)


def loaded(variant, file):
    """Read as a user does who trusts the file; `allowed` and `text` as one who does not."""
    import pathlib

    import torch

    if variant in ("allowed", "text"):
        if variant == "allowed":
            torch.serialization.add_safe_globals([pathlib.PosixPath])
        return torch.load(file, weights_only=True)
    try:
        return torch.load(file, weights_only=False)
    except TypeError as error:  # up to 1.12 it takes no weights_only
        if "weights_only" not in str(error):
            raise
        return torch.load(file)


def through_checkpoint(job, folder):
    import torch.distributed as dist

    # Without any group 2.2 can save but not load.
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    state = {"run": {"path": path() if job.rank == 0 else None}}
    from torch.distributed import checkpoint

    try:
        if job.rank == 0:
            checkpoint.save(state, storage_writer=checkpoint.FileSystemWriter(folder))
        else:
            checkpoint.load(state, storage_reader=checkpoint.FileSystemReader(folder))
    except BaseException as error:  # torch's CheckpointException is no Exception
        lines = str(error).strip().splitlines() or [""]
        raise RuntimeError("%s: %s\n%s" % (type(error).__name__, lines[-1], error)) from None
    return {"cases": {"objects": text(state["run"]["path"] or [])}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    first = reports[0]
    if first is None:
        return {}
    written = first["cases"]
    if not written.get("objects"):
        return {0: "rank 0 wrote nothing"}
    return compare([None, *reports[1:]], world, lambda rank: written)
