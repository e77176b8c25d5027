"""Two ranks of a node by torch.multiprocessing.spawn."""

import os

import torch.multiprocessing as mp
from plain import train


def rank(number: int) -> None:
    """One of the two."""
    os.environ["RANK"] = str(2 * int(os.environ["NODE_RANK"]) + number)
    train()


if __name__ == "__main__":
    mp.spawn(rank, nprocs=2)
