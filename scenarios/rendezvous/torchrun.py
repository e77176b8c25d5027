"""torchrun agents of different releases agree on a world and start workers that compute in it.

Every rank is a node: it runs torchrun's launcher in this process, with one worker per node, over the c10d rendezvous;
rank 0 hosts its store. A worker is a fork of the agent, so torch is not imported again. It joins the world that the
agent put into its environment and all-reduces rank + 1. Oracle: the workers' ranks are 0..n-1, each once, the world's
size is n, and every rank has the sum. Which agent reads whose rendezvous state depends on who arrives first.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks need one folder
AFTER = ("store_connect",)
RENDEZVOUS = "tcp"
STORE = ("stock",)  # the agents meet at a store that one of them hosts
NEEDS = ("torch.distributed.launcher",)
PATIENCE = 10
TIERS = ("critical", "full")
GUARD = ("off",)
WARM = ("torch.distributed.launcher.api", "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend")

QUICK = 0.02  # seconds between looks at a worker; the launcher's own choice would be 5


def worker(seconds):
    """Runs as the agent's child; what it returns goes back to the agent."""
    import datetime as dt
    import os

    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method="env://", timeout=dt.timedelta(seconds=seconds))
    tensor = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(tensor)
    # The worker of the store's host leaves last, told by a file that needs no store.
    return [dist.get_rank(), dist.get_world_size(), int(tensor), os.environ.get("TORCHELASTIC_RUN_ID")]


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
    import torchskew_kit as kit
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    job.phase("rendezvous")
    config = LaunchConfig(
        min_nodes=job.world_size,
        max_nodes=job.world_size,
        nproc_per_node=1,
        run_id="torchskew",
        rdzv_backend="c10d",
        rdzv_endpoint="%s:%d" % (job.host, job.port),
        rdzv_configs={
            "is_host": job.rank == 0,
            "timeout": max(1, int(job.timeout)),
            "join_timeout": max(1, int(job.timeout)),
            "last_call_timeout": 1,
            "read_timeout": max(1, int(job.timeout)),
        },
        start_method="fork",
        max_restarts=0,
        monitor_interval=QUICK,
    )
    given = list(elastic_launch(config, worker)(job.timeout).values())
    job.phase("teardown")
    kit.host_leaves_last(job)
    return {"worker": given[0]}


def judge(reports, world):
    total = world.size * (world.size + 1) // 2
    wrong = {}
    for rank, report in enumerate(reports):
        if report is None:
            continue
        place, *rest = report["worker"]
        if rest != [world.size, total, "torchskew"] or place not in range(world.size):
            wrong[rank] = "its worker reported %s, expected [a rank, %d, %d, 'torchskew']" % (
                report["worker"], world.size, total,
            )  # fmt: skip
    places = [report["worker"][0] for report in reports if report]
    if len(set(places)) < len(places):
        wrong.setdefault(places.index(places[-1]), "two workers were given one rank: %s" % places)
    return wrong
