"""Every rank ends with the mean of all ranks' gradients, whatever release each of them runs.

Rank r has gradients of r + 1; the oracle is the mean of 1 to n.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
TIERS = ("smoke", "critical", "full")


def rank(job):
    import torch
    from flock.average import average_gradients

    job.rendezvous()
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 1 << 16, 5)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, job.rank + 1.0)
    average_gradients(parameters)
    return {"means": sorted({float(value) for each in parameters for value in each.grad.unique()})}


def judge(reports, world):
    mean = (world.size + 1) / 2
    return {
        number: "the means are {}, right is {}".format(report["means"], mean)
        for number, report in enumerate(reports)
        if report is not None and report["means"] != [mean]
    }
