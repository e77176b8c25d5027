"""Inside one release: serves its stock store, or times its real client against two stores in turn; Python 3.8."""

import datetime as dt
import json
import os
import signal
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

BATCH, STEPS = 200, 100
WAIT = dt.timedelta(seconds=60)


def store(port, serves=False):
    """A client of a store, or the store itself."""
    return dist.TCPStore("127.0.0.1", port, None, serves, WAIT, wait_for_workers=False)


def batch(client, operation):
    """Microseconds that one operation takes, over BATCH of them."""
    began = time.perf_counter()
    for _ in range(BATCH):
        operation(client)
    return (time.perf_counter() - began) / BATCH * 1e6


OPERATIONS = {
    "set": lambda client: client.set("key", "value"),
    "get": lambda client: client.get("key"),
    "add": lambda client: client.add("number", 1),
}


def turns(ports, rounds):
    """For each operation, its median against each store; the stores take turns, so that both meet the same noise."""
    clients = [store(port) for port in ports]
    taken = {name: [[] for _ in ports] for name in OPERATIONS}
    for _ in range(rounds):
        for name, operation in OPERATIONS.items():
            for number, client in enumerate(clients):
                taken[name][number].append(batch(client, operation))
    return {name: [statistics.median(each) for each in both] for name, both in taken.items()}


def step_seconds():
    """Median seconds of a training step: forward, backward with DDP's reduction, and the optimizer."""
    torch.set_num_threads(1)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 256))
    optimizer, inputs = torch.optim.SGD(model.parameters(), lr=0.01), torch.ones(32, 256)
    taken = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimizer.zero_grad()
        model(inputs).sum().backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def group(port, bridged):
    """Seconds of the slower one of two ranks in init_process_group, and in a training step."""
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    if bridged:
        settings.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    reads, writes = os.pipe()
    ranks = []
    for rank in range(2):
        ranks.append(os.fork())
        if not ranks[-1]:
            os.environ.update(settings)
            began = time.perf_counter()
            dist.init_process_group("gloo", rank=rank, world_size=2, timeout=WAIT)
            taken = time.perf_counter() - began
            os.write(writes, b"%012.6f %012.6f\n" % (taken, step_seconds()))
            dist.barrier()
            time.sleep(0.05)
            os._exit(0)
    for rank in ranks:
        os.waitpid(rank, 0)
    os.close(writes)
    with os.fdopen(reads) as lines:
        ranks = [[float(word) for word in line.split()] for line in lines]
    return [max(rank[number] for rank in ranks) for number in (0, 1)]


def main():
    """`serve PORT`, or requests a line: `turns ROUNDS PORT PORT`, `group PORT stock|bridge`."""
    if sys.argv[1:2] == ["serve"]:
        kept = store(int(sys.argv[2]), serves=True)
        sys.stdout.write("serves\n")
        sys.stdout.flush()
        signal.pause()
        del kept
    for line in sys.stdin:
        words = line.split()
        if words[0] == "turns":
            answer = turns([int(each) for each in words[2:]], int(words[1]))
        else:
            answer = group(int(words[1]), words[2] == "bridge")
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
