"""Under TORCH_DISTRIBUTED_DEBUG=DETAIL, matching calls succeed and a mismatch is reported on every rank.

DETAIL wraps the group: before each collective, the ranks compare what they are about to call, over a group of their
own whose wire format changed in 2.1. `alike`: every rank sums; the oracle is the sum. `mismatch`: rank 0 sums and the
others broadcast; the oracle is an error on every rank that says `mismatch`, which is the reason to use the setting.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
APPLIES = ">=1.10"
TIERS = ("full",)
DETAIL = {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}
VARIANTS = {"alike": {"env": DETAIL}, "mismatch": {"env": DETAIL}}


def rank(job):
    import torch
    import torch.distributed as dist
    from torchskew_kit import refusal

    job.rendezvous()
    number = torch.tensor([job.rank + 1])
    if job.variant == "alike":
        dist.all_reduce(number)
        return {"sum": number.item()}
    call = (lambda: dist.all_reduce(number)) if job.rank == 0 else (lambda: dist.broadcast(number, 1))
    text = refusal(call)
    job.post("told %d" % job.rank, True)
    for one in range(job.world_size):  # nobody leaves while another may still compare with it
        job.fetch("told %d" % one)
    return {"text": text}


def judge(reports, world):
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            continue
        if "text" in report and "mismatch" not in str(report["text"]).lower():
            wrong[rank] = "no mismatch was told: %s" % report["text"]
        if "text" not in report and report.get("sum") != world.size * (world.size + 1) // 2:
            wrong[rank] = "the sum is %r" % report.get("sum")
    return wrong
