"""`python -m tests.guard.missing`: what a missing rank costs real releases, with the guard and without it.

Of two ranks rank 1 never starts. Rank 0 meets it in a store that its init is given, in the store of an agent of
torchrun, or by file where a rank without the guard has been; the table says after how many seconds its init failed.
`late`: rank 1 comes after the guard has given it up, both ranks compute, and a collective waits for longer than what
was left of the timeout then. Not part of CI: an environment of CUDA wheels takes 5 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from torchskew.declaration.suite import suite_versions
from torchskew.engine.progress import Plain
from torchskew.guard.generate import FILE
from torchskew.model.versions import Environment
from torchskew.runtimes import runtime

from tests.guard.processes import free_port, printed

LIMIT = 120.0  # seconds for one rank
WAYS = ("store", "agent", "file")
SCRIPT = """
import datetime, os, sys, time
import torch, torch.distributed as dist
way, rank, late = sys.argv[1], int(os.environ["RANK"]), sys.argv[2] == "late"
port, timeout = int(os.environ["MASTER_PORT"]), datetime.timedelta(seconds=8)
agent, more = None, {}
if way == "store" or (way == "agent" and rank == 0):
    agent = dist.TCPStore("127.0.0.1", port, None, rank == 0, timeout, wait_for_workers=False)
if way == "store":
    more = {"store": agent, "rank": rank, "world_size": 2}
if way == "file":
    more = {"init_method": "file://" + sys.argv[3], "rank": rank, "world_size": 2}
    before = dist.FileStore(sys.argv[3], -1)
    before.set("a rank without the guard", "was here")
began = time.monotonic()
if rank:
    time.sleep(5)
try:
    dist.init_process_group("gloo", timeout=timeout, **more)
except RuntimeError as error:
    sys.stdout.write("failed %.1f %s" % (time.monotonic() - began, type(error).__name__))
    sys.exit()
value = torch.ones(1) * (rank + 1)
dist.all_reduce(value)
if rank:
    time.sleep(6)  # more than what was left, less than the timeout
dist.all_reduce(value)
group = dist.new_group([0, 1])
dist.all_reduce(value, group=group)
torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))(torch.ones(1, 2)).sum().backward()
dist.barrier()
sys.stdout.write("computed %s" % value.item())
"""


def ranks(environment: Environment, way: str, folder: Path, *, guarded: bool, late: bool = False) -> list[str]:
    """What each rank of a group printed: rank 0, and where it comes late rank 1."""
    port = free_port()
    (folder / "train.py").write_text(SCRIPT)
    meeting = folder / f"init{port}"
    running = []
    for rank in range(1 + late):
        env = {**os.environ, **environment.env, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
               "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": str(way == "agent"), "TMPDIR": str(folder),
               "TORCHELASTIC_RESTART_COUNT": "0", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}  # fmt: skip
        script = [str(folder / "train.py"), way, "late" if late else "never", str(meeting)]
        command = [environment.handle, "-W", "ignore", *([str(FILE)] if guarded else []), *script]
        running.append(subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    said = [out.splitlines()[-1:] for out, _ in printed(running, LIMIT)]
    return [lines[0] if lines else f"ended with {each.returncode}" for lines, each in zip(said, running, strict=True)]


def seconds(text: str) -> float:
    """After how many seconds a rank's init failed; infinity where it ended otherwise."""
    return float(text.split()[1]) if text.startswith("failed ") else float("inf")


def main(arguments: list[str]) -> int:
    """Print the table; 1 where a missing rank costs a second more with the guard, or a late one does not compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", default=["2.2.2", "2.12.1", "2.13.0"])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    asked = parser.parse_args(arguments)
    where, failed = runtime("venv"), False
    sys.stdout.write("| release | way | without the guard | with it | rank 1 comes late |\n|---|---|--:|--:|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, version in suite_versions(asked.releases, {}).items():
            environment = where.provision(version, Plain(sys.stderr))
            for way in asked.ways:
                stock, guarded = (ranks(environment, way, Path(folder), guarded=each)[0] for each in (False, True))
                late = ranks(environment, way, Path(folder), guarded=True, late=True)
                failed |= seconds(guarded) > seconds(stock) + 1.0
                failed |= not all(each.startswith("computed") for each in late)
                sys.stdout.write(f"| {name} | {way} | {stock} | {guarded} | {'; '.join(late)} |\n")
                sys.stdout.flush()
    where.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
