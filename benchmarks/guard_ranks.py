"""Times init_process_group with and without the guard: `guard_ranks.py GUARD_FILE RANKS ROUNDS` in a torch's Python.

torch is imported once; every round forks the ranks anew. All begin once all are ready, their guard installed: a fork
pays for each page that it writes to, so otherwise the last one would still be on its way there. Rank 0 begins 50 ms
before the others, so that a stock joiner never meets a closed port (it would pause for up to a second). Prints one JSON
object a round: guard, and the seconds of the slowest joiner.
"""

import datetime as dt
import importlib.util
import json
import os
import socket
import sys
import time

START = 24  # bytes that say when to begin


def load(path):
    """The guard, by path, as a job that vendors it."""
    spec = importlib.util.spec_from_file_location("torchskew_guard", path)
    module = sys.modules["torchskew_guard"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rank(number, world, port, begin):
    """One init; its seconds."""
    import torch.distributed as dist

    time.sleep(max(0.0, begin + (0.05 if number else 0.0) - time.time()))
    began = time.monotonic()
    limit = dt.timedelta(seconds=60)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=world, timeout=limit)
    took = time.monotonic() - began
    dist.barrier()
    return took


def one_round(world, guard):
    """Fork the ranks; seconds of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (waits, starts), pipes = os.pipe(), []
    for number in range(world):
        read, write = os.pipe()
        if os.fork() == 0:
            if guard:
                guard.install()
            os.write(write, b"!")
            begin = float(os.read(waits, START))
            os.write(write, json.dumps(rank(number, world, port, begin)).encode())
            os._exit(0)
        os.close(write)
        pipes.append(read)
    ready = [os.read(pipe, 1) for pipe in pipes]
    assert ready == [b"!"] * world, "a rank died before it began"
    os.write(starts, world * ("%.6f" % (time.time() + 0.2)).rjust(START).encode())  # one for each rank
    taken = [float(os.read(pipe, 100) or "nan") for pipe in pipes]
    for descriptor in (waits, starts, *pipes):
        os.close(descriptor)
    for _ in pipes:
        os.wait()
    return taken


def main(path, world, rounds):
    """Alternate, so that what else the machine does hits both."""
    import torch

    torch.set_num_threads(1)
    guard = load(path)
    for _ in range(rounds):
        for one in (None, guard):
            print(json.dumps({"guard": bool(one), "seconds": max(one_round(world, one)[1:])}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
