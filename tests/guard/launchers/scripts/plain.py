"""A rank of any launcher that sets the environment: it forms a group, sums over it, and says so."""

import datetime as dt
import os
import sys


def train() -> None:
    """One rank."""
    import torch
    import torch.distributed as dist

    os.environ.setdefault("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    os.environ.setdefault("WORLD_SIZE", os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    dist.init_process_group("gloo", timeout=dt.timedelta(seconds=60))
    value = torch.ones(1) * (dist.get_rank() + 1)
    dist.all_reduce(value)
    report(float(value))
    dist.destroy_process_group()


def report(total: float) -> None:
    """One whole line: ranks share their output."""
    import torch
    import torch.distributed as dist

    guarded = hasattr(dist.init_process_group, "torchskew_guard")
    where = f"rank {dist.get_rank()} of {dist.get_world_size()} sum {total} torch {torch.__version__}"
    sys.stdout.write(f"\ntrained {where} {'guarded' if guarded else 'unguarded'}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    train()
