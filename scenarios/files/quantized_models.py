"""A model that one release quantized gives the same answers in another, or the load names the key that it lacks.

Rank 0 quantizes a small model, saves its state dict with torch.save, and answers; the next rank makes the same
quantized modules, loads, and answers. `dynamic` and `static` load the state dict as it is; `dynamic_plain` and
`static_plain` load dict(state_dict), as code does that copies or filters keys: it loses the `_metadata` that says how
the packed weights were written. Oracle: rank 0's outputs, to 2 % of the largest, since each release quantizes the input
of a dynamic layer by itself; the difference is in the cell's reason. A plain dict may instead be refused by an error
that names a key.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("torch.ao.quantization", "a quantized engine")
TIERS = ("full",)
PATIENCE = 60.0
WARM = ("torch.ao.quantization",)
VARIANTS = {
    "dynamic": {"params": {"static": False, "plain": False}},
    "dynamic_plain": {"params": {"static": False, "plain": True}},
    "static": {"params": {"static": True, "plain": False}},
    "static_plain": {"params": {"static": True, "plain": True}},
}
BOUND = 0.02  # of the largest answer; kernels round the quantized input differently


def engines():
    """torch, its quantization module, and the engine fbgemm or what there is."""
    import torch

    try:
        from torch.ao import quantization
    except ImportError:
        from torch import quantization
    usable = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    torch.backends.quantized.engine = "fbgemm" if "fbgemm" in usable else usable[-1]
    return torch, quantization


def data(torch):
    return (torch.arange(64.0).reshape(4, 16) % 7 - 3) / 2


def quantized(static):
    """A small quantized model; the same weights in every release."""
    torch, quantization = engines()
    layers = [torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)]
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            count = layer.weight.numel()
            layer.weight.copy_(((torch.arange(float(count)) * 5) % 11 - 5).reshape(layer.weight.shape) / 20)
            layer.bias.zero_()
    if not static:
        return quantization.quantize_dynamic(torch.nn.Sequential(*layers), {torch.nn.Linear}, dtype=torch.qint8)
    model = torch.nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(model)
    prepared(data(torch))
    return quantization.convert(prepared)


def lacks(job):
    from torchskew_kit import refusal

    why = refusal(lambda: quantized(False))
    return {"*": why} if why else {}


def rank(job):
    import warnings

    warnings.simplefilter("ignore")
    torch, _ = engines()
    model, path = quantized(job.params["static"]), job.path("state.pt")
    if job.rank == 0:
        torch.save(model.state_dict(), path)
        return {"answers": model(data(torch)).flatten().tolist()}
    try:
        state = torch.load(path, weights_only=False)
    except TypeError:  # 1.12 and older have no such argument
        state = torch.load(path)
    # Other weights first, so that a load that does nothing is seen.
    with torch.no_grad():
        for each in model.modules():
            if hasattr(each, "set_weight_bias") and hasattr(each, "weight") and callable(each.weight):
                weight = each.weight()
                zero = torch.quantize_per_tensor(torch.zeros(weight.shape), 1.0, 0, torch.qint8)
                each.set_weight_bias(zero, None)
    try:
        model.load_state_dict(dict(state) if job.params["plain"] else state)
    except Exception as error:
        return {"refused": "%s: %s" % (type(error).__name__, str(error)[:500])}
    return {"answers": model(data(torch)).flatten().tolist()}


def judge(reports, world):
    from torchskew.planning.scenario import Opinion

    if None in reports:
        return {}
    first, second = reports
    if "refused" in second:
        names = any(word in second["refused"] for word in ("weight", "scale", "bias", "_packed_params"))
        if world.params["plain"] and names:
            return Opinion(note="a plain dict is refused by name: %s" % second["refused"][:150])
        return {1: "it refused the state dict: %s" % second["refused"][:300]}
    if len(first["answers"]) != 16 or len(second["answers"]) != 16 or not any(first["answers"]):
        return {0: "it gave %s" % first["answers"]}
    largest = max(map(abs, first["answers"]))
    off = max(abs(a - b) for a, b in zip(first["answers"], second["answers"])) / largest
    if not off <= BOUND:
        return {1: "its answers are off by %.2g of the largest, %.2g is allowed" % (off, BOUND)}
    return Opinion(note="the answers differ by %.2g of the largest" % off)
