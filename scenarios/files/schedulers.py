"""Every public schedule of the learning rate goes on in another release from the state that one release saved.

Rank 0 steps each class of torch.optim.lr_scheduler three times, saves its state and its optimizer's with torch.save,
and steps it six more times. The next rank builds each with another learning rate, loads both states, and steps it six
times. The oracle is rank 0's own rates, to 1e-12. The state is read with weights_only where torch.load has it and the
writer's state holds nothing else: what a state may hold is `load_default`'s subject, so a refusal is tried once more
with weights_only=False. A schedule that a release lacks is left out by name; a class unknown to this file is reported.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
WARM = ("torch._dynamo",)
BEFORE, AFTER_SAVE, BOUND, RATE = 3, 6, 1e-12, 0.5


def factories():
    """Each class with what builds it around an optimizer."""
    from torch.optim import lr_scheduler as schedules

    def chain(optimizer):
        return [schedules.ConstantLR(optimizer, 0.5, 2), schedules.ExponentialLR(optimizer, 0.9)]

    return {
        "ChainedScheduler": lambda o: schedules.ChainedScheduler(chain(o)),
        "ConstantLR": lambda o: schedules.ConstantLR(o, 0.5, 5),
        "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 7),
        "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 4),
        "CyclicLR": lambda o: schedules.CyclicLR(o, 0.1, 1.0, step_size_up=3),
        "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
        "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
        "LinearLR": lambda o: schedules.LinearLR(o, 0.5, total_iters=8),
        "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 5, 7]),
        "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda step: 0.9),
        "OneCycleLR": lambda o: schedules.OneCycleLR(o, 1.0, total_steps=12),
        "PolynomialLR": lambda o: schedules.PolynomialLR(o, 8, 2.0),
        "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, patience=1),
        "SequentialLR": lambda o: schedules.SequentialLR(o, chain(o), [4]),
        "StepLR": lambda o: schedules.StepLR(o, 2),
    }


def built(name, rate):
    """An optimizer and its schedule."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate, momentum=0.5)
    return optimizer, factories()[name](optimizer)


def rates(name, optimizer, schedule, count):
    """The rates after each of some steps."""
    seen = []
    for _ in range(count):
        optimizer.step()
        schedule.step(1.0) if name == "ReduceLROnPlateau" else schedule.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def lacks(job):
    from torchskew_kit import refusal

    del job
    why = {name: refusal(lambda name=name: built(name, RATE)) for name in factories()}
    return {name: reason for name, reason in why.items() if reason}


def loaded(path):
    """What a file holds."""
    import pickle

    import torch

    try:
        return torch.load(path, weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, weights_only=False)


def rank(job):
    import torch
    from torch.optim import lr_scheduler

    public = {name for name in getattr(lr_scheduler, "__all__", ()) if name not in ("LRScheduler", "EPOCH_DEPRECATION")}
    report = {"cases": {}, "unknown": sorted(public - set(factories()))}
    for name in factories():
        if job.skipped(name):
            continue
        path = job.path(name + ".pt")
        optimizer, schedule = built(name, RATE if job.rank == 0 else RATE / 5)
        if job.rank == 0:
            rates(name, optimizer, schedule, BEFORE)
            torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, path)
        else:
            saved = loaded(path)
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        report["cases"][name] = rates(name, optimizer, schedule, AFTER_SAVE)
    return report


def judge(reports, world):
    from torchskew.judging.oracle import near

    return near(reports, world, ("StepLR", "OneCycleLR", "LambdaLR", "ChainedScheduler"), BOUND)
