"""torch.utils.cpp_extension.load does what its documentation says of each argument, and says why where it can't.

One release alone, with the real compiler; each variant is one case. Oracle: what the documentation says. What builds
must load and return its value: several sources, one source as text, `is_standalone`, `keep_intermediates=False`, a
folder given by `build_directory` or by TORCH_EXTENSIONS_DIR (which may be missing), compiler flags, and `together`:
three processes that ask at once, for which the compiler runs once. What can't build must raise an error that says why:
a source with a mistake and an unknown flag (the compiler's words), a name that is not the module's, a build directory
or a TORCH_EXTENSIONS_DIR that can't be written, a full disk, CUDA sources without nvcc. A build directory that is
missing may be made or refused. The sources include no header of ATen, so a build takes about a second. `stale_lock` is
about the lock of a builder that was killed, `extension_cache` and `extension_upgrade` about releases that share a
cache.
"""

KIND = "solo"
WORLD = (1, 1)
NEEDS = ("a C++ compiler", "ninja", "Python's headers")
PATIENCE = 60.0
TIERS = ("full",)
WARM = ("torch.utils.cpp_extension",)
# What an error must hold, any of these; None: it must build.
VARIANTS = {
    "plain": {"params": {"error": None}},
    "several_sources": {"params": {"error": None}},
    "one_string": {"params": {"error": None}},
    "standalone": {"params": {"error": None}},
    "no_intermediates": {"params": {"error": None}},
    "directory_given": {"params": {"error": None}},
    "variable_given": {"params": {"error": None}},
    "variable_missing": {"params": {"error": None}},
    "flags_good": {"params": {"error": None}},
    "together": {"params": {"error": None}},
    "bad_source": {"params": {"error": ["this_is_no_type"]}},
    "flags_bad": {"params": {"error": ["-fno-such-flag-at-all"]}},
    "other_name": {"params": {"error": ["PyInit_torchskew_another"]}},
    "directory_missing": {"params": {"error": ["missing"], "or_builds": True}},  # since 2.14 it is made
    "directory_closed": {"params": {"error": ["closed"]}},
    "variable_closed": {"params": {"error": ["closed"]}},
    "full_disk": {"params": {"error": ["No space left", "ENOSPC"]}},
    "cuda_without_nvcc": {"params": {"error": ["CUDA_HOME", "nvcc"]}},
}

NAME = "torchskew_built"
VALUE = 41
SOURCE = """
#include <Python.h>
#ifndef TORCHSKEW_VALUE
#define TORCHSKEW_VALUE 41
#endif
EXTRA
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "torchskew_built", 0, -1, 0};
PyMODINIT_FUNC PyInit_torchskew_built(void) {
  PyObject* made = PyModule_Create(&module);
  PyModule_AddIntConstant(made, "value", VALUE);
  return made;
}
"""
MAIN = "int main() { return 41; }\n"
BUILDERS = 3


def source(folder, name="source.cpp", extra="", value="TORCHSKEW_VALUE"):
    """Write a source and return its path."""
    return written(folder, name, SOURCE.replace("EXTRA", extra).replace("VALUE);", value + ");"))


def written(folder, name, text):
    import os

    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def made(folder, sources, name=NAME, **more):
    """Build in a folder and return the module's value."""
    from torch.utils import cpp_extension

    more.setdefault("extra_cflags", ["-O0"])
    if folder is not None:
        more["build_directory"] = folder
    return cpp_extension.load(name, sources, **more).value


def closed(folder):
    """A folder's name in which nobody can create a file, root included: below a file."""
    import os

    written(folder, "closed", "a file, where a folder should be\n")
    return os.path.join(folder, "closed", "below")


def several_sources(folder):
    other = written(folder, "other.cpp", "int other_value() { return 41; }\n")
    return made(folder, [source(folder, extra="int other_value();", value="other_value()"), other])


def standalone(folder):
    """A program of its own; its exit code is the value."""
    import subprocess

    from torch.utils import cpp_extension

    path = cpp_extension.load(
        NAME, [written(folder, "main.cpp", MAIN)], build_directory=folder, is_python_module=False, is_standalone=True
    )
    return subprocess.run([path], check=False).returncode


def flags_good(folder):
    """A flag that reaches the compiler changes the value."""
    path = source(folder, value="TORCHSKEW_VALUE - 1")
    return made(folder, [path], extra_cflags=["-O0", "-DTORCHSKEW_VALUE=42"])


def by_variable(folder, where):
    """Build below TORCH_EXTENSIONS_DIR; the library must lie there."""
    import glob
    import os

    os.environ["TORCH_EXTENSIONS_DIR"] = where
    value = made(None, [source(folder)])
    found = glob.glob(os.path.join(where, "**", NAME + ".so"), recursive=True)
    return value if found else "the library is not below TORCH_EXTENSIONS_DIR"


def together(folder):
    """Three processes build one extension at once; the compiler's calls are counted by a script around it."""
    import os

    compiler = os.environ.get("CXX", "c++")
    calls = os.path.join(folder, "calls")
    text = '#!/bin/sh\nfor each; do [ "$each" = -c ] && echo >> %s; done\nexec %s "$@"\n' % (calls, compiler)
    script = written(folder, "compiler", text)
    os.chmod(script, 0o700)
    os.environ["CXX"] = script
    path = source(folder)
    builders = []
    for _ in range(BUILDERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if made(folder, [path]) == VALUE else 1
            finally:
                os._exit(code)
        builders.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in builders]
    with open(calls) as file:
        compiled = len(file.readlines())
    return VALUE if codes == [0] * BUILDERS and compiled == 1 else "exits %s, compiled %d times" % (codes, compiled)


def full_disk(folder):
    """Build on a file system of 64 KB, mounted where nobody else sees it."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    small = os.path.join(folder, "small")
    os.mkdir(small)
    # CLONE_NEWNS, then MS_REC | MS_PRIVATE, so that the mount ends with this process.
    steps = [lambda: libc.unshare(0x20000), lambda: libc.mount(b"none", b"/", None, 0x44000, None)]
    steps.append(lambda: libc.mount(b"tmpfs", small.encode(), b"tmpfs", 0, b"size=64k"))
    for step in steps:
        if step() != 0:
            return "not allowed: %s" % os.strerror(ctypes.get_errno())
    path = source(folder, extra="const char torchskew_large[1 << 20] = {1};", value="41 + 0 * torchskew_large[7]")
    return made(small, [path])


def cases(folder):
    """Each case's name -> what it does."""
    import os

    deep = os.path.join(folder, "deep")
    return {
        "plain": lambda: made(folder, [source(folder)]),
        "several_sources": lambda: several_sources(folder),
        "one_string": lambda: made(folder, source(folder)),
        "standalone": lambda: standalone(folder),
        "no_intermediates": lambda: made(folder, [source(folder)], keep_intermediates=False),
        "directory_given": lambda: os.mkdir(deep) or made(deep, [source(folder)]),
        "variable_given": lambda: os.mkdir(deep) or by_variable(folder, deep),
        "variable_missing": lambda: by_variable(folder, os.path.join(deep, "deeper")),
        "flags_good": lambda: flags_good(folder),
        "together": lambda: together(folder),
        "bad_source": lambda: made(folder, [source(folder, extra="this_is_no_type x;")]),
        "flags_bad": lambda: made(folder, [source(folder)], extra_cflags=["-fno-such-flag-at-all"]),
        "other_name": lambda: made(folder, [source(folder)], name="torchskew_another"),
        "directory_missing": lambda: made(os.path.join(folder, "missing"), [source(folder)]),
        "directory_closed": lambda: made(closed(folder), [source(folder)]),
        "variable_closed": lambda: by_variable(folder, closed(folder)),
        "full_disk": lambda: full_disk(folder),
        "cuda_without_nvcc": lambda: made(folder, [source(folder), written(folder, "kernel.cu", "int x;\n")]),
    }


def lacks(job):
    """Return what is missing for a build; the build itself would take too long to ask."""
    from torchskew_kit import no_compiler

    why = no_compiler()
    return {"*": why} if why else {}


def rank(job):
    import os
    import shutil

    if job.variant == "cuda_without_nvcc" and (shutil.which("nvcc") or os.environ.get("CUDA_HOME")):
        job.unsupported("nvcc is there, so its absence can't be tried")
    try:
        found = {"value": cases(job.share)[job.variant]()}
    except Exception as error:
        found = {"error": "%s: %s" % (type(error).__name__, error)}
    if str(found.get("value")).startswith("not allowed: "):
        job.unsupported("a file system of its own is %s" % found["value"])
    if len(str(found.get("error"))) > 8000:
        found["error"] = found["error"][:4000] + " ... " + found["error"][-4000:]
    return found


def judge(reports, world):
    report, wanted = reports[0], world.params["error"]
    if report is None:
        return {}
    if wanted is None:
        right = report.get("value") == VALUE
        return {} if right else {0: "it gave %s, right is %d" % (report.get("value", report.get("error")), VALUE)}
    if world.params.get("or_builds") and report.get("value") == VALUE:
        return {}
    if "error" not in report:
        return {0: "it gave %s where it must say why it can't build" % report.get("value")}
    if any(text in report["error"] for text in wanted):
        return {}
    return {0: "its error holds none of %s: %s" % (", ".join(wanted), report["error"][:300])}
