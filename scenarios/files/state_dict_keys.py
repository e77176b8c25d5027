"""The state-dict keys, shapes and dtypes of modules persist, so later releases load earlier checkpoints.

Each rank builds every public module of torch.nn from small arguments, and layers under weight_norm, spectral_norm and
orthogonal, in their older form and as parametrizations. It reports the keys of each state dict with shape and dtype,
and the modules that it could not build. Oracle: every key of the earlier release exists in the later one with the same
shape and dtype; a renamed or lost key is WRONG on the rank of the later release. Additions are allowed. Two ranks of
one release must agree. `torchskew gate --snapshot` keeps the report of a release in a file that a later gate needs
instead of the release.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("smoke", "critical", "full")
PATIENCE = 30.0  # seconds; work, not waiting, takes the time here

# Modules whose shortest call is heavy, ambiguous or needs several numbers; the others take the first call that works.
CALLS = {
    "AdaptiveLogSoftmaxWithLoss": ((8, 10, [4]), {}),
    "Bilinear": ((2, 3, 4), {}),
    "EmbeddingBag": ((5, 4), {}),
    "Embedding": ((5, 4), {}),
    "GroupNorm": ((2, 4), {}),
    "MultiheadAttention": ((8, 2), {}),
    "Transformer": ((8, 2, 1, 1, 8), {}),
    "TransformerDecoderLayer": ((8, 2, 8), {}),
    "TransformerEncoderLayer": ((8, 2, 8), {}),
}
# Layers under both ways to change their weights; the older one names them weight_g, the newer one parametrizations.
WRAPPERS = (
    "weight_norm(Linear)", "spectral_norm(Linear)", "spectral_norm(Conv2d)", "parametrizations.weight_norm(Linear)",
    "parametrizations.weight_norm(Conv2d)", "parametrizations.spectral_norm(Linear)",
    "parametrizations.orthogonal(Linear)",
)  # fmt: skip
TRIES = ((), (4,), (4, 4), (4, 4, 3), (2, 2, 2, 2))
# Changes that were made on purpose: "Module" or "Module.key" -> why that is fine.
ALLOWED = {
    "Container": "deprecated since 0.2, an empty container without state of its own",
}
FEWEST = 100  # modules built; fewer would mean that the snapshot is broken


def rank(job):
    import warnings

    import torch

    del job
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    built, refused = {}, {}
    makers = {name: lambda name=name: build(getattr(torch.nn, name), name) for name in public(torch.nn)}
    makers.update({name: lambda name=name: wrapped(name) for name in WRAPPERS})
    for name in sorted(makers):
        module, why = makers[name]()
        if module is None:
            refused[name] = why
        else:
            built[name] = {key: look(value) for key, value in module.state_dict().items()}
    return {"torch": str(torch.__version__), "built": built, "refused": refused}


def public(nn):
    """Names of the module classes that torch.nn offers."""
    return [name for name in dir(nn) if not name.startswith("_") and is_module(getattr(nn, name), nn.Module)]


def wrapped(name):
    """A layer under one of torch.nn.utils, which renames its keys, or why the release has none."""
    import importlib

    import torch

    path, of = name.rstrip(")").split("(")
    wrapper = torch.nn.utils
    try:
        if path.startswith("parametrizations."):
            importlib.import_module("torch.nn.utils.parametrizations")
        for part in path.split("."):
            wrapper = getattr(wrapper, part)
        layer = torch.nn.Linear(4, 4) if of == "Linear" else torch.nn.Conv2d(2, 2, 2)
        return wrapper(layer), ""
    except Exception as error:
        return None, "%s: %s" % (type(error).__name__, str(error)[:100])


def is_module(found, base):
    return isinstance(found, type) and issubclass(found, base) and found is not base


def build(kind, name):
    """The module from the first call that works, or why none did."""
    for args, more in [CALLS[name]] if name in CALLS else [(args, {}) for args in TRIES]:
        module, why = attempt(kind, args, more)
        if module is not None:
            break
    return module, why


def attempt(kind, args, more):
    """One call: the module, or what the constructor raised."""
    try:
        return kind(*args, **more), ""
    except Exception as error:
        return None, "%s: %s" % (type(error).__name__, str(error)[:100])


def look(value):
    """Shape and dtype; what is not a tensor by its type, what has no shape yet as lazy."""
    if not hasattr(value, "dtype"):
        return type(value).__name__
    try:
        shape = "x".join(str(size) for size in value.shape) or "scalar"
    except RuntimeError:
        shape = "lazy"
    return "%s %s" % (shape, str(value.dtype).replace("torch.", ""))


def judge(reports, world):
    del world
    wrong = {number: short(report) for number, report in enumerate(reports) if report is not None and short(report)}
    if wrong or any(report is None for report in reports):
        return wrong
    order = sorted(range(len(reports)), key=lambda number: (release(reports[number]), number))
    for early, late in zip(order, order[1:]):
        same = release(reports[early]) == release(reports[late])
        problems = changes(reports[early], reports[late], same)
        if problems:
            told = "; ".join(problems[:4]) + (" and %d more" % (len(problems) - 4) if len(problems) > 4 else "")
            wrong[late] = "against %s: %s" % (reports[early]["torch"], told)
    return wrong


def short(report):
    """Why a snapshot can't be compared, or an empty text."""
    built = report.get("built", {})
    return "" if len(built) >= FEWEST else "only %d modules were built, %d are the fewest" % (len(built), FEWEST)


def release(report):
    """The release as numbers, without what a build adds."""
    import re

    return tuple(int(number) for number in re.match(r"[\d.]*\d", report["torch"]).group().split("."))


def changes(early, late, same):
    """What the later release lost or changed, module by module; of one release also what it has too much."""
    found = []
    for name, keys in early["built"].items():
        if name in ALLOWED:
            continue
        new = late["built"].get(name)
        if new is None:
            found.append("%s is gone: %s" % (name, late["refused"].get(name, "torch.nn has no such module")))
            continue
        lost = ["%s.%s" % (name, key) for key in keys if key not in new]
        added = ["%s.%s" % (name, key) for key in new if key not in keys]
        lost, added = ([key for key in each if key not in ALLOWED] for each in (lost, added))
        if lost or (same and added):
            found.append("lost %s" % ", ".join(lost) + (", new %s" % ", ".join(added) if added else ""))
        found += ["%s.%s was %s, is %s" % (name, key, keys[key], new[key]) for key in keys
                  if key in new and new[key] != keys[key] and "%s.%s" % (name, key) not in ALLOWED]  # fmt: skip
    return found
