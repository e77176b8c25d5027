"""One release, one-sided settings: real crashes, hangs, timeouts and opaque errors get the right class on the right rank.

These are the faults that prove the harness's own classes: rank 0 has a setting that rank 1 lacks, or the other way
round. Each rank meets the others and sums a number. Oracle: the sum. What each variant comes to was measured on 2.13.0
(docs/compatibility.md); the control has the setting nowhere and must be right.
"""

KIND = "group"
WORLD = (2, 2)
SAME = True
APPLIES = ">=2.8"
GUARD = ("off",)
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
VARIANTS = {
    "control": {"predicted": ["OK", "OK"]},
    "lazy_init": {"rank_env": {"0": {"TORCH_GLOO_LAZY_INIT": "1"}}, "predicted": ["HANG", "CRASH"]},
    "lazy_init_joiner": {"rank_env": {"1": {"TORCH_GLOO_LAZY_INIT": "1"}}, "predicted": ["CRASH", "HANG"]},
    "rank_as_sequence": {
        "rank_env": {"0": {"GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER": "1"}},
        "predicted": ["OPAQUE", "CRASH"],
    },
    "debug_detail": {"rank_env": {"0": {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}}, "predicted": ["TIMEOUT", "TIMEOUT"]},
    "init_barrier": {"rank_env": {"0": {"TORCH_DIST_INIT_BARRIER": "1"}}, "predicted": ["TIMEOUT", "CRASH"]},
}


def rank(job):
    import torch
    import torch.distributed as dist

    job.rendezvous()
    number = torch.tensor([job.rank + 1.0])
    dist.all_reduce(number)
    return {"sum": float(number)}


def judge(reports, world):
    right = {"sum": world.size * (world.size + 1) / 2}
    return {
        rank: "%r instead of %r" % (report, right)
        for rank, report in enumerate(reports)
        if report is not None and report != right
    }
