"""One rank on each of Ray's nodes by Ray Train; started on the first node, ends when all ranks have."""

import os
import time

import ray
import torch
import torch.distributed as dist
from plain import report
from ray.train import ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

PATIENCE = 60.0  # seconds for the head, and then for the other nodes


def rank() -> None:
    """Ray has formed the group."""
    value = torch.ones(1) * (dist.get_rank() + 1)
    dist.all_reduce(value)
    report(float(value))


def join() -> None:
    """Become the job's driver as soon as the head answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            ray.init(address=os.environ["RAY_AT"])
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    join()
    until = time.monotonic() + PATIENCE
    while sum(node["Alive"] for node in ray.nodes()) < int(os.environ["NODES"]) and time.monotonic() < until:
        time.sleep(0.2)
    scaling = ScalingConfig(num_workers=int(os.environ["NODES"]), resources_per_worker={"CPU": 1})
    TorchTrainer(rank, torch_config=TorchConfig(backend="gloo", timeout_s=60), scaling_config=scaling).fit()
