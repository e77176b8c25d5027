"""A training that was saved by one release goes on under another from the same step and the same numbers.

The first rank trains and saves, the next one resumes; the oracle is what the first rank reported.
"""

KIND = "handover"
TIERS = ("critical", "full")


def rank(job):
    import tasks
    import torch
    from flock import files

    model = torch.nn.Linear(2, 1)
    if job.rank == 0:
        torch.manual_seed(job.seed)
        model = torch.nn.Linear(2, 1)
        files.save(job.path("state.pt"), model, step=5)
        return {"step": 5, "numbers": tasks.numbers(model)}
    return {"step": files.load(job.path("state.pt"), model), "numbers": tasks.numbers(model)}


def judge(reports, world):
    if reports[0] is None:
        return {}
    return {
        number: f"resumed {report}, saved was {reports[0]}"
        for number, report in enumerate(reports)
        if report is not None and report != reports[0]
    }
