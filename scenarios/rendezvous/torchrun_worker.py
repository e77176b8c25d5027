"""A worker of one release runs under a torchrun agent of another.

Rank 0 is a torchrun agent that starts one worker per other rank. These workers are small programs without torch that
write their environment into a file and wait. Each of the other ranks, with its own release, takes one of these
environments and acts as the worker: it joins the world by env:// and all-reduces rank + 1. Since 2.5 an agent may
serve the workers' store itself. The oracle is the sum, and that each place was given once.
"""

KIND = "group"
NEEDS = ("torch.distributed.launcher",)
RENDEZVOUS = "none"
PATIENCE = 10
TIERS = ("full",)
GUARD = ("off",)
WARM = ("torch.distributed.launcher.api", "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend")

QUICK = 0.02
# What a worker gets from its agent; the program of the agent's child, for any Python.
PROGRAM = """
import json, os, sys, time
folder, seconds = sys.argv[1], float(sys.argv[2])
local = os.environ["LOCAL_RANK"]
families = ("MASTER_", "TORCHELASTIC_", "GROUP_", "ROLE_", "LOCAL_", "RANK", "WORLD_SIZE")
given = {name: value for name, value in os.environ.items() if name.startswith(families)}
place = os.path.join(folder, "worker " + local)
with open(place + ".part", "w") as file:
    json.dump(given, file)
os.replace(place + ".part", place)
until = time.monotonic() + 1.5 * seconds
while not os.path.exists(os.path.join(folder, "done " + local)) and time.monotonic() < until:
    time.sleep(0.01)
"""


def lacks(job):
    from torchskew_kit import refusal

    def imported():
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: F401

    def hosted():  # the way the rendezvous does it, whatever USE_LIBUV says
        import datetime as dt

        import torch.distributed as dist

        dist.TCPStore(job.host, 0, 1, True, dt.timedelta(seconds=job.timeout))

    why = refusal(imported) or refusal(hosted)
    return {"*": why} if why else {}


def rank(job):
    if job.rank == 0:
        return agent(job)
    import datetime as dt
    import os

    import torch
    import torch.distributed as dist

    job.phase("rendezvous")
    os.environ.update(job.fetch("worker %d" % (job.rank - 1)))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        at_home(job)
    dist.init_process_group("gloo", init_method="env://", timeout=dt.timedelta(seconds=job.timeout))
    job.phase("run")
    tensor = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(tensor)
    told = {"place": dist.get_rank(), "size": dist.get_world_size(), "sum": int(tensor)}
    job.post("summed %d" % (job.rank - 1), True)
    for one in range(job.world_size - 1):  # nobody leaves while another may still need the store
        job.fetch("summed %d" % one)
    dist.destroy_process_group()
    job.post("done %d" % (job.rank - 1), True)
    return told


def at_home(job):
    """The first worker hosts the store, and lives at another address than its agent."""
    import os
    import socket

    if os.environ["RANK"] == "0":
        own = job.host if job.host.startswith("127.") else socket.gethostbyname(socket.gethostname())
        job.post("address", own)
    os.environ["MASTER_ADDR"] = job.fetch("address")


def agent(job):
    """Start the programs and wait for their end."""
    import sys

    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    job.phase("run")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.world_size - 1,
        run_id="torchskew",
        rdzv_backend="c10d",
        rdzv_endpoint="%s:%d" % (job.host, job.port),
        rdzv_configs={
            "is_host": True,
            "timeout": max(1, int(job.timeout)),
            "last_call_timeout": 1,
        },
        max_restarts=0,
        monitor_interval=QUICK,
    )
    program = job.path("program.py")
    with open(program, "w") as file:
        file.write(PROGRAM)
    elastic_launch(config, sys.executable)("-S", program, job.path(""), str(job.timeout))
    return {}


def judge(reports, world):
    workers, wrong = world.size - 1, {}
    for rank, report in enumerate(reports[1:], 1):
        right = {"size": workers, "sum": workers * (workers + 1) // 2}
        got = {name: (report or {}).get(name) for name in right}
        if report is not None and got != right:
            wrong[rank] = "it reported %s, expected %s" % (got, right)
    places = [report.get("place") for report in reports[1:] if report]
    if None not in reports and sorted(map(str, places)) != [str(one) for one in range(workers)]:
        wrong[1] = "the places were %s" % places
    return wrong
