"""A program of real layers that one release saved computes the same in another.

A variant is a form and a layer. Forms: `script` (torch.jit.script and save) and `export` (torch.export). Layers:
`attention` (a TransformerEncoderLayer), `norms` (layer, batch and group normalisation), `rms` (RMSNorm, since 2.4),
`embedding`, `quantized` (a linear layer, dynamically quantized), `convolution`, `recurrent` (an LSTM), `branch`
(torch.cond, exported only). Weights and inputs follow from formulas. Rank 0 saves the program, once for all of a run,
and runs the module itself; the next rank loads the program and runs it. The oracle is rank 0's own answer, to 1e-5.
What a release can't save, or can't load again itself, is unsupported, in its own words.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("torch.export for `export_*`",)
APPLIES = ">=2.1"
PATIENCE = 60.0  # tracing is work: on a busy machine torch.export took longer than the timeout of a group
TIERS = ("full",)
WARM = ("torch.export", "torch._dynamo", "torch._export", "torch.ao.quantization")
LAYERS = ("attention", "norms", "rms", "embedding", "quantized", "convolution", "recurrent", "branch")
VARIANTS = {
    "%s_%s" % (form, layer): {"params": {"form": form, "layer": layer}}
    for form, layers in (("script", LAYERS[:-1]), ("export", LAYERS))
    for layer in layers
}
BOUND = 1e-5


def layer(name):
    """The layer in evaluation mode."""
    import torch
    from torch import nn

    if name == "quantized":
        whole = known(nn.Sequential(nn.Linear(8, 4), nn.ReLU()))
        return torch.ao.quantization.quantize_dynamic(whole, {nn.Linear})
    make = {
        "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        "norms": lambda: nn.Sequential(nn.LayerNorm(8), nn.BatchNorm1d(3), nn.GroupNorm(3, 3)),
        "rms": lambda: nn.RMSNorm(8),
        "embedding": lambda: nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2)),
        "convolution": lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten()),
        "recurrent": lambda: nn.Sequential(nn.LSTM(8, 4, batch_first=True)),
        "branch": branch,
    }[name]
    return known(make())


def example(name):
    """The input of a layer."""
    import torch

    if name == "embedding":
        return torch.tensor([[1, 2, 3], [9, 0, 4]])
    return torch.linspace(-1.0, 1.0, 48).reshape(2, 3, 8)


def branch():
    """Control flow that depends on data."""
    import torch

    class Branch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(8))

        def forward(self, x):
            return torch.cond((x + 1).sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x * self.scale,))

    return Branch()


def known(module):
    """Give every parameter values that follow from its place."""
    import torch

    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            count = parameter.numel()
            parameter.copy_(torch.linspace(-0.5, 0.5 + 0.01 * number, count).reshape(parameter.shape))
    return module.eval()


def numbers(answer):
    """The elements of an answer, or of its first part."""
    tensor = answer[0] if isinstance(answer, (tuple, list)) else answer
    return tensor.detach().reshape(-1).tolist()


def saved(form, module, rows, path):
    """Save the program."""
    import torch

    if form == "script":
        torch.jit.save(torch.jit.script(module), path)
    else:
        torch.export.save(torch.export.export(module, (rows,)), path)


def loaded(form, path):
    """The program as something to call."""
    import torch

    if form == "script":
        return torch.jit.load(path)
    program = torch.export.load(path)
    return program.module() if hasattr(program, "module") else program


def rank(job):
    import torch

    form, name, path = job.params["form"], job.params["layer"], job.path("program.pt2")
    with torch.no_grad():
        if job.rank == 0:
            return {"cases": {"output": written(job, form, name, path)}}
        return {"cases": {"output": numbers(loaded(form, path)(example(name)))}}


def written(job, form, name, path):
    """Save the program once for each torch, and leave a copy where the reader finds it; what the module computes."""
    import json
    import os
    import shutil

    from torchskew_kit import made_once

    def make(folder):
        task, place = "save this", os.path.join(folder, "program.pt2")
        try:
            module = layer(name)
            saved(form, module, example(name), place)
            task = "load what it saved of this"
            loaded(form, place)  # 2.2 can't where a layer's path has a comma, as getattr(L['fn'], '0') of a Sequential
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            job.unsupported("it can't %s: %s: %s" % (task, type(error).__name__, lines[0][:200]))
        with open(os.path.join(folder, "output"), "w") as file:
            json.dump(numbers(module(example(name))), file)

    folder = made_once("program %s %s" % (form, name), make)
    shutil.copy(os.path.join(folder, "program.pt2"), path)
    with open(os.path.join(folder, "output")) as file:
        return json.load(file)


def judge(reports, world):
    from torchskew.judging.oracle import near

    return near(reports, world, ["output"], BOUND)
