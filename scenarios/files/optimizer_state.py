"""Training saved by one release continues in another as if it had never stopped.

Rank 0 takes three steps and saves parameters and optimizer state with torch.save. The next rank loads both and takes
three more; as a control, it also takes all six by itself. Variants are SGD with momentum, Adam and AdamW. The loss of
a step pulls each parameter to a goal, so the oracle is the published update rule in Python's floats: training in
float64 must agree with it to 1e-12 at the third and at the sixth step, resumed and control.
"""

KIND = "handover"
NEEDS = ("torch.optim",)
TIERS = ("critical", "full")
WARM = ("torch._dynamo",)
NAMES = ("SGD", "Adam", "AdamW")
VARIANTS = {name.lower(): {"params": {"name": name}} for name in NAMES}

START, GOAL = [1.0, -2.0, 0.5, 30.0], [0.0, 1.0, 0.25, -4.0]
STEPS = 3
SETTINGS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"lr": 0.05, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01},
    "AdamW": {"lr": 0.05, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1},
}
BOUND = 1e-12


def made(name):
    """A parameter and its optimizer."""
    import torch

    parameter = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return parameter, getattr(torch.optim, name)([parameter], **SETTINGS[name])


def train(parameter, optimizer, steps):
    """Take some steps towards the goal; returns the parameter."""
    import torch

    goal = torch.tensor(GOAL, dtype=torch.float64)
    for _ in range(steps):
        optimizer.zero_grad()
        (((parameter - goal) ** 2).sum() / 2).backward()
        optimizer.step()
    return parameter.detach().tolist()


def lacks(job):
    from torchskew_kit import refusal

    found = {name: refusal(lambda name=name: train(*made(name), 1)) for name in NAMES}
    if all(found.values()):
        return {"*": found["SGD"]}
    return {name.lower(): why for name, why in found.items() if why}


def rank(job):
    import torch

    job.need(job.variant)
    name, path = job.params["name"], job.path("training.pt")
    parameter, optimizer = made(name)
    if job.rank == 0:
        told = {"third": train(parameter, optimizer, STEPS)}
        torch.save({"parameter": parameter.detach(), "optimizer": optimizer.state_dict()}, path)
        return {"cases": told}
    control = train(*made(name), 2 * STEPS)
    saved = torch.load(path)
    with torch.no_grad():
        parameter.copy_(saved["parameter"])
    optimizer.load_state_dict(saved["optimizer"])
    third = parameter.detach().tolist()
    return {"cases": {"third": third, "control": control, "resumed": train(parameter, optimizer, STEPS)}}


def updated(name, steps):
    """The parameter by the published rules."""
    rule = momentum if name == "SGD" else adaptive
    return [rule(SETTINGS[name], value, goal, steps) for value, goal in zip(START, GOAL)]


def momentum(settings, start, goal, steps):
    """SGD with momentum and weight decay."""
    value, velocity = start, 0.0
    for step in range(steps):
        slope = value - goal + settings["weight_decay"] * value
        velocity = settings["momentum"] * velocity + slope if step else slope
        value -= settings["lr"] * velocity
    return value


def adaptive(settings, start, goal, steps):
    """Adam, whose decay joins the slope, and AdamW, whose decay does not."""
    value, first, second = start, 0.0, 0.0
    (one, two), decay, rate = settings["betas"], settings["weight_decay"], settings["lr"]
    apart = settings is SETTINGS["AdamW"]
    for step in range(1, steps + 1):
        slope = value - goal + (0 if apart else decay * value)
        value -= rate * decay * value if apart else 0
        first, second = one * first + (1 - one) * slope, two * second + (1 - two) * slope * slope
        value -= rate * first / (1 - one**step) / ((second / (1 - two**step)) ** 0.5 + settings["eps"])
    return value


def judge(reports, world):
    name = world.params["name"]
    right = {"third": updated(name, STEPS), "control": updated(name, 2 * STEPS), "resumed": updated(name, 2 * STEPS)}
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            continue
        for case in ("third",) if rank == 0 else ("third", "control", "resumed"):
            got = report["cases"].get(case)
            if got is None or len(got) != len(START):
                wrong[rank] = "%s is missing" % case
                break
            off = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(got, right[case]))
            if off > BOUND:
                wrong[rank] = "%s is off by %.2g, %.2g allowed" % (case, off, BOUND)
                break
    return wrong
