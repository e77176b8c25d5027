"""all_reduce gives every rank the exact result, for any mix of releases.

Every operation runs on every dtype, at sizes 0, 1 and 1025 (`small`) and over 8 MiB (`large`). The oracle needs no
torch: each tensor repeats a block of seven small integers that depends on rank and operation, so the expected bytes
are a packed block, repeated. Short results are reported as values, long ones as sha256 of their bytes. A bool is
compared by its truth value, because gloo adds bools as bytes. `fraction` is a sum that no rank can represent: at most
(world size - 1) / 2 units in the last place from the exact sum, and bitwise identical on all ranks, as the
documentation of all_reduce promises. Each version is asked in a world of one what it lacks, and that is left out on
every rank.
"""

import functools
import hashlib
import math
import struct

KIND = "group"
WORLD = (2, 32)
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("smoke", "critical", "full")
VARIANTS = {"small": {"params": {"large": False}}, "large": {"params": {"large": True}}}

OPS = ("SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "AVG")
# dtype -> format of struct, bits after the leading one; bfloat16 is the upper half of a float32
DTYPES = {"int32": ("i", 0), "int64": ("q", 0), "uint8": ("B", 0), "bool": ("B", 0), "float32": ("f", 23),
          "float64": ("d", 52), "float16": ("e", 10), "bfloat16": ("f", 7)}  # fmt: skip
SIZES = (0, 1, 1025)
LARGE = (("SUM", "float32", 2097155), ("MAX", "int64", 1048579))
BLOCK = range(7)
KEPT = []
LONG = 48  # bytes; longer results travel as digests


def cases(large):
    """All cases in the order in which every rank runs them, as (operation, dtype, size or "fraction")."""
    if large:
        return list(LARGE)
    found = [(op, dtype, size) for op in OPS for dtype in DTYPES for size in SIZES]
    return found + [("SUM", dtype, "fraction") for dtype, (_, bits) in DTYPES.items() if bits]


def block(op, dtype, rank, world):
    """What one rank contributes: seven values that stay exact in every dtype, up to 32 ranks."""
    if dtype == "bool":
        return [(i * 3 + rank * (1 + i % 2)) % 4 != 1 for i in BLOCK]
    if op == "SUM":
        return [(i + 2 * rank) % 3 + 1 for i in BLOCK]
    if op == "PRODUCT":
        return [{0: 3, 1: 2}.get((i + rank) % 7, 1) for i in BLOCK]
    if op == "AVG":
        return [i % 3 + 1 + (world if rank == 0 else 0) for i in BLOCK]
    if op in ("MIN", "MAX"):
        return [(i * 17 + rank * 31) % 241 - (0 if dtype == "uint8" else 120) for i in BLOCK]
    return [(i * 37 + rank * 11 + 5 & 0x7F) * {"int32": 0x01010101, "int64": 1 << 50 | 1}.get(dtype, 1) for i in BLOCK]


def fractions_of(dtype, rank):
    """Five values that the dtype holds exactly and whose sums it does not."""
    unit = 2.0 ** -DTYPES[dtype][1]
    return [1.0 + unit * (2 * i + 3 * rank + rank % 2) for i in range(5)]


def lacks(job):
    """Return the operations, dtypes and sizes that this version refuses, in its own words."""
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    asked = {}
    for op in OPS:
        for dtype in DTYPES:
            one = torch.ones(1).to(getattr(torch, dtype))
            asked[op, dtype] = kit.refusal(lambda: dist.all_reduce(one, op=getattr(dist.ReduceOp, op)))
    whole = [op for op in OPS if all(asked[op, dtype] for dtype in DTYPES)]
    if len(whole) == len(OPS):
        return {"*": asked["SUM", "float32"]}
    found = {op + "/*": asked[op, "float32"] for op in whole}
    found.update({"%s/%s/*" % key: why for key, why in asked.items() if why and key[0] not in whole})
    nothing = refuses_nothing(dist, torch.zeros(0))
    return dict(found, **{"*/0": nothing}) if nothing else found


def refuses_nothing(dist, empty):
    """Why this version can't reduce an empty tensor; only a world of two reaches the check.

    Both members live in this process. Their groups are kept until it ends: the destructor of old ones deadlocks.
    """
    import datetime as dt
    import threading

    import torchskew_kit as kit

    store, limit, refusals = dist.HashStore(), dt.timedelta(seconds=5), {}

    def member(rank):
        group = dist.ProcessGroupGloo(store, rank, 2, limit)
        KEPT.append(group)
        refusals[rank] = kit.refusal(lambda: group.allreduce([empty]).wait())

    members = [threading.Thread(target=member, args=(rank,)) for rank in range(2)]
    for one in members:
        one.start()
    for one in members:
        one.join()
    return refusals.get(0) or refusals.get(1)


def rank(job):
    import torch
    import torch.distributed as dist
    import torchskew_kit as kit

    job.rendezvous()
    results = {}
    for op, dtype, size in cases(job.params["large"]):
        name = "%s/%s/%s" % (op, dtype, size)
        if job.skipped(name):
            continue
        if size == "fraction":
            tensor = torch.tensor(fractions_of(dtype, job.rank), dtype=getattr(torch, dtype))
        else:
            tensor = kit.patterned(block(op, dtype, job.rank, job.world_size), size, dtype)
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op))
        results[name] = shown(kit.raw(tensor), dtype)
    return {"cases": results}


def shown(data, dtype):
    """Bytes of a tensor as what travels: hexadecimal when short, else their digest."""
    if dtype == "bool":
        data = data.translate(bytes([0]) + bytes([1]) * 255)
    return data.hex() if len(data) <= LONG else hashlib.sha256(data).hexdigest()


def pack(dtype, values):
    """The bytes of exact values."""
    form = "=%d%s" % (len(values), DTYPES[dtype][0])
    data = struct.pack(form, *values)
    return b"".join(data[i + 2 : i + 4] for i in range(0, len(data), 4)) if dtype == "bfloat16" else data


def unpack(dtype, data):
    """The values of bytes."""
    if dtype == "bfloat16":
        data = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
    form = DTYPES[dtype][0]
    return struct.unpack("=%d%s" % (len(data) // struct.calcsize(form), form), data)


def fold(op, dtype, values):
    """The exact result of one element over all ranks; integers wrap as the dtype does."""
    if dtype == "bool":
        op = {"SUM": "MAX", "PRODUCT": "MIN", "AVG": "MAX"}.get(op, op)
    exact = {
        "SUM": sum, "PRODUCT": math.prod, "MIN": min, "MAX": max, "AVG": lambda all_: sum(all_) // len(all_),
        "BAND": lambda all_: functools.reduce(lambda a, b: a & b, all_),
        "BOR": lambda all_: functools.reduce(lambda a, b: a | b, all_),
        "BXOR": lambda all_: functools.reduce(lambda a, b: a ^ b, all_),
    }[op](values)  # fmt: skip
    return exact & 0xFF if dtype == "uint8" else exact


def say(dtype, text):
    """A short result as numbers, a long one as its digest."""
    if len(text) == 64:  # of five or fewer elements, none has 32 bytes
        return "sha256 " + text[:12]
    return str(list(unpack(dtype, bytes.fromhex(text))))


@functools.lru_cache(maxsize=4096)
def expected(op, dtype, size, world):
    """What every rank must show."""
    columns = zip(*(block(op, dtype, rank, world) for rank in range(world)))
    whole = [fold(op, dtype, column) for column in columns]
    data = pack(dtype, whole)
    width = len(data) // len(whole)
    return shown((data * (size // len(whole) + 1))[: size * width], dtype)


def off_by(dtype, text, world):
    """Why a fraction's sum is outside the bound, or None."""
    from fractions import Fraction

    got = unpack(dtype, bytes.fromhex(text))
    exact = [sum(map(Fraction, column)) for column in zip(*(fractions_of(dtype, rank) for rank in range(world)))]
    for index, (value, right) in enumerate(zip(got, exact)):
        unit = Fraction(2) ** (math.frexp(float(right))[1] - 1 - DTYPES[dtype][1])
        error = abs(Fraction(value) - right) / unit
        if error > Fraction(world - 1, 2):
            far = "%.2f units from the exact sum, %.1f allowed" % (error, (world - 1) / 2)
            return "element %d is %s, %s" % (index, value, far)
    return None if len(got) == len(exact) else "%d elements instead of %d" % (len(got), len(exact))


def judge(reports, world):
    from torchskew.judging import oracle

    wanted = {"%s/%s/%s" % case: case for case in cases(world.params["large"])}
    wanted = {name: case for name, case in wanted.items() if not oracle.skipped(name, world.skip)}
    shares = [report["cases"] for report in reports if report is not None]
    problems = {
        rank: compare(report["cases"], wanted, world.size, shares) if wanted else ["every case was left out"]
        for rank, report in enumerate(reports)
        if report is not None
    }
    return {rank: oracle.summary(found) for rank, found in problems.items() if found}


def compare(got, wanted, size, shares):
    """What differs in one rank's report: too few cases, too many, wrong values."""
    problems = ["%s is missing" % name for name in wanted if name not in got]
    problems += ["%s was not asked for" % name for name in got if name not in wanted]
    for name, (op, dtype, length) in wanted.items():
        if name not in got:
            continue
        if length != "fraction":
            right = expected(op, dtype, length, size)
            if got[name] != right:
                problems.append("%s is %s, right is %s" % (name, say(dtype, got[name]), say(dtype, right)))
            continue
        why = off_by(dtype, got[name], size)
        if why is None and len({share.get(name) for share in shares}) > 1:
            why = "differs between the ranks"
        if why:
            problems.append("%s: %s" % (name, why))
    return problems
