"""torch and every public part of torch.distributed can be imported, and the version is reported.

One rank runs alone. `core` imports torch, nn, optim and distributed, in milliseconds; `parts` imports every public
module below torch.distributed, in one or two seconds. A part that fails is reported with the failing import and its
line instead of a traceback. A part that needs another package (numpy, tensorboard) is not a failure of torch: it is
listed with what it needs. Oracle: no part of torch is missing, and version and git_version exist. Where torch itself
can't be imported, no rank can start, and the agent reports the same facts (docs/protocol.md, `failed`).
"""

KIND = "solo"
WORLD = (1, 1)
TIERS = ("smoke", "critical", "full")
PATIENCE = 30.0  # imports from a cold disk, next to other work, take long; nothing here waits for a peer
VARIANTS = {"core": {"params": {"parts": False}}, "parts": {"params": {"parts": True}}}

CORE = ("torch", "torch.nn", "torch.optim", "torch.distributed")
BACKENDS = ("gloo", "nccl", "mpi", "ucc", "xccl")


def rank(job):
    import torch

    parts = {name: attempt(name) for name in CORE}
    parts.update((name, attempt(name)) for name in (public_parts() if job.params["parts"] else ()))
    return {
        "torch": str(torch.__version__),
        "git_version": getattr(torch.version, "git_version", None),
        "backends": backends(),
        "parts": parts,
    }


def public_parts():
    """Every module or package directly below torch.distributed whose name is public."""
    import pkgutil

    import torch.distributed as dist

    found = sorted(part.name for part in pkgutil.iter_modules(dist.__path__))
    return ["torch.distributed." + name for name in found if not name.startswith("_")]


def attempt(name):
    """Import one part: "ok", or the error with the import that failed and where."""
    import importlib
    import traceback
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
        where = "{0.filename}:{0.lineno}: {0.line}".format(frames[-1]) if frames else ""
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        return {"type": type(error).__name__, "text": str(error)[:500], "where": where, "missing": missing}
    return "ok"


def backends():
    """Which backends this build has; a backend that the release does not know is not listed."""
    import torch.distributed as dist

    asks = {name: getattr(dist, "is_" + name + "_available", None) for name in BACKENDS}
    return {name: bool(ask()) for name, ask in asks.items() if ask}


def judge(reports, world):
    report = reports[0]
    if report is None:
        return {}
    few = world.params["parts"] and len(report["parts"]) <= len(CORE)
    problems = ["no part below torch.distributed was tried"] if few else []
    problems += ["%s was not tried" % name for name in CORE if name not in report["parts"]]
    for name, result in report["parts"].items():
        if result != "ok" and not elsewhere(name, result):
            problems.append("%s: %s: %s at %s" % (name, result["type"], result["text"], result["where"]))
    problems += ["it does not say its %s" % name for name in ("torch", "git_version") if not report.get(name)]
    return {0: "; ".join(problems)} if problems else {}


def elsewhere(name, result):
    """Whether a part needs a package that is not torch's; the core needs none."""
    missing = result.get("missing")
    return bool(missing) and name not in CORE and missing.partition(".")[0] not in ("torch", "torchgen")
