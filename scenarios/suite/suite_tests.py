"""The release carries PyTorch's own distributed tests, and names them.

Every test of each suite is listed with the number of ranks that it is written for. A suite that can't be imported is
listed with the reason; a release without any is unsupported. `torchskew suite` plans from these lists. The oracle:
each test is named once.
"""

KIND = "solo"
NEEDS = ("expecttest", "hypothesis", "numpy", "setuptools up to 2.6")
REQUIRES = ("expecttest", "hypothesis", "numpy", "setuptools")
WARM = ("torchskew_suite:import_distributed",)
AGENT = "suite"
PATIENCE = 60.0


def rank(job):
    import torchskew_suite as suite

    found = suite.tests()
    if not found["tests"]:
        job.unsupported("; ".join(found["lacks"].values()))
    return found


def judge(reports, world):
    wrong = {}
    for rank, report in enumerate(reports):
        names = [tuple(test[:2]) for test in report["tests"]]
        if len(set(names)) < len(names):
            wrong[rank] = "it names a test twice"
    return wrong
