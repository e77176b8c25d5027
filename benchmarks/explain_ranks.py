"""A job that writes logs: `explain_ranks.py FOLDER RANKS MEGABYTES` in a torch's Python.

Each rank writes FOLDER/rankN.log: a line a step, with a time, a loss, a hash of its batch and a progress bar, and an
all_reduce every 500 steps. In the middle the last rank ends without a word; the others log what gloo raises. Then the
job starts again in the same logs, and runs to its end.
"""

import datetime as dt
import hashlib
import os
import socket
import sys
import time
import traceback

EVERY = 500  # steps from one all_reduce to the next


def steps(log, number, first):
    """The lines of some steps, and of a progress bar that ends with a newline."""
    for step in range(first, first + EVERY):
        batch = hashlib.md5(b"%d %d" % (number, step)).hexdigest()
        log.write(
            f"{time.strftime('%F %T')} [rank{number}] INFO train: step {step} loss {1 / (step + 1):.6f} "
            f"lr {3e-4:.2e} grad_norm {step % 97 / 31:.4f} batch {batch}\n"
        )
    bars = (f"\r{done:3}%|{'#' * (done // 4):25}| {first} [00:{done // 2:02}]" for done in range(0, 101, 25))
    log.write("".join(bars) + "\n")


def rank(number, world, port, log, size):
    """Write about `size` bytes; where that is negative, the last rank dies behind as many."""
    import torch
    import torch.distributed as dist

    limit = dt.timedelta(seconds=60)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=world, timeout=limit)
    log.write(f"[rank{number}] PyTorch version: {torch.__version__}, world size {world}\n")
    begin, step = log.tell(), 0
    while log.tell() - begin < abs(size):
        steps(log, number, step)
        step += EVERY
        dist.all_reduce(torch.ones(64))
    if size < 0 and number == world - 1:
        return 13
    dist.all_reduce(torch.ones(64))
    return 0


def logged(number, world, port, folder, size):
    """A rank whose error is in its log; its exit code."""
    with open(os.path.join(folder, f"rank{number}.log"), "a", newline="", encoding="utf-8") as log:
        try:
            return rank(number, world, port, log, size)
        except RuntimeError:
            log.write("".join(f"[rank{number}]: {line}\n" for line in traceback.format_exc().splitlines()))
            return 1


def job(world, folder, size):
    """Start all ranks, and wait for them; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(world):
        child = os.fork()
        if not child:
            os._exit(logged(number, world, port, folder, size))
        children.append(child)
    return [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]


def main():
    """Both halves."""
    folder, world, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) * 10**6
    half = size // world // 2
    codes = job(world, folder, -half), job(world, folder, half)
    assert codes == ([1] * (world - 1) + [13], [0] * world), codes


if __name__ == "__main__":
    main()
