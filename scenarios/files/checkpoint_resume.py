"""Training saved with torch.distributed.checkpoint resumes in another release, as its documentation shows it.

Rank 0 trains, saves, and goes on; the next rank loads with another seed and goes on from there. `adam`, `adamw` and
`sgd`: get_state_dict, dcp.save, dcp.load, set_state_dict; `app_state` does the same inside a Stateful object, as the
recipe does. `adamw_partial` and `adamw_plain` are the remedies for a release that adds a setting to an optimizer: a
load with DefaultLoadPlanner(allow_partial_load=True), and the same state through torch.save. `scheduler` saves the
state dict of a StepLR beside them, key by key; `scheduler_text`, its remedy, as one text. `stateful` and `nested`
save an epoch, a learning rate, text, lists, tuples and nested dicts, in a Stateful object and in a plain dict. The
oracle is what rank 0 saved, and its own parameters three steps later: equal to 1e-12 in float64.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("torch.distributed.checkpoint.state_dict",)
APPLIES = ">=2.2"
TIERS = ("critical", "full")
WARM = ("torch.distributed.checkpoint.state_dict", "torch._dynamo")
VARIANTS = {
    "adam": {"params": {"optimizer": "Adam"}},
    "adamw": {"params": {"optimizer": "AdamW"}},
    "sgd": {"params": {"optimizer": "SGD"}},
    "app_state": {"params": {"optimizer": "AdamW"}},
    "adamw_partial": {"params": {"optimizer": "AdamW"}},
    "adamw_plain": {"params": {"optimizer": "AdamW"}},
    "scheduler": {"params": {"optimizer": "SGD", "schedule": "keys"}},
    "scheduler_text": {"params": {"optimizer": "SGD", "schedule": "text"}},
    "stateful": {},
    "nested": {},
}

SETTINGS = {
    "Adam": {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1},
    "AdamW": {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1},
    "SGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
}
FRESH = {"lr": 0.5, "weight_decay": 0.7}
STEPS = 3
BOUND = 1e-12
PROGRESS = {"epoch": 7, "rate": 0.125, "name": "a run", "losses": [3.0, 2.5, 2.25], "shape": [4, 8],
            "inner": {"list": [{"best": 5}, 6], "flag": True}}  # fmt: skip


def progress(fresh):
    """What a run says of itself; fresh: the same places, holding nothing that was saved. `shape` is a tuple."""

    def blank(value):
        if isinstance(value, dict):
            return {name: blank(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [blank(inner) for inner in value]
        return type(value)()

    state = blank(PROGRESS) if fresh else dict(PROGRESS)
    return dict(state, shape=tuple(state["shape"]))


class Progress:
    """A Stateful object: state_dict and load_state_dict are all that a checkpoint asks for."""

    def __init__(self, fresh):
        self.state = progress(fresh)

    def state_dict(self):
        """What is saved."""
        return self.state

    def load_state_dict(self, state):
        """Take what was loaded."""
        self.state = state


class Training:
    """A layer, its optimizer and its steps; Stateful, as the AppState of the recipe."""

    def __init__(self, params, fresh):
        import torch

        name, self.schedule = params["optimizer"], params.get("schedule")

        torch.manual_seed(1 if fresh else 0)
        self.model = torch.nn.Linear(3, 2).double()
        settings = dict(SETTINGS[name], **(FRESH if fresh else {}))
        self.optimizer = getattr(torch.optim, name)(self.model.parameters(), **settings)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 9 if fresh else 2, 0.5)

    def steps(self):
        """Take some steps; returns the parameters."""
        import torch

        for number in range(STEPS):
            self.optimizer.zero_grad()
            rows = torch.arange(6, dtype=torch.float64).reshape(2, 3) + number
            (self.model(rows) ** 2).mean().backward()
            self.optimizer.step()
            if self.schedule:
                self.scheduler.step()
        return [value for each in self.model.parameters() for value in each.detach().reshape(-1).tolist()]

    def state_dict(self):
        """The state of both, under the names of the parameters."""
        import json

        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self.model, self.optimizer)
        state, schedule = {"model": model, "optim": optimizer}, self.scheduler.state_dict()
        if self.schedule:
            state["scheduler"] = json.dumps(schedule) if self.schedule == "text" else schedule
        return state

    def load_state_dict(self, state):
        """Take what state_dict gave."""
        import json

        from torch.distributed.checkpoint.state_dict import set_state_dict

        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"])
        if self.schedule:
            schedule = state["scheduler"]
            self.scheduler.load_state_dict(json.loads(schedule) if self.schedule == "text" else schedule)

    def shown(self):
        """The parameters, the settings and how far the optimizer counted."""
        group = self.optimizer.param_groups[0]
        counts = [float(state["step"]) for state in self.optimizer.state.values() if "step" in state]
        settings = {name: group[name] for name in ("lr", "betas", "momentum", "weight_decay") if name in group}
        parameters = [value for each in self.model.parameters() for value in each.detach().reshape(-1).tolist()]
        if self.schedule:
            settings.update(every=self.scheduler.step_size, epoch=self.scheduler.last_epoch)
        return {"parameters": parameters, "settings": settings, "counts": counts}


def lacks(job):
    """Return what this version says to a checkpoint of its own."""
    import tempfile

    from torchskew_kit import refusal

    def alone():
        save({"run": Progress(fresh=False)}, folder)

    job.rendezvous()
    with tempfile.TemporaryDirectory() as folder:
        why = refusal(alone)
    return {"*": why} if why else {}


def save(state, folder):
    import torch.distributed.checkpoint as dcp

    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))


def load(state, folder, **options):
    """Read; an error begins with its cause, which is the last line of torch's text."""
    import torch.distributed.checkpoint as dcp

    try:
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder), **options)
    except BaseException as error:  # torch's CheckpointException is no Exception
        lines = str(error).strip().splitlines() or [""]
        raise RuntimeError("%s: %s\n%s" % (type(error).__name__, lines[-1], error)) from None


def partial(job):
    """The planner that leaves alone what a checkpoint lacks; it came with 2.4."""
    import inspect

    from torch.distributed.checkpoint import DefaultLoadPlanner

    if "allow_partial_load" not in inspect.signature(DefaultLoadPlanner.__init__).parameters:
        job.unsupported("DefaultLoadPlanner has no allow_partial_load")
    return DefaultLoadPlanner(allow_partial_load=True)


def rank(job):
    import torch.distributed as dist

    # Without any group 2.2 can save but not load.
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    fresh, path = job.rank > 0, job.path("checkpoint")
    if job.variant in ("stateful", "nested"):
        return {"cases": told(job.variant, fresh, path)}
    training = Training(job.params, fresh)
    if fresh:
        take_up(job, training, path)
    else:
        training.steps()
        put_down(training, job.variant, path)
    return {"cases": dict(training.shown(), later=training.steps())}


def told(variant, fresh, path):
    """The progress that was saved, or that came back."""
    state = {"run": Progress(fresh) if variant == "stateful" else progress(fresh)}
    (load if fresh else save)(state, path)
    run = state["run"]
    return dict(run.state if variant == "stateful" else run)


def put_down(training, variant, path):
    import torch

    if variant == "adamw_plain":
        torch.save(training.state_dict(), path)
    elif variant == "app_state":
        save({"app": training}, path)
    else:
        save(training.state_dict(), path)


def take_up(job, training, path):
    import torch

    if job.variant == "adamw_plain":
        training.load_state_dict(torch.load(path, weights_only=True))
    elif job.variant == "app_state":
        load({"app": training}, path)
    else:
        state = training.state_dict()
        load(state, path, **({"planner": partial(job)} if job.variant == "adamw_partial" else {}))
        training.load_state_dict(state)


def judge(reports, world):
    from torchskew.judging.oracle import compare, differences, plain, summary

    if "optimizer" not in world.params:
        return compare(reports, world, lambda rank: PROGRESS)
    first = reports[0]
    if first is None:
        return {}
    saved = dict(first["cases"])
    wanted = saved.pop("later")
    wrong = {}
    if len(wanted) != 8 or wanted == saved["parameters"]:
        wrong[0] = "its parameters did not move after it saved them"
    for rank, report in enumerate(reports[1:], 1):
        if report is None:
            continue
        cases = dict(report["cases"])
        later = cases.pop("later", [])
        problems = differences(cases, plain(saved), {})
        off = max((abs(a - b) for a, b in zip(later, wanted)), default=0.0)
        if len(later) != len(wanted) or off > BOUND:
            problems.append("three steps later it is off by %.2g, %.2g allowed" % (off, BOUND))
        if problems:
            wrong[rank] = summary(problems)
    return wrong
