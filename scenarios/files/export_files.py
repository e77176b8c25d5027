"""A program exported by torch.export computes the same results in another release.

Rank 0 exports a module with a weight and a data-independent program, and saves it with torch.export.save. The next
rank loads it and calls it on two inputs. The oracle is the same arithmetic on Python numbers. The files carry a
schema version, and a release that refuses one says so.
"""

KIND = "handover"
NEEDS = ("torch.export",)
APPLIES = ">=2.1"
TIERS = ("full",)
WARM = ("torch.export", "torch._dynamo", "torch._export")

WEIGHT, INPUTS = [2.0, -3.0, 0.5], [[1.0, 2.0, 3.0], [-4.0, 1.0, 0.0]]


def saved(path):
    """Export and save; returns nothing."""
    import torch

    class Program(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(WEIGHT))

        def forward(self, x):
            return torch.relu(x * self.weight) + x.sum()

    torch.export.save(torch.export.export(Program(), (torch.tensor(INPUTS[0]),)), path)


def lacks(job):
    import tempfile

    from torchskew_kit import refusal

    with tempfile.TemporaryDirectory() as folder:
        why = refusal(lambda: saved(folder + "/program.pt2"))
    return {"*": why} if why else {}


def rank(job):
    import torch

    path = job.path("program.pt2")
    if job.rank == 0:
        saved(path)
        return {}
    program = torch.export.load(path)
    call = program.module() if hasattr(program, "module") else program
    return {"cases": {str(one): call(torch.tensor(one)).tolist() for one in INPUTS}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    def computed(numbers):
        return [max(x * w, 0.0) + sum(numbers) for x, w in zip(numbers, WEIGHT)]

    return compare([None, *reports[1:]], world, lambda rank: {str(one): computed(one) for one in INPUTS})
