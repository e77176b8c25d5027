"""torch.ao.quantization prepares, calibrates and converts what it says, and refuses what it can't.

Each variant is one real call on a small model. Observers appear and modules are swapped (`static`, `qat`, `nested`),
the original stays untouched unless `inplace` is asked for, `run_fn` gets its arguments, a `mapping` of one's own is
followed. Oracle: the float model, whose outputs are met within 5 % of the largest of them. A calibrated model can
express no output beyond the range that its observer chose, so there the float outputs end at that range, which must be
half of theirs; and its kernels must give what its own scales and weights give in float arithmetic, within 2 %. A model
that is none, a `run_fn` that is None and a dtype that is none raise an error with a text. The sizes of the saved
weights are reported, and the quantized ones are less than half. A release without the module is UNSUPPORTED: its
removal is announced since 2.8.
"""

KIND = "solo"
WORLD = (1, 1)
NEEDS = ("torch.ao.quantization", "a quantized engine")
TIERS = ("full",)
PATIENCE = 60.0
WARM = ("torch.ao.quantization",)

BOUND = 0.05
KERNELS = 0.02
CALIBRATED = ("static", "qat", "run_fn")
# What each case must report besides outputs within the bound.
RIGHT = {
    "dynamic": {"swapped": 2, "original": 0},
    "inplace": {"swapped": 2, "original": 2},
    "nested": {"swapped": 2, "original": 0},
    "static": {"observed": True, "swapped": 2, "original": 0},
    "qat": {"observed": True, "swapped": 2, "original": 0},
    "run_fn": {"arguments": [3, "x"], "swapped": 2, "original": 0},
    "mapping": {"swapped": 0, "own": 2},
}
REFUSED = ("not_a_module", "run_fn_none", "dtype_none")
VARIANTS = {name: {"params": {"case": name}} for name in (*RIGHT, *REFUSED, "size")}


def model(torch, quantization, width=8, stubs=False, nested=False):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(16, width), torch.nn.ReLU(), torch.nn.Linear(width, 4)]
    if nested:
        layers = [torch.nn.Sequential(layers[0], torch.nn.Sequential(layers[1])), layers[2]]
    if stubs:
        layers = [quantization.QuantStub(), *layers, quantization.DeQuantStub()]
    return torch.nn.Sequential(*layers)


def inputs(torch):
    torch.manual_seed(1)
    return torch.randn(32, 16)


def swapped(found):
    """How many modules are of the quantized package."""
    return sum("quantized" in type(each).__module__ and type(each).__name__ == "Linear" for each in found.modules())


def observed(found):
    """Whether observers or fake quantizers are in a model."""
    return any(("Observer" in type(each).__name__) or ("FakeQuant" in type(each).__name__) for each in found.modules())


def off(torch, before, after):
    """The largest difference of the outputs, as a share of the largest float output."""
    data = inputs(torch)
    with torch.no_grad():
        right = before(data)
        return float((after(data) - right).abs().max() / right.abs().max())


def met(torch, before, after):
    """The same for a calibrated model, within the range of its last layer; and how it meets its own scales."""
    data, (stub, first, last) = inputs(torch), (after[0], after[1], after[3])

    def rounded(values, scale, zero):
        return (torch.clamp(torch.round(values / scale) + zero, 0, 255) - zero) * scale

    def layer(values, found):
        return rounded(values @ found.weight().dequantize().t() + found.bias(), found.scale, found.zero_point)

    with torch.no_grad():
        right, got = before(data), after(data)
        hidden = layer(rounded(data, float(stub.scale), int(stub.zero_point)), first).clamp(min=0)
        exact = layer(hidden, last)
    low, high = -last.zero_point * last.scale, (255 - last.zero_point) * last.scale
    smallest, largest, most = float(right.min()), float(right.max()), float(right.abs().max())
    return {
        "off": float((got - right.clamp(low, high)).abs().max()) / most,
        "kernels": float((got - exact).abs().max()) / most,
        "range": (min(high, largest) - max(low, smallest)) / (largest - smallest),
        "engine": str(torch.backends.quantized.engine),
    }


def dynamic(torch, quantization, inplace=False, nested=False):
    import copy

    original = model(torch, quantization, nested=nested)
    right = copy.deepcopy(original)
    made = quantization.quantize_dynamic(original, {torch.nn.Linear}, dtype=torch.qint8, inplace=inplace)
    return {"swapped": swapped(made), "original": swapped(original), "off": off(torch, right, made)}


def calibrated(torch, quantization, qat=False):
    """prepare, data, convert; or the same with fake quantizers for training."""
    original = model(torch, quantization, stubs=True)
    engine = torch.backends.quantized.engine
    if qat:
        original.qconfig = quantization.get_default_qat_qconfig(engine)
        prepared = quantization.prepare_qat(original.train(), inplace=False)
        prepared(inputs(torch)).sum().backward()
    else:
        original.qconfig = quantization.get_default_qconfig(engine)
        prepared = quantization.prepare(original.eval(), inplace=False)
        prepared(inputs(torch))
    seen = observed(prepared)
    made = quantization.convert(prepared.eval(), inplace=False)
    report = {"observed": seen and not observed(made), "swapped": swapped(made), "original": swapped(original)}
    return dict(report, **met(torch, original.eval(), made))


def with_run_fn(torch, quantization):
    got = []

    def run(found, *arguments):
        got.extend(arguments)
        found(inputs(torch))

    original = model(torch, quantization, stubs=True).eval()
    original.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    made = quantization.quantize(original, run, (3, "x"))
    report = {"arguments": got, "swapped": swapped(made), "original": swapped(original)}
    return dict(report, **met(torch, original, made))


def with_mapping(torch, quantization):
    class Own(torch.nn.Linear):
        @classmethod
        def from_float(cls, layer, *_, **__):
            made = cls(layer.in_features, layer.out_features)
            made.load_state_dict({"weight": layer.weight, "bias": layer.bias})
            return made

    original = model(torch, quantization).eval()
    made = quantization.quantize_dynamic(original, {torch.nn.Linear}, mapping={torch.nn.Linear: Own}, inplace=False)
    own = sum(isinstance(each, Own) for each in made.modules())
    return {"swapped": swapped(made), "own": own, "off": off(torch, original, made)}


def sizes(torch, quantization):
    import io

    def size(found):
        file = io.BytesIO()
        torch.save(found.state_dict(), file)
        return file.tell()

    original = model(torch, quantization, width=512)
    made = quantization.quantize_dynamic(original, {torch.nn.Linear}, dtype=torch.qint8)
    return {"float": size(original), "quantized": size(made)}


def refused(call):
    try:
        call()
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, str(error)[:300])}
    return {"error": None}


def engines():
    """torch, its quantization module, and an engine that is chosen."""
    import torch

    try:
        from torch.ao import quantization
    except ImportError:
        from torch import quantization
    usable = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if torch.backends.quantized.engine not in usable:
        torch.backends.quantized.engine = usable[-1]
    return torch, quantization


def lacks(job):
    from torchskew_kit import refusal

    def tried():
        torch, quantization = engines()
        quantization.quantize_dynamic(model(torch, quantization), {torch.nn.Linear})

    why = refusal(tried)
    return {"*": why} if why else {}


def rank(job):
    import warnings

    warnings.simplefilter("ignore")
    torch, q = engines()
    return {
        "dynamic": lambda: dynamic(torch, q),
        "inplace": lambda: dynamic(torch, q, inplace=True),
        "nested": lambda: dynamic(torch, q, nested=True),
        "static": lambda: calibrated(torch, q),
        "qat": lambda: calibrated(torch, q, qat=True),
        "run_fn": lambda: with_run_fn(torch, q),
        "mapping": lambda: with_mapping(torch, q),
        "size": lambda: sizes(torch, q),
        "not_a_module": lambda: refused(lambda: q.quantize_dynamic("a text", {torch.nn.Linear})),
        "run_fn_none": lambda: refused(lambda: q.quantize(model(torch, q), None, ())),
        "dtype_none": lambda: refused(lambda: q.quantize_dynamic(model(torch, q), dtype="a text")),
    }[job.variant]()


def judge(reports, world):
    report, case = reports[0], world.params["case"]
    if report is None:
        return {}
    if case in REFUSED:
        told = report.get("error") or ""
        return {} if len(told) > len("TypeError: ") else {0: "it raised %s" % (told or "nothing")}
    if case == "size":
        small = report["quantized"] < report["float"] / 2
        return {} if small else {0: "%(quantized)d bytes quantized, %(float)d in float" % report}
    right = RIGHT[case]
    problems = ["%s is %s, right is %s" % (n, report.get(n), right[n]) for n in right if report.get(n) != right[n]]
    if not report.get("off", 1.0) <= BOUND:
        problems.append("its outputs are off by %.2g, %s is allowed" % (report.get("off", 1.0), BOUND))
    if case in CALIBRATED and not report.get("kernels", 1.0) <= KERNELS:
        text = "the kernels of the engine %s are off by %.2g from what the model's own scales give, %s is allowed"
        problems.append(text % (report.get("engine"), report.get("kernels", 1.0), KERNELS))
    if case in CALIBRATED and not report.get("range", 0.0) >= 0.5:
        problems.append("it can express %.2g of the range of the outputs" % report.get("range", 0.0))
    return {0: "; ".join(problems)} if problems else {}
