"""No import, training step or group of two takes more memory in one release than in another by more than the bound.

The peak of resident memory, of fresh processes, as the kernel counts it (`VmHWM`; `ru_maxrss` also counts what the
process was before it became Python): `import` of torch and its distributed part; `step`, a training step of a fixed
model; `ddp`, the same in a group of two, the larger of both. Each release is measured several times, once for all cells
of a run, and the processes that do the step also say what their import took; the change is that of the medians, with a
bootstrap interval of 95 %. Oracle: rank 0's release. WRONG on rank 1: the whole interval is above the bound (5 %, or
`larger` in [gate]). `cuda` is max_memory_allocated of the step, where there is a GPU. A build for CUDA loads more than
one for the CPU alone: two builds of different kinds are UNSUPPORTED, with both named. Other cells run meanwhile: the
peaks of `import` and `step` hardly depend on them; that of `ddp` varies by some per cent on a busy machine.
"""

KIND = "handover"
WORLD = (2, 2)
TIERS = ("full",)
PATIENCE = 180.0
UPGRADE = True

LARGER = 0.05
TIMES = 3  # the peak of one release varies by less than 1 %
VARIANTS = {name: {"params": {"larger": LARGER}} for name in ("import", "step", "ddp", "cuda")}
PEAK = """
def say_peak(what):
    with open("/proc/self/status") as status:
        print(what, next(line for line in status if line.startswith("VmHWM:")).split()[1])
"""
IMPORT = PEAK + "import torch, torch.distributed\nsay_peak('import')\n"
STEP = """
import sys
device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)]).to(device)
group = len(sys.argv) > 2 and sys.argv[1] != "-"
if group:
    torch.distributed.init_process_group("gloo", init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
data = torch.randn(2048, 512, device=device)
for _ in range(2):
    optimizer.zero_grad()
    model(data).square().mean().backward()
    optimizer.step()
if device == "cuda":
    print("allocated", torch.cuda.max_memory_allocated())
if group:
    torch.distributed.destroy_process_group()
"""


def started(code, *words):
    """A fresh interpreter that runs code and then says what its peak was."""
    import subprocess
    import sys

    code = PEAK + code + "\nsay_peak('peak')\n"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True
    )


def told(process):
    """Wait for it; each number that it printed, by the word before it."""
    output, errors = process.communicate()
    if process.returncode:
        text = errors.decode(errors="replace")[-1000:]
        raise RuntimeError("the measured process ended with status %d: %s" % (process.returncode, text))
    lines = [line.split() for line in output.decode().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


def peak(process):
    """Wait for it; its peak of resident memory in bytes."""
    return told(process)["peak"] * 1024


def measured(job, number):
    """One measurement of what this variant's processes show: bytes, by variant."""
    if job.variant == "cuda":
        return {"cuda": told(started(IMPORT + STEP, "-", "0", "cuda"))["allocated"]}
    if job.variant == "ddp":
        meet = "file://" + job.path("group%d" % number)
        return {"ddp": max([peak(each) for each in [started(IMPORT + STEP, meet, str(rank)) for rank in range(2)]])}
    found = told(started(IMPORT + STEP))
    return {"import": found["import"] * 1024, "step": found["peak"] * 1024}


def sizes(job):
    """Every measurement of this release, in bytes; the first cell that asks measures for all of a run."""
    import json
    import os

    from torchskew_kit import made_once

    def measure(folder):
        found = repeated(job)
        with open(os.path.join(folder, "found.json"), "w") as file:
            json.dump(found, file)

    what = "alone" if job.variant in ("import", "step") else job.variant
    with open(os.path.join(made_once("memory " + what, measure), "found.json")) as file:
        return [each[job.variant] for each in json.load(file)]


def repeated(job):
    """The measurements one after another, where this machine is fast enough for them."""
    import time

    began, found = time.monotonic(), []
    for number in range(TIMES):
        found.append(measured(job, number))
        took = (time.monotonic() - began) / len(found)
        if took * TIMES > 1.5 * job.timeout:  # the machine's fault: UNKNOWN, and no HANG
            job.prevented("a process took %.0f s on this machine, too long for %d of them" % (took, TIMES))
    return found


def lacks(job):
    import torch

    return {} if torch.cuda.is_available() else {"cuda": "there is no GPU that this torch can use"}


def rank(job):
    from torchskew_kinds import need_one_kind

    if job.skipped(job.variant):
        job.unsupported(job.skip[job.variant])
    need_one_kind(job, range(job.rank))
    return {"bytes": sizes(job)}


def judge(reports, world):
    from dataclasses import replace

    from torchskew.judging.intervals import change_of_medians, opinion

    if None in reports:
        return {}
    values = [report["bytes"] for report in reports]
    short = {n: "it measured %d times of %d" % (len(v), TIMES) for n, v in enumerate(values) if len(v) != TIMES}
    if short:
        return short
    found = opinion(change_of_medians(*values, world.seed), world.params["larger"], ("larger", "smaller"))
    sizes = " (%s MB)" % " then ".join("{:,}".format(sorted(each)[TIMES // 2] // 1000000) for each in values)
    wrong = {rank: why + sizes for rank, why in found.wrong.items()}
    note, undecided = (text + sizes if text else "" for text in (found.note, found.undecided))
    return replace(found, wrong=wrong, note=note, undecided=undecided)
