"""A C++ extension over the stable ABI (torch/csrc/stable) works in every release that it was made for.

Rank 0 builds an operator from the headers of torch/csrc/stable alone; the next rank loads that file by its path. `own`
asks for the ABI of rank 0's release: PyTorch promises that it works in the same and in later releases, and an earlier
one may refuse it, naming what is missing. `target` is built for 2.10 (TORCH_TARGET_VERSION), so every release from 2.10
on must load it, in both orders. Oracle: x * x * x, and the text of STD_TORCH_CHECK for a tensor of two dimensions.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("torch/csrc/stable", "a C++ compiler", "ninja", "Python's headers")
APPLIES = ">=2.10"
PATIENCE = 90.0
TIERS = ("full",)
WARM = ("torch.utils.cpp_extension",)
VARIANTS = {"own": {"params": {"target": ""}}, "target": {"params": {"target": "0x020a000000000000"}}}

NAME = "torchskew_stable"
TOLD = "torchskew wants one dimension"
SOURCE = """
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::stable::Tensor;

Tensor cube(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 1, "torchskew wants one dimension, got ", x.dim());
  Tensor result = torch::stable::empty_like(x);
  const float* from = static_cast<const float*>(x.data_ptr());
  float* to = static_cast<float*>(result.data_ptr());
  for (int64_t at = 0; at < x.numel(); ++at) to[at] = from[at] * from[at] * from[at];
  return result;
}

STABLE_TORCH_LIBRARY(torchskew_stable, library) {
  library.def("cube(Tensor x) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchskew_stable, CPU, library) {
  library.impl("cube", TORCH_BOX(&cube));
}
"""


def answers():
    """What the operator gives: its value and the text of its check."""
    import torch

    cube = torch.ops.torchskew_stable.cube
    value = cube(torch.tensor([1.0, 2.0, 3.0]))
    try:
        cube(torch.ones(2, 2))
        told = "nothing"
    except RuntimeError as error:
        told = str(error).splitlines()[0]
    return {"value": value.tolist(), "check": told}


def lacks(job):
    """Return what is missing for a build; the build itself would take too long to ask."""
    from torchskew_kit import no_compiler

    why = no_compiler()
    return {"*": why} if why else {}


def rank(job):
    import os

    import torch
    from torchskew_kit import built_operators, load_refusal

    report = {"torch": str(torch.__version__), "release": numbers(torch.__version__)}
    folder = job.path("build")
    if job.rank == 0:
        target = job.params["target"]
        library = built_operators(NAME, SOURCE, folder, *(["-DTORCH_TARGET_VERSION=" + target] if target else []))
        return dict(report, loaded=os.path.basename(library), **answers())
    refused = load_refusal(os.path.join(folder, NAME + ".so"))
    return dict(report, refused=refused) if refused else dict(report, **answers())


def numbers(version):
    """The first two numbers of a release."""
    return [int(each) for each in str(version).split(".")[:2]]


def judge(reports, world):
    from torchskew.judging.oracle import missing_symbol
    from torchskew.planning.scenario import Opinion

    wrong, note = {}, "it loads and computes"
    for number, report in enumerate(reports):
        if report is None:
            continue
        if "refused" in report:
            promised = world.params["target"] or report["release"] >= reports[0]["release"]
            note = "the loader refuses what a later release built: %s" % report["refused"][-300:]
            if promised:
                wrong[number] = "the loader refuses what it must load: %s" % report["refused"][-300:]
            elif not missing_symbol(report["refused"]):
                wrong[number] = "the loader names no symbol: %s" % report["refused"][-300:]
            continue
        if report.get("value") != [1.0, 8.0, 27.0]:
            wrong[number] = "its value is %s, right is [1.0, 8.0, 27.0]" % report.get("value")
        elif TOLD + ", got 2" not in str(report.get("check")):
            wrong[number] = "the check told %s" % report.get("check")
    return Opinion(wrong=wrong, note=note)
