"""A release that is upgraded in place, at the same path, does not load what the earlier release left in the cache.

An image is upgraded while the cache of C++ extensions is on a volume: the paths of Python and of torch stay the same,
and only what they hold changes. Rank 0 makes a link to its packages and builds an extension in a process that sees
torch through that link; the next rank turns the link to its own packages and asks for the same extension. The extension
returns the version of the headers that it was compiled with. Oracle: it is the version that runs, since the extension
was built again, or the load was refused; a library of the other release that is loaded without a word is WRONG.
`extension_cache` is the same for releases at different paths.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("a C++ compiler", "ninja", "Python's headers")
PATIENCE = 90.0
TIERS = ("full",)
WARM = ("torch.utils.cpp_extension",)

NAME = "torchskew_upgraded"
SOURCE = """
#include <Python.h>
#include <torch/version.h>

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "torchskew_upgraded", 0, -1, 0};

PyMODINIT_FUNC PyInit_torchskew_upgraded(void) {
  PyObject* made = PyModule_Create(&module);
  PyModule_AddStringConstant(made, "built_for", TORCH_VERSION);
  return made;
}
"""
LOAD = """
import json, sys
import torch
from torch.utils import cpp_extension
answer = {"torch": str(torch.__version__), "from": torch.__file__}
try:
    answer["built for"] = cpp_extension.load(sys.argv[1], [sys.argv[2]], extra_cflags=["-O0"]).built_for
except Exception as error:
    answer["refused"] = "%s: %s" % (type(error).__name__, str(error)[:1000])
print("answer " + json.dumps(answer))
"""


def turned(link):
    """Make the link lead to the packages of this rank's torch."""
    import os

    import torch

    own = os.path.dirname(os.path.dirname(os.path.abspath(torch.__file__)))
    os.symlink(own, link + ".new")
    os.replace(link + ".new", link)


def loaded(job, link):
    """What a fresh process says that sees torch at the link's path."""
    import json
    import os
    import subprocess
    import sys

    env = dict(os.environ, PYTHONPATH=link, TORCH_EXTENSIONS_DIR=job.path("extensions"))
    command = [sys.executable, "-c", LOAD, NAME, job.path("source.cpp")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, check=False, env=env, timeout=job.timeout, **pipes)
    text = done.stdout.decode(errors="replace")
    answers = [line for line in text.splitlines() if line.startswith("answer ")]
    if not answers:
        raise RuntimeError("no answer, exit %d: %s" % (done.returncode, text[-2000:]))
    return json.loads(answers[-1][len("answer ") :])


def lacks(job):
    """Return what is missing for a build; the build itself would take too long to ask."""
    from torchskew_kit import no_compiler

    why = no_compiler()
    return {"*": why} if why else {}


def rank(job):
    if job.rank == 0:
        with open(job.path("source.cpp"), "w") as file:
            file.write(SOURCE)
    link = job.path("packages")
    turned(link)
    answer = loaded(job, link)
    answer["same path"] = answer.pop("from").startswith(link + "/")
    return answer


def judge(reports, world):
    from torchskew.planning.scenario import Opinion

    wrong, note = {}, "it was built again"
    for number, report in enumerate(reports):
        if report is None:
            continue
        built, runs = (str(report.get(key)).split("+")[0] for key in ("built for", "torch"))
        if not report["same path"]:
            wrong[number] = "torch was not imported from the path that both releases share"
        elif "refused" in report:
            note = "the load was refused: %s" % report["refused"][:200]
            if number == 0:
                wrong[0] = "its own build failed: %s" % report["refused"][:300]
        elif built != runs:
            wrong[number] = "it runs %s and loaded an extension built for %s without a word" % (runs, built)
    return Opinion(wrong=wrong, note=note)
