"""What torch.cuda.memory answers on a machine without a GPU, a later release answers as well.

Each rank calls every public function of torch.cuda.memory that needs no argument, and set_per_process_memory_fraction
with a fraction that is too large. An answer is a value (type, and what it is where it is a number or empty), an error
that says what is the matter, or an unclear one (KeyError, AttributeError, or without a text). Oracle: the answers of
the earlier release. WRONG on the rank of the later one: a function is gone, a value is another one or became an error,
a clear error became an unclear one. A build without CUDA answers otherwise than one with it: between two kinds of build
only lost functions count. What is unclear in both is in the cell's reason. With a GPU it is unsupported.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("no GPU",)
TIERS = ("full",)
PATIENCE = 30.0
FEWEST = 15  # functions called; fewer would mean that none was found
UNCLEAR = ("AttributeError", "KeyError", "NameError", "UnboundLocalError", "IndexError")
# A function that was lost on purpose -> why that is fine.
ALLOWED = {}


def lacks(job):
    import torch

    del job
    return {"*": "there is a GPU, and this is about machines without one"} if torch.cuda.is_available() else {}


def functions():
    """Name -> the call, of every public function that can be called without an argument."""
    import inspect

    from torch.cuda import memory

    found = {}
    for name, function in inspect.getmembers(memory, inspect.isfunction):
        if name.startswith("_") or inspect.unwrap(function).__module__ != memory.__name__:
            continue
        named = inspect.signature(function).parameters.values()
        if all(
            each.default is not each.empty or each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in named
        ):
            found[name] = function
    found["set_per_process_memory_fraction"] = lambda: memory.set_per_process_memory_fraction(2.0)
    return found


def answer(call):
    """What a call answered: "value", "clear" or "unclear", and what."""
    try:
        value = call()
    except Exception as error:
        text = str(error).strip()
        kind = "unclear" if type(error).__name__ in UNCLEAR or not text else "clear"
        return [kind, "%s: %s" % (type(error).__name__, text.splitlines()[0][:100] if text else "")]
    plain = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, (list, dict)) and not value)
    return ["value", "%s %r" % (type(value).__name__, value) if plain else type(value).__name__]


def rank(job):
    import warnings

    import torch

    del job
    warnings.simplefilter("ignore")
    calls = functions()
    return {
        "torch": str(torch.__version__),
        "cuda": bool(torch.version.cuda or torch.version.hip),
        "answers": {name: answer(calls[name]) for name in sorted(calls)},
    }


def judge(reports, world):
    from torchskew.planning.scenario import Opinion

    del world
    few = {
        number: "only %d functions were called, %d are the fewest" % (len(report["answers"]), FEWEST)
        for number, report in enumerate(reports)
        if report is not None and len(report["answers"]) < FEWEST
    }
    if few or None in reports:
        return few
    early, late = sorted(range(2), key=lambda number: (release(reports[number]), number))
    problems = worse(reports[early], reports[late])
    if problems:
        more = " and %d more" % (len(problems) - 4) if len(problems) > 4 else ""
        return {late: "against %s: %s%s" % (reports[early]["torch"], "; ".join(problems[:4]), more)}
    unclear = [name for name, (kind, _) in reports[late]["answers"].items() if kind == "unclear"]
    builds = "" if reports[0]["cuda"] == reports[1]["cuda"] else "; one build has CUDA and one has not"
    return Opinion(note="%d functions; unclear: %s%s" % (len(reports[late]["answers"]), ", ".join(unclear), builds))


def release(report):
    """The release as numbers, without what a build adds."""
    import re

    return tuple(int(number) for number in re.match(r"[\d.]*\d", report["torch"]).group().split("."))


def worse(early, late):
    """Each answer of the later release that is worse than that of the earlier one."""
    same_build, found = early["cuda"] == late["cuda"], []
    for name, (kind, what) in early["answers"].items():
        now = late["answers"].get(name)
        if now is None:
            if name not in ALLOWED:
                found.append("%s is gone" % name)
        elif same_build and ((kind == "value" and now != [kind, what]) or (kind == "clear" and now[0] == "unclear")):
            found.append("%s was %s, is %s" % (name, what, now[1]))
    return found
