"""A C++ extension built for one release computes right in another, or the loader names the symbol that is missing.

Rank 0 builds an extension with its own headers: an operator over tensors with a derivative of its own
(torch::autograd::Function) and a check (TORCH_CHECK). The next rank loads that file by its path, without a build, and
applies it. Oracle: value and gradient of x * x * x, and the check's text for a tensor of two dimensions. A loader that
refuses must name what it misses; a wrong value, a lost check or a crash is what a changed layout looks like. The build
takes ten seconds of a processor without other work; its C++ ABI (`_GLIBCXX_USE_CXX11_ABI`) is that of rank 0's release.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("a C++ compiler", "ninja", "Python's headers")
PATIENCE = 400.0  # the build, on a machine that does much else
TIERS = ("full",)
WARM = ("torch.utils.cpp_extension",)

NAME = "torchskew_abi"
TOLD = "torchskew wants one dimension"
SOURCE = """
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

struct Cube : torch::autograd::Function<Cube> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::Tensor x) {
    context->save_for_backward({x});
    return x * x * x;
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    auto x = context->get_saved_variables()[0];
    return {3 * x * x * gradients[0]};
  }
};

at::Tensor cube(at::Tensor x) {
  TORCH_CHECK(x.dim() == 1, "torchskew wants one dimension, got ", x.dim());
  return Cube::apply(x);
}

TORCH_LIBRARY(torchskew_abi, library) {
  library.def("cube(Tensor x) -> Tensor", &cube);
}
"""


def answers():
    """What the operator gives: value, gradient, and the text of its check."""
    import torch

    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    cube = torch.ops.torchskew_abi.cube
    value = cube(x)
    value.sum().backward()
    try:
        cube(torch.ones(2, 2))
        told = "nothing"
    except RuntimeError as error:
        told = str(error).splitlines()[0]
    return {"value": value.tolist(), "gradient": x.grad.tolist(), "check": told}


def lacks(job):
    """Return what is missing for a build; the build itself would take too long to ask."""
    from torchskew_kit import no_compiler

    why = no_compiler()
    return {"*": why} if why else {}


def rank(job):
    import os

    import torch
    from torchskew_kit import built_operators, load_refusal

    report = {"torch": str(torch.__version__), "cxx11": bool(torch.compiled_with_cxx11_abi())}
    folder = job.path("build")
    if job.rank == 0:
        return dict(report, loaded=os.path.basename(built_operators(NAME, SOURCE, folder)), **answers())
    refused = load_refusal(os.path.join(folder, NAME + ".so"))
    return dict(report, refused=refused) if refused else dict(report, **answers())


def judge(reports, world):
    from torchskew.judging.oracle import missing_symbol
    from torchskew.planning.scenario import Opinion

    wrong, note = {}, "it loads and computes"
    for number, report in enumerate(reports):
        if report is None:
            continue
        if "refused" in report and number:
            symbol = missing_symbol(report["refused"])
            note = "the loader refuses: %s is missing" % symbol
            if report["cxx11"] != reports[0]["cxx11"]:
                note += "; the C++ ABI of std::string is another one"
            if not symbol:
                wrong[number] = "the loader names no symbol: %s" % report["refused"][:200]
            continue
        right = {"value": [1.0, 8.0, 27.0], "gradient": [3.0, 12.0, 27.0]}
        off = ["%s is %s, right is %s" % (n, report.get(n), right[n]) for n in right if report.get(n) != right[n]]
        if TOLD + ", got 2" not in str(report.get("check")):
            off.append("the check told %s" % report.get("check"))
        if off:
            wrong[number] = "; ".join(off)
    return Opinion(wrong=wrong, note=note)
