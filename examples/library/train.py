"""Trains a line: `torchrun train.py --steps 5`, or one process for each rank with a launcher's variables."""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from flock.training import Trainer


class Progress:
    """A class of the script itself, which its files name as `__main__.Progress`."""

    def __init__(self, step, loss):
        self.step, self.loss = step, loss


def batch(step):
    """Points of y = 2x + 1; every rank has its own."""
    x = torch.linspace(step, step + 1, 8).reshape(-1, 1) / (1 + dist.get_rank())
    return x / 10, 2 * x / 10 + 1


def count_lines(path, answer):
    """Runs in a process of its own, as a loader's workers do."""
    answer.put(len(Path(path).read_text().splitlines()))


def lines_of(path):
    """How many lines a file has, counted by a spawned process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    worker = context.Process(target=count_lines, args=(path, answer))
    worker.start()
    lines = answer.get()
    worker.join()
    return lines


def main():
    """Train, and leave a file with what a launcher told this rank."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--spawn", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    if options.steps < 1:
        print("nothing to train", file=sys.stderr)
        sys.exit(3)
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    trainer = Trainer(torch.nn.Linear(1, 1), batch)
    loss = trainer.train(options.steps)
    rank = dist.get_rank()
    torch.save(Progress(trainer.step, loss), options.out / f"progress-{rank}.pt")
    told = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")}
    lines = lines_of(__file__) if options.spawn and told["LOCAL_RANK"] == "0" else 0  # one process for each node
    line = json.dumps({"rank": rank, "step": trainer.step, "lines": lines, "torch": torch.__version__, **told})
    sys.stdout.write(line + "\n")  # in one piece: torchrun's workers write into one pipe
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
