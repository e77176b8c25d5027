"""Averages of weights and the scale of gradients go on in another release from the state that one release saved.

Rank 0 trains a layer in float64 for three steps, saves with torch.save, and goes on for three more; the next rank
loads and goes on. `swa` and `ema`: AveragedModel of torch.optim.swa_utils with its mean and with a moving average, over
parameters and buffers; `swa_lr`: the rates of SWALR; `scaler`: the scale of GradScaler after steps with and without an
overflow. The oracle is rank 0's own run, to 1e-12.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
WARM = ("torch._dynamo", "torch.optim.swa_utils")
VARIANTS = {"swa": {}, "ema": {}, "swa_lr": {}, "scaler": {}}
STEPS, BOUND = 3, 1e-12


class Training:
    """A layer with a buffer, its optimizer, and what is kept beside it."""

    def __init__(self, variant, rank):
        import torch
        from torch.optim import swa_utils

        torch.manual_seed(rank)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1 + 0.2 * rank, momentum=0.5)
        self.beside = {
            "swa": lambda: swa_utils.AveragedModel(self.model, use_buffers=True),
            "ema": lambda: swa_utils.AveragedModel(self.model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.75)),
            "swa_lr": lambda: swa_utils.SWALR(self.optimizer, swa_lr=0.02, anneal_epochs=5),
            "scaler": lambda: torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2),
        }[variant]()
        self.variant = variant

    def parts(self):
        """What is saved, by name."""
        return {"model": self.model, "optimizer": self.optimizer, "beside": self.beside}

    def steps(self):
        """Take some steps; returns what the part beside the model holds after each."""
        return [value for number in range(STEPS) for value in self.step(number)]

    def step(self, number):
        """One step; returns what the part beside the model holds after it."""
        import torch

        self.optimizer.zero_grad()
        rows = torch.arange(12, dtype=torch.float64).reshape(4, 3) ** 0.5 + number
        loss = ((self.model(rows) - 1) ** 2).mean()
        if self.variant == "scaler":
            self.beside.scale(loss * (float("inf") if number == 1 else 1.0)).backward()
            self.beside.step(self.optimizer)
            self.beside.update()
            return [self.beside.get_scale()]
        loss.backward()
        self.optimizer.step()
        if self.variant == "swa_lr":
            self.beside.step()
            return [self.optimizer.param_groups[0]["lr"]]
        self.beside.update_parameters(self.model)
        return [value for each in self.beside.state_dict().values() for value in each.reshape(-1).double().tolist()]


def lacks(job):
    from torchskew_kit import refusal

    del job
    why = {variant: refusal(lambda variant=variant: Training(variant, 0).steps()) for variant in VARIANTS}
    return {variant: reason for variant, reason in why.items() if reason}


def rank(job):
    import torch

    job.need(job.variant)
    path = job.path("training.pt")
    training = Training(job.variant, job.rank)
    if job.rank == 0:
        training.steps()
        torch.save({name: part.state_dict() for name, part in training.parts().items()}, path)
    else:
        saved = torch.load(path, weights_only=False)
        for name, part in training.parts().items():
            part.load_state_dict(saved[name])
    return {"cases": {job.variant: training.steps()}}


def judge(reports, world):
    from torchskew.judging.oracle import near

    first = reports[0]
    if first is not None and len(set(next(iter((first.get("cases") or {"": []}).values())))) < 2:
        return {0: "rank 0's numbers did not change from step to step"}
    return near(reports, world, (), BOUND)
