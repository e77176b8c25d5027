"""A tensor of any dtype or layout that the writer has is read by another release, bit for bit.

Each variant is one dtype or layout in a file of torch.save: the dtypes that came after 2.0, complex numbers, quantized
tensors, sparse and nested layouts, channels_last, and conjugated and negated views, which are written as a flag. A
writer that lacks it is UNSUPPORTED; a reader that lacks it fails, because the user has a file and not a choice. The
oracle is what rank 0 wrote: dtype, layout, shape, strides and the bytes of its parts. `torch_save` has the dtypes that
every release has.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
DTYPES = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
          "float8_e8m0fnu", "float4_e2m1fn_x2", "complex32", "complex64", "complex128", "bits8")  # fmt: skip
LAYOUTS = ("sparse_coo", "sparse_csr", "sparse_bsc", "qint8", "qint32_channel", "nested", "jagged", "channels_last",
           "conjugated", "negated")  # fmt: skip
VARIANTS = {name: {"params": {"name": name}} for name in DTYPES + LAYOUTS}


def made(name):
    """The tensor of one variant; AttributeError where this release has no such dtype or layout."""
    import torch

    if name in DTYPES:
        dtype = getattr(torch, name)
        return torch.arange(48, dtype=torch.uint8).view(dtype)
    rows = torch.arange(16.0).reshape(4, 4)
    return {
        "sparse_coo": lambda: torch.eye(3).to_sparse(),
        "sparse_csr": lambda: torch.eye(3).to_sparse_csr(),
        "sparse_bsc": lambda: torch.eye(4).to_sparse_bsc((2, 2)),
        "qint8": lambda: torch.quantize_per_tensor(rows, 0.5, 1, torch.qint8),
        "qint32_channel": lambda: torch.quantize_per_channel(
            rows, torch.tensor([0.5, 1.0, 2.0, 4.0]), torch.tensor([0, 1, 2, 3]), 0, torch.qint32
        ),
        "nested": lambda: torch.nested.nested_tensor([rows[:2], rows[:3]]),
        "jagged": lambda: torch.nested.nested_tensor([rows[:2], rows[:3]], layout=torch.jagged),
        "channels_last": lambda: torch.arange(16.0).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
        "conjugated": lambda: torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "negated": lambda: torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    }[name]()


def shown(tensor):
    """What the tensor is, and the bytes of its parts."""
    import torch

    cases = {"dtype": str(tensor.dtype), "layout": str(tensor.layout), "whole": parts(tensor)}
    if tensor.layout == torch.strided and not tensor.is_nested:
        cases.update(shape=list(tensor.shape), strides=list(tensor.stride()))
        cases.update(flags=[tensor.is_conj(), tensor.is_neg()])
    if tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine:
        cases["scale"] = [tensor.q_scale(), tensor.q_zero_point()]
    elif tensor.is_quantized:
        cases["scale"] = [tensor.q_per_channel_scales().tolist(), tensor.q_per_channel_zero_points().tolist()]
    return cases


def parts(tensor):
    """Digests of the tensors that hold the numbers."""
    import torch
    import torchskew_kit as kit

    if tensor.is_nested:
        pieces = list(tensor.unbind())
    elif tensor.layout == torch.sparse_coo:
        whole = tensor.coalesce()
        pieces = [whole.indices(), whole.values()]
    elif tensor.layout == torch.sparse_csr:
        pieces = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout == torch.sparse_bsc:
        pieces = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        pieces = [tensor.int_repr() if tensor.is_quantized else tensor]
    return [kit.digest(kit.raw(piece.resolve_conj().resolve_neg().contiguous())) for piece in pieces]


def rank(job):
    import torch

    path, name = job.path("tensor.pt"), job.params["name"]
    if job.rank > 0:
        return {"cases": shown(torch.load(path, weights_only=False))}
    try:
        tensor = made(name)
        cases = shown(tensor)
        torch.save(tensor, path)
    except Exception as error:
        job.unsupported("%s: %s" % (type(error).__name__, error))
    return {"cases": cases}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    first = reports[0]
    if first is None:
        return {}
    written = first.get("cases", {})
    if not written.get("whole") or "dtype" not in written:
        return {0: "rank 0 did not say what it wrote"}
    return compare([None, *reports[1:]], world, lambda rank: written)
