"""Processes as people make them, in a real torch: each way into a group is compared, and each process is guarded.

The guard is strict here: a group that it could not compare would not form.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from torchskew.guard.generate import FILE
from torchskew.model.versions import Environment

from tests.patience import PATIENCE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

# One rank. Each line that it prints is a way into a group, and what became of it.
RANK = """
import datetime, os, sys, threading, time
import torch, torch.distributed as dist

rank, ports = int(os.environ["RANK"]), sys.argv[2].split(",")
LIMIT = datetime.timedelta(seconds=20)

def enter(name, start, leave=lambda: dist.destroy_process_group()):
    try:
        start()
    except RuntimeError as error:
        print(name, type(error).__name__, getattr(error, "kind", error), flush=True)
        return
    time.sleep(0.1)
    left = [thread.name for thread in threading.enumerate() if thread.name == "torchskew-guard"]
    if dist.is_initialized():
        value = torch.ones(1) * (rank + 1)
        dist.all_reduce(value)
        print(name, value.item(), left, flush=True)
    else:
        print(name, "formed", left, flush=True)
    leave()

def mesh():
    dist.init_device_mesh("cpu", (2,))
    dist.all_reduce(torch.ones(1), group=dist.new_group([0, 1]))
    child = os.fork()
    if not child:
        os._exit(len([thread for thread in threading.enumerate() if thread.name == "torchskew-guard"]))
    assert os.waitpid(child, 0)[1] == 0
    loader = torch.utils.data.DataLoader(list(range(4)), num_workers=1, multiprocessing_context="spawn")
    assert sum(int(each) for each in loader) == 6

def store():
    shared = dist.TCPStore("127.0.0.1", int(ports[0]), 2, rank == 0)
    dist.init_process_group("gloo", store=shared, rank=rank, world_size=2)

def rpc():
    from torch.distributed import rpc
    options = rpc.TensorPipeRpcBackendOptions(init_method="tcp://127.0.0.1:" + ports[1])
    rpc.init_rpc("worker%d" % rank, rank=rank, world_size=2, rpc_backend_options=options)
    rpc.shutdown()

if __name__ == "__main__":
    if sys.argv[1] == "pretend" and rank == 1:
        torch.__version__ = "2.1.2"
    os.environ["MASTER_PORT"] = ports[2]
    enter("mesh", mesh)
    os.environ["MASTER_PORT"] = ports[3]
    enter("again", lambda: dist.init_process_group("gloo", timeout=LIMIT))
    enter("store", store)
    if sys.argv[1] == "later" and rank == 1:
        torch.__version__ = "2.1.2"
    enter("rpc", rpc, lambda: None)
"""
WAYS = ("mesh", "again", "store", "rpc")
# A script that spawns both of its ranks.
SPAWN = """
import os, sys
import torch, torch.distributed as dist, torch.multiprocessing

def main(rank, where, pretend):
    if rank and pretend:
        torch.__version__ = "2.1.2"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    value = torch.ones(1) * (rank + 1)
    dist.all_reduce(value)
    sys.stdout.write("spawned %s\\n" % value.item())  # in one piece: both ranks write into one pipe
    sys.stdout.flush()
    dist.destroy_process_group()

if __name__ == "__main__":
    torch.multiprocessing.spawn(main, ("tcp://127.0.0.1:" + sys.argv[2], sys.argv[1] == "pretend"), nprocs=2)
"""


def ports(count: int) -> str:
    """Free ports, none twice."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = ",".join(str(server.getsockname()[1]) for server in servers)
    for server in servers:
        server.close()
    return found


@pytest.fixture
def start(torch_environment: Environment, tmp_path: Path):
    """Start a script through the guard; the running process."""

    def popen(text: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        script = tmp_path / "train.py"
        script.write_text(text)
        settings = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "TORCHSKEW_GUARD": "strict", "TMPDIR": str(tmp_path),
                    "GLOO_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}  # fmt: skip
        return subprocess.Popen(
            [torch_environment.handle, "-W", "ignore", str(FILE), str(script), *arguments],
            env={**os.environ, **torch_environment.env, **settings, **env},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return popen


@pytest.mark.parametrize(
    ("how", "result"),
    [("healthy", "3.0 []"), ("later", "3.0 []"), ("pretend", "ProtocolVersionError version")],
)
def test_each_way_into_a_group_is_compared_and_leaves_no_thread(start, how: str, result: str) -> None:
    where = ports(4)
    ranks = [start(RANK, how, where, RANK=str(rank)) for rank in range(2)]
    expected = [f"{way} {result}" for way in WAYS]
    if how == "healthy":  # RPC itself asks for NumPy once its ranks have met
        expected[-1] = "rpc RuntimeError Numpy is not available"
    if how == "later":  # what formed before RPC's init is no reason not to compare that
        expected[-1] = "rpc ProtocolVersionError version"
    done = [rank.communicate(timeout=PATIENCE) for rank in ranks]
    assert [out.splitlines() for out, _ in done] == [expected] * 2, done


def test_ranks_that_a_guarded_script_spawns_are_compared(start) -> None:
    assert start(SPAWN, "healthy", ports(1)).communicate(timeout=PATIENCE)[0].splitlines() == ["spawned 3.0"] * 2
    out, err = start(SPAWN, "pretend", ports(1)).communicate(timeout=PATIENCE)
    assert out == ""
    assert "torchskew_guard.ProtocolVersionError: Incompatible PyTorch releases in one process group" in err
