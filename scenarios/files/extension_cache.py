"""Releases that share a cache of C++ extensions each get an extension built for themselves.

By default, the folder of the cache is named after the Python version and the kind of build, not after torch's
release. Rank 0 builds an extension with torch.utils.cpp_extension.load; the next rank asks for the same name, from
the same source, in the same folder. The extension returns the version of the headers it was compiled with, so a
library left by another release gives itself away. Oracle: each rank gets the version that it runs. A build takes
about a second, because the source includes only one small header of torch.
"""

KIND = "handover"
NEEDS = ("a C++ compiler", "ninja", "Python's headers")
PATIENCE = 30
TIERS = ("full",)
WARM = ("torch.utils.cpp_extension",)

NAME = "torchskew_extension"
SOURCE = """
#include <Python.h>
#include <torch/version.h>

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "torchskew_extension", 0, -1, 0};

PyMODINIT_FUNC PyInit_torchskew_extension(void) {
  PyObject* made = PyModule_Create(&module);
  PyModule_AddStringConstant(made, "built_for", TORCH_VERSION);
  return made;
}
"""


def built(folder):
    """Build or find the extension in a folder; returns what it was built for."""
    import os

    os.makedirs(folder, exist_ok=True)
    source = os.path.join(folder, "source.cpp")
    if not os.path.exists(source):
        with open(source, "w") as file:
            file.write(SOURCE)
    from torch.utils import cpp_extension

    return cpp_extension.load(NAME, [source], build_directory=folder, extra_cflags=["-O0"]).built_for


def lacks(job):
    """Return what is missing for a build; the build itself would take too long to ask."""
    from torchskew_kit import no_compiler

    why = no_compiler()
    return {"*": why} if why else {}


def rank(job):
    import torch

    return {"built for": built(job.path("cache")), "torch": str(torch.__version__)}


def judge(reports, world):
    def public(version):
        return str(version).split("+")[0]

    return {
        rank: "its extension was built for %s, it runs %s" % (report.get("built for"), report.get("torch"))
        for rank, report in enumerate(reports)
        if report is not None and public(report.get("built for")) != public(report.get("torch"))
    }
