"""A dynamically quantized linear layer stays within the error of eight bits.

Since 2.8, torch.ao.quantization announces its removal, so each version is asked whether it still has it. One layer of
16 x 4 is quantized and applied to 8 rows. The oracle is the product in Python's floats. Each output may differ by the
sum, over its 16 products, of half a step of the weight times the input, half a step of the input times the weight,
and the product of both half steps. x86 uses 127 steps for the input, so its step is twice as large. Warnings are
reported and not judged.
"""

KIND = "solo"
WORLD = (1, 1)
NEEDS = ("torch.ao.quantization", "a quantized engine")
TIERS = ("full",)
PATIENCE = 30.0

INPUTS, OUTPUTS, ROWS = 16, 4, 8


def weights():
    return [[((7 * o + 3 * k) % 13 - 6) / 8 for k in range(INPUTS)] for o in range(OUTPUTS)]


def rows():
    return [[((5 * r + 11 * k) % 17 - 8) / 4 for k in range(INPUTS)] for r in range(ROWS)]


def quantized():
    """The outputs of the quantized layer."""
    import torch

    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError:
        from torch.quantization import quantize_dynamic
    layer = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS, bias=False))
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor(weights()))
    small = quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    return small(torch.tensor(rows())).tolist()


def lacks(job):
    from torchskew_kit import refusal

    why = refusal(quantized)
    return {"*": why} if why else {}


def rank(job):
    import warnings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        outputs = quantized()
    said = [str(one.message) for one in told if issubclass(one.category, (DeprecationWarning, FutureWarning))]
    return {"outputs": outputs, "warnings": said}


def judge(reports, world):
    most_w = max(abs(value) for row in weights() for value in row)
    values = [value for row in rows() for value in row]
    step_w, step_x = 2 * most_w / 255, (max(values) - min(values)) / 127
    outputs = reports[0]["outputs"]
    if [len(row) for row in outputs] != [OUTPUTS] * ROWS:
        return {0: "its outputs have another shape than %d x %d" % (ROWS, OUTPUTS)}
    for row, given in zip(rows(), outputs):
        for weight, got in zip(weights(), given):
            right = sum(x * w for x, w in zip(row, weight))
            bound = sum(abs(x) * step_w / 2 + abs(w) * step_x / 2 + step_w * step_x / 4 for x, w in zip(row, weight))
            if not abs(got - right) <= bound:
                return {0: "it gave %r, right is %r within %.3f" % (got, right, bound)}
    return {}
