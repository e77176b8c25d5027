"""The examples in the documentation of one release run in later ones as they did there.

Rank 0 runs the examples in the docstrings of its torch.nn, torch.nn.functional, torch.optim, torch.distributed and
Tensor, each docstring a case in a process of its own, with one seed. The next rank runs the same texts, since that is
the code that people copied, and its own. A release runs each text once in a run, whoever asks and whatever names it
has. Printed numbers may differ from the text, since most are random, but not their form. Oracle: what passed in the
earlier release passes in the later one, exactly where it did so there; an example that raises or prints something else
is WRONG. What needs a GPU, a network, other processes, a file, or names that the text doesn't define, and what takes
longer than ten seconds is left out with the reason, and counted. What failed at home is no promise. An older release
may lack what the examples of a newer one show: that is counted and not judged.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
PATIENCE = 240.0
UPGRADE = True
# Examples of these import them; the processes of all cases inherit them.
WARM = ("torch.nn.utils.prune", "torch.nn.utils.parametrizations", "torch.optim.swa_utils", "torch._dynamo")

MODULES = ("torch.nn", "torch.nn.functional", "torch.optim", "torch.optim.lr_scheduler", "torch.distributed")
SECONDS = 10
FEWEST = 100  # docstrings that passed; fewer would mean that the examples were not found
# What an example would need, by what its text holds.
NEEDS_ELSE = (
    ("REQUIRES(env:TORCH_DOCTEST_CUDA", "a GPU"), (".cuda(", "a GPU"), ("cuda:", "a GPU"), ('"cuda"', "a GPU"),
    ("'cuda'", "a GPU"), ("init_process_group", "other processes"), ("init_rpc", "other processes"),
    ("init_device_mesh", "other processes"), ("rank", "other processes"), ("TCPStore", "other processes"),
    ("http", "a network"), ("hub.load", "a network"), ("download", "a network"),
    ("xdoctest: +SKIP", "more than its text"), ("doctest: +SKIP", "more than its text"),
    ("torch.compile", "a compiler"),
)  # fmt: skip


def examples():
    """Name of each documented object -> its docstring, where that holds examples."""
    import importlib

    found = {}
    for place in MODULES:
        module = importlib.import_module(place)
        for name in sorted(dir(module)):
            thing = getattr(module, name, None)
            if name.startswith("_") or not callable(thing):
                continue
            where = "torch" if name == "Tensor" else place  # several modules import it
            found.setdefault("%s.%s" % (where, name), getattr(thing, "__doc__", None))
            for method in sorted(vars(thing)) if isinstance(thing, type) else ():
                if not method.startswith("_"):
                    text = getattr(getattr(thing, method, None), "__doc__", None)
                    found["%s.%s.%s" % (where, name, method)] = text
    return {name: text for name, text in found.items() if isinstance(text, str) and ">>>" in text}


def outcome(name, text):
    """What became of one docstring: "ok", "left out: why", "error: …" or "output: …"."""
    import json
    import os
    import select
    import signal

    code = "\n".join(line for line in text.splitlines() if line.lstrip().startswith((">>>", "...")))
    why = next((what for part, what in NEEDS_ELSE if part in code), None)
    if why:
        return "left out: it needs " + why
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ours)
            os.write(theirs, json.dumps(run(name, text)).encode()[:60000])
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    ready, _, _ = select.select([ours], [], [], SECONDS)
    data = os.read(ours, 65536) if ready else b""
    os.close(ours)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready:
        return "left out: it takes longer than %d seconds" % SECONDS
    return json.loads(data.decode()) if data else "error: the process ended with status %d" % status


def form(printed):
    """What is printed without its numbers and spaces: its shape and its words."""
    import re

    return re.sub(r"\s+", "", re.sub(r"[-+]?\d+\.?\d*(e[-+]?\d+)?", "#", printed))


def quiet_runner():
    """What runs the examples of a docstring: keeps the first failure, and whether only numbers differed."""
    import doctest

    class Checker(doctest.OutputChecker):
        """Takes other numbers in the same form, and remembers that it did: they may be random."""

        exact = True

        def check_output(self, want, got, flags):
            if super().check_output(want, got, flags):
                return True
            alike = super().check_output(form(want) + "\n", form(got) + "\n", flags)
            self.exact = self.exact and not alike
            return alike

    class Runner(doctest.DocTestRunner):
        """Keeps the first failure instead of printing it."""

        first = None

        def report_start(self, out, test, example):
            pass

        def report_success(self, out, test, example, got):
            pass

        def report_failure(self, out, test, example, got):
            self.first = self.first or "output: %s gave %s" % (example.source.strip()[:100], got.strip()[:100])

        def report_unexpected_exception(self, out, test, example, info):
            told = "error: %s: %s" % (info[0].__name__, str(info[1])[:150])
            self.first = told if self.first is None or self.first.startswith("output") else self.first

    checker = Checker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    return Runner(checker=checker, verbose=False, optionflags=flags), checker


def run(name, text):
    """Run the examples of one docstring in this process."""
    import doctest
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "optim": torch.optim, "dist": torch.distributed}
    try:
        test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    except ValueError as error:
        return "left out: it can't be parsed: %s" % str(error)[:100]
    runner, checker = quiet_runner()
    runner.run(test, out=lambda _: None)
    for error, what in (("NameError", "more than its text"), ("FileNotFoundError", "a file")):
        if runner.first and runner.first.startswith("error: " + error):
            return "left out: it needs " + what
    return runner.first or ("ok" if checker.exact else "ok but for numbers")


def outcomes(texts, known):
    """What became of each text, by name. known: text -> what became of it before; filled here."""
    found = {}
    for name, text in texts.items():
        if text not in known:
            known[text] = outcome(name, text)
        found[name] = known[text]
    return found


def own_examples():
    """The texts of this release and what became of each; the first cell that asks runs them for all of a run."""
    import json
    import os

    from torchskew_kit import made_once

    def run_all(folder):
        texts = examples()
        with open(os.path.join(folder, "found.json"), "w") as file:
            json.dump([texts, outcomes(texts, {})], file)

    with open(os.path.join(made_once("doctests", run_all), "found.json")) as file:
        return json.load(file)


def rank(job):
    import json

    import torch

    texts, own = own_examples()
    report = {"torch": str(torch.__version__), "own": own}
    if job.rank == 0:
        with open(job.path("examples.json"), "w") as file:
            json.dump([texts, report], file)
        return report
    with open(job.path("examples.json")) as file:
        earlier_texts, earlier = json.load(file)
    passed = {name: earlier_texts[name] for name, was in earlier["own"].items() if was.startswith("ok")}
    return dict(report, theirs=outcomes(passed, {text: own[name] for name, text in texts.items()}))


def numbers(report):
    """The release as numbers."""
    import re

    return tuple(int(each) for each in re.match(r"[\d.]*\d", report["torch"]).group().split("."))


def judge(reports, world):
    from torchskew.judging.oracle import summary
    from torchskew.planning.scenario import Opinion

    wrong, notes = {}, []
    for number, report in enumerate(reports):
        if report is None:
            continue
        passed = sum(was.startswith("ok") for was in report["own"].values())
        left_out = sum(was.startswith("left out") for was in report["own"].values())
        notes.append("%d of %d examples of %s pass, %d left out" % (
            passed, len(report["own"]), report["torch"], left_out))  # fmt: skip
        if passed < FEWEST:
            wrong[number] = "only %d examples passed, %d are the fewest" % (passed, FEWEST)
    if wrong or None in reports:
        return wrong
    theirs = reports[1]["theirs"]
    was = reports[0]["own"]
    absent = [name for name in was if was[name].startswith("ok") and name not in theirs]
    worse = [name for name, now in theirs.items()
             if now.startswith(("error", "output")) or (was[name], now) == ("ok", "ok but for numbers")]  # fmt: skip
    broken = ["%s: %s" % (name, theirs[name]) for name in worse]
    if absent:
        wrong[1] = "%d examples of %s were not run" % (len(absent), reports[0]["torch"])
    elif broken and numbers(reports[0]) <= numbers(reports[1]):
        wrong[1] = "%d examples of %s fail: %s" % (len(broken), reports[0]["torch"], summary(broken))
    elif broken:
        notes.append("%d examples of the later release fail in the earlier one" % len(broken))
    return Opinion(wrong=wrong, note="; ".join(notes))
