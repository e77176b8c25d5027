"""Every public optimizer goes on in another release from the state that one release saved.

Rank 0 trains a matrix in float64 for three steps with each optimizer of torch.optim, saves parameters and states with
torch.save, and goes on for three more. The next rank builds each optimizer with another learning rate, loads, and goes
on. The oracle is rank 0's own run, to 1e-9 (NAdam keeps a product in float32), and its learning rate. An optimizer
that a release lacks is left out by name; one that this file can't build is reported as `unknown`.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
WARM = ("torch._dynamo",)
STEPS, BOUND, RATE = 3, 1e-9, 0.05
SETTINGS = {
    "ASGD": {},
    "Adadelta": {"weight_decay": 0.1},
    "Adafactor": {},
    "Adagrad": {"lr_decay": 0.1},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1},
    "Adamax": {},
    "LBFGS": {"max_iter": 2},
    "Muon": {},
    "NAdam": {"weight_decay": 0.1},
    "RAdam": {},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Rprop": {},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "SparseAdam": {},
}


def built(name, rate):
    """A parameter and its optimizer."""
    import torch

    start = [[1.0, -2.0], [0.5, 3.0]]
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return parameter, getattr(torch.optim, name)([parameter], lr=rate, **SETTINGS[name])


def train(name, parameter, optimizer):
    """Three steps towards a goal; returns the parameter."""
    import torch

    goal = torch.tensor([[0.0, 1.0], [0.25, -4.0]], dtype=torch.float64)

    def loss():
        optimizer.zero_grad()
        distance = ((parameter - goal) ** 2).sum() / 2
        distance.backward()
        if name == "SparseAdam":
            parameter.grad = parameter.grad.to_sparse()
        return distance

    for _ in range(STEPS):
        optimizer.step(loss)
    return parameter.detach().reshape(-1).tolist()


def lacks(job):
    import torch
    from torchskew_kit import refusal

    del job
    return {
        name: "torch.optim has no %s" % name
        if not hasattr(torch.optim, name)
        else refusal(lambda name=name: train(name, *built(name, RATE)))
        for name in SETTINGS
        if not hasattr(torch.optim, name) or refusal(lambda name=name: train(name, *built(name, RATE)))
    }


def rank(job):
    import torch

    public = [name for name, each in vars(torch.optim).items() if isinstance(each, type)]
    report = {"cases": {}, "unknown": sorted(set(public) - set(SETTINGS) - {"Optimizer"})}
    for name in SETTINGS:
        if job.skipped(name):
            continue
        path = job.path(name + ".pt")
        parameter, optimizer = built(name, RATE if job.rank == 0 else 9 * RATE)
        if job.rank == 0:
            train(name, parameter, optimizer)
            torch.save({"parameter": parameter.detach(), "optimizer": optimizer.state_dict()}, path)
        else:
            saved = torch.load(path, weights_only=True)
            with torch.no_grad():
                parameter.copy_(saved["parameter"])
            optimizer.load_state_dict(saved["optimizer"])
        report["cases"][name] = [optimizer.param_groups[0]["lr"], *train(name, parameter, optimizer)]
    return report


def judge(reports, world):
    from torchskew.judging.oracle import near

    return near(reports, world, SETTINGS, BOUND)
