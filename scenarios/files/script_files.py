"""A program saved as TorchScript computes the same results in another release.

Rank 0 scripts a module with a weight, a buffer, a branch and a loop, and saves it with torch.jit.save. The next rank
loads it and calls it on three inputs, one for each path through the branch. The oracle is the same arithmetic on
Python numbers.
"""

KIND = "handover"
NEEDS = ("TorchScript",)
TIERS = ("full",)

WEIGHT, INPUTS = [2.0, -3.0, 0.5], [[1.0, 2.0, 3.0], [-4.0, 1.0, 0.0], [0.0, 0.0, 0.0]]

# TorchScript compiles from a source file, which a scenario inside a rank does not have.
SOURCE = """
import torch
from typing import Dict

class Program(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(%r))
        self.register_buffer("turns", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        if bool((x.sum() > 0).item()):
            y = x * self.weight
        else:
            y = x - self.weight
        for _ in range(int(self.turns.item())):
            y = torch.relu(y) + 1
        return {"value": y}
"""


def lacks(job):
    import tempfile

    from torchskew_kit import refusal

    with tempfile.TemporaryDirectory() as folder:
        why = refusal(lambda: saved(folder + "/program.py", folder + "/program.pt"))
    return {"*": why} if why else {}


def saved(source, target):
    """Write the program's source, import it, script it, save it."""
    import importlib.util

    import torch

    with open(source, "w") as file:
        file.write(SOURCE % (WEIGHT,))
    spec = importlib.util.spec_from_file_location("torchskew_program", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.jit.save(torch.jit.script(module.Program()), target)


def rank(job):
    import torch

    path = job.path("program.pt")
    if job.rank == 0:
        saved(job.path("program.py"), path)
        return {}
    program = torch.jit.load(path)
    return {"cases": {str(one): program(torch.tensor(one))["value"].tolist() for one in INPUTS}}


def computed(numbers):
    """The program in Python."""
    positive = sum(numbers) > 0
    values = [x * w if positive else x - w for x, w in zip(numbers, WEIGHT)]
    for _ in range(3):
        values = [max(value, 0.0) + 1 for value in values]
    return values


def judge(reports, world):
    from torchskew.judging.oracle import compare

    return compare([None, *reports[1:]], world, lambda rank: {str(one): computed(one) for one in INPUTS})
