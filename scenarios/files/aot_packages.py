"""What AOTInductor compiled in one release runs in another, and computes the same.

Rank 0 compiles two layers whose weights and input follow from formulas: `attention` (a TransformerEncoderLayer) and
`convolution` (with batch normalisation), as one model, because a compiler spends most of its time on the headers. Since
2.6 the file is a package of torch._inductor.aoti_compile_and_package, before that a shared library of
torch._export.aot_compile; 2.2 compiles one as well, but only C++ can load it there. Rank 0 loads it again and runs the
plain layers; the next rank loads the file and runs it. Each does so in a fresh process, as a server would, because
whoever compiled has imported what a load may need. The oracle is the plain layers' answers, to 1e-4.

A compiler works on it for a quarter of a minute, and would make the same file again: the first cell makes it for all of
a run. The wrapper is compiled without optimisation and without a precompiled header, which one compilation would not
use twice; the kernels are compiled as a user's. What a release can't compile or load again itself is unsupported, in
its own words.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("a C++ compiler, to write",)
APPLIES = ">=2.3"
PATIENCE = 300.0
TIERS = ("full",)
LAYERS = ("attention", "convolution")
BOUND = 1e-4

PROGRAM = """
import json, shutil, sys
import torch
import torch._inductor
from torch import nn

task, path = sys.argv[1:]
ROWS = torch.linspace(-1.0, 1.0, 48).reshape(2, 3, 8)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.convolution = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU())

    def forward(self, rows):
        return self.attention(rows), self.convolution(rows)


def plain():
    made = Layers().eval()
    for number, parameter in enumerate(made.parameters()):
        count = parameter.numel()
        parameter.copy_(torch.linspace(-0.5, 0.5 + 0.01 * number, count).reshape(parameter.shape))
    return made


def hurry():
    # The releases that lack one of these have nothing to turn off.
    from torch._inductor import config

    for name, value in (("compile_wrapper_opt_level", "O0"), ("precompile_headers", False)):
        if hasattr(config.aot_inductor, name):
            setattr(config.aot_inductor, name, value)


def write(module):
    hurry()
    if path.endswith(".pt2"):
        exported = torch.export.export(module, (ROWS,))
        torch._inductor.aoti_compile_and_package(exported, package_path=path)
    else:
        from torch._export import aot_compile

        made = aot_compile(module, (ROWS,))
        shutil.copy(made if isinstance(made, str) else made[0], path)


def read():
    if path.endswith(".pt2"):
        return torch._inductor.aoti_load_package(path)
    from torch._export import aot_load

    return aot_load(path, "cpu")


def said(answers):
    return {name: each.detach().reshape(-1).tolist() for name, each in zip(("attention", "convolution"), answers)}


try:
    with torch.no_grad():
        module = read() if task == "read" else plain()
        answer = {"cases": said(module(ROWS))}
        if task == "write":
            write(module)
except Exception as error:
    answer = {"error": "%s: %s" % (type(error).__name__, error)}
print("answer " + json.dumps(answer))
"""


class Refused(Exception):  # noqa: N818 - the release's own words follow
    """A fresh process could not write, load or run it."""


def fresh(job, task, path):
    """The numbers that a fresh process computes; its error where it can't."""
    import json
    import os
    import subprocess
    import sys

    command = [sys.executable, "-c", PROGRAM, task, path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, check=False, env=dict(os.environ), timeout=job.timeout, **pipes)
    text = done.stdout.decode(errors="replace")
    answers = [line for line in text.splitlines() if line.startswith("answer ")]
    if not answers:
        raise Refused("no answer to `%s`, exit %d: %s" % (task, done.returncode, text[-2000:]))
    answer = json.loads(answers[-1][len("answer ") :])
    if "error" in answer:
        raise Refused(answer["error"][:2000])
    return answer["cases"]


def written(job, name):
    """Compile once for each torch, and leave a copy where the reader finds it; what the plain layers compute."""
    import json
    import os
    import shutil

    from torchskew_kit import made_once

    def compiled(folder):
        path = os.path.join(folder, name)
        cases = fresh(job, "write", path)
        fresh(job, "read", path)
        with open(os.path.join(folder, "cases"), "w") as file:
            json.dump(cases, file)

    folder = made_once("aot", compiled)
    shutil.copy(os.path.join(folder, name), job.path(name))
    with open(os.path.join(folder, "cases")) as file:
        return json.load(file)


def rank(job):
    import os
    import shutil
    import subprocess

    import torch

    if job.rank > 0:
        name = "model.pt2" if os.path.exists(job.path("model.pt2")) else "model.so"
        return {"cases": fresh(job, "read", job.path(name))}
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        job.unsupported("there is no C++ compiler (%s)" % compiler)
    packages = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
    try:
        return {"cases": written(job, "model.pt2" if packages else "model.so")}
    except Refused as error:
        job.unsupported("it can't write and load this itself: %s" % str(error)[:300])
    except subprocess.TimeoutExpired:
        job.prevented("the compiler did not finish within %.0f s" % job.timeout)


def judge(reports, world):
    from torchskew.judging.oracle import near

    return near(reports, world, LAYERS, BOUND)
