"""Without a compiled build, importing torch fails where the build is missing, and says so.

One rank runs alone. A version that is a tree of Python files is tried as it is; an installed one through links to its
Python files, without its shared libraries. A Python of its own imports torch, nn, optim, distributed and every public
part of distributed, each from the start; where torch itself stops, its parts do. For each it is reported which import
fails, at which line. Oracle: all of it imports, or fails for what only a build makes: a compiled module, a shared
library, torch.version. A missing package of somebody else decides nothing. That a file of torch itself is missing, or
is no Python, is wrong.
"""

KIND = "solo"
WORLD = (1, 1)
TIERS = ("smoke", "critical", "full")
BUILD = False
PATIENCE = 60.0  # a Python and the first lines of torch from a cold disk, next to other work

CORE = ("torch", "torch.nn", "torch.optim", "torch.distributed")
MOST = 60  # parts of distributed; a release has about thirty
BUILT = ("torch._C", "torch.version", "torch.lib", "libtorch", "libc10", ".so", "C extensions")
# Runs in a Python of its own, whose torch is the tree alone. Each part is a process: torch may refuse a second attempt.
TRIAL = """
import importlib, json, os, sys, time, traceback, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])

def attempt(name):
    try:
        importlib.import_module(name)
        return "ok"
    except BaseException as error:
        trace = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(sys.argv[1])]
        where = "%s:%d: %s" % (trace[-1].filename, trace[-1].lineno, trace[-1].line) if trace else ""
        if isinstance(error, SyntaxError):
            where = "%s:%s: %s" % (error.filename, error.lineno, (error.text or "").strip())
        return {
            "type": type(error).__name__, "text": str(error).replace(sys.argv[1] + "/", "")[:500],
            "where": where.replace(sys.argv[1] + "/", "")[-300:],
            "missing": error.name if isinstance(error, ModuleNotFoundError) else None,
        }

def apart(name):
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(source)
        os.write(sink, json.dumps(attempt(name)).encode())
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as said:
        text = said.read()
    status = os.waitpid(pid, 0)[1]
    if text:
        return json.loads(text.decode())
    return {"type": "Ended", "text": "wait status %d" % status, "where": "", "missing": None}

began = time.monotonic()
found = {}
for name in sys.argv[2:]:  # torch is the first: where it stops, each part of it does, because Python imports it first
    found[name] = apart(name) if found.get("torch", "ok") == "ok" else found["torch"]
print("found " + json.dumps({"parts": found, "seconds": time.monotonic() - began}))
"""


def rank(job):
    import json
    import subprocess
    import sys

    folder = the_tree(job)
    names = [*CORE, *public_parts(folder)]
    command = [sys.executable, "-c", TRIAL, folder, *names]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
    lines = [line for line in ended.stdout.decode(errors="replace").splitlines() if line.startswith("found {")]
    if not lines:
        said = ended.stdout.decode(errors="replace")[-1000:]
        return {"parts": {}, "ended": "exit code %d after: %s" % (ended.returncode, said)}
    return dict(json.loads(lines[-1][len("found ") :]), ended="", names=len(names))


def the_tree(job):
    """The folder that holds the package torch without anything compiled."""
    import os

    import torchskew_tree

    if torchskew_tree.is_unbuilt():
        return torchskew_tree.folder()
    import torch

    package, folder = os.path.dirname(torch.__file__), os.path.join(job.share, "unbuilt")
    for path in torchskew_tree.python_files(package):
        link = os.path.join(folder, "torch", os.path.relpath(path, package))
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(path, link)
    return folder


def public_parts(folder):
    """Every public module or package directly below torch.distributed; nothing is imported."""
    import os
    import pkgutil

    found = sorted(part.name for part in pkgutil.iter_modules([os.path.join(folder, "torch", "distributed")]))
    return ["torch.distributed." + name for name in found if not name.startswith("_")][:MOST]


def judge(reports, world):
    from torchskew.planning.scenario import Opinion

    report = reports[0]
    if report is None:
        return {}
    if report["ended"] or not set(CORE) <= set(report["parts"]):
        return {0: "the Python that imported it ended early: %s" % (report["ended"] or "not every part was tried")}
    failed = {name: result for name, result in report["parts"].items() if result != "ok"}
    ours = {name: result for name, result in failed.items() if not elsewhere(result)}
    wrong = stops({name: result for name, result in ours.items() if not of_the_build(result)})
    if wrong:
        return {0: "; ".join(wrong[:5])}
    if len(ours) < len(failed):
        needed = sorted({result["missing"] for name, result in failed.items() if name not in ours})
        return Opinion(undecided="it needs %s first; name it in `requires` of the version" % ", ".join(needed))
    if not failed:
        return Opinion(note="everything imports: it has a build")
    return Opinion(note="stopped where the build is missing: " + "; ".join(stops(failed)[:3]))


def stops(failed):
    """Where parts stop, each place once, with the first of the parts that stop there and how many others do."""
    places = {}
    for name, result in failed.items():
        text = (result["text"].splitlines() or [""])[0]
        places.setdefault("%s: %s at %s" % (result["type"], text, result["where"]), []).append(name)
    return [
        "%s%s: %s" % (names[0], " and %d other parts" % (len(names) - 1) if names[1:] else "", place)
        for place, names in places.items()
    ]


def of_the_build(result):
    """Whether an import failed for something that only a build makes."""
    missing = result["missing"] or ""
    if missing:
        return missing == "torch.version" or (missing + ".").startswith("torch._C.")
    if result["type"] not in ("ImportError", "OSError", "RuntimeError", "ValueError", "AttributeError"):
        return False
    return any(word in result["text"] for word in BUILT) or "_C" in result["where"]


def elsewhere(result):
    """Whether an import needs a package that is not torch's."""
    return bool(result["missing"]) and result["missing"].partition(".")[0] not in ("torch", "torchgen")
