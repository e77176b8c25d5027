"""The launchers: how each is started on one of several nodes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.guard.launchers.environments import script


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a job, all of which are on this machine. prefixes: each node's Python, and what wraps a script."""

    prefixes: tuple[tuple[str, ...], ...]
    number: int
    port: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """This node's."""
        return self.prefixes[self.number]

    @property
    def nodes(self) -> int:
        """How many the job has."""
        return len(self.prefixes)

    @property
    def env(self) -> dict[str, str]:
        """What launchers read that have no options for it."""
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port), "NODE_RANK": str(self.number),
                "NODES": str(self.nodes)}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """nodes: how many a run has; ranks: on each node; command: what starts one node; package: whose version counts.

    alone: the first node's command starts the ranks of all. silent: nodes that print no error of a rank.
    """

    command: Callable[[Node], tuple[str, ...]]
    nodes: int = 2
    ranks: int = 2
    package: str = "torch"
    alone: bool = False
    silent: int = 0
    env: Callable[[Node], dict[str, str]] = lambda node: node.env


def _torchrun(*more: str, module: str = "torch.distributed.run") -> Callable[[Node], tuple[str, ...]]:
    def command(node: Node) -> tuple[str, ...]:
        options = ("--nnodes", str(node.nodes), "--nproc-per-node", "2", "--node-rank", str(node.number),
                   "--master-addr", "127.0.0.1", "--master-port", str(node.port))  # fmt: skip
        if "c10d" in more:
            options = ("--nnodes", str(node.nodes), "--nproc-per-node", "2", "--rdzv-backend", "c10d",
                       "--rdzv-endpoint", f"127.0.0.1:{node.port}", "--rdzv-id", f"job{node.port}")  # fmt: skip
        return (*node.prefix, "-m", module, *options, script("plain"))

    return command


def _standalone(node: Node) -> tuple[str, ...]:
    return (*node.prefix, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script("plain"))


def _workers_of_the_last(node: Node) -> tuple[str, ...]:
    return (*node.prefix, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(node.port),
            "--no-python", *node.prefixes[-1], script("plain"))  # fmt: skip


def _mpirun(node: Node) -> tuple[str, ...]:
    """Open MPI's, with a program of its own for each rank."""
    programs = [("-np", "1", *prefix, script("plain")) for prefix in node.prefixes]
    joined = [word for program in programs for word in (":", *program)][1:]
    return ("mpirun", "--allow-run-as-root", "--oversubscribe", *joined)


def _ray(node: Node) -> tuple[str, ...]:
    return (node.prefix[0], script("ray_node"), *node.prefix)


def _accelerate(node: Node) -> tuple[str, ...]:
    return (*node.prefix, "-m", "accelerate.commands.launch", "--multi_gpu", "--mixed_precision", "no",
            "--dynamo_backend", "no", "--num_processes", str(2 * node.nodes), "--num_machines", str(node.nodes),
            "--machine_rank", str(node.number), "--main_process_ip", "127.0.0.1", "--main_process_port",
            str(node.port), script("plain"))  # fmt: skip


def _accelerate_cpu(node: Node) -> tuple[str, ...]:
    return (*node.prefix, "-m", "accelerate.commands.launch", "--cpu", "--mixed_precision", "no", "--dynamo_backend",
            "no", "--num_processes", "1", "--num_machines", "1", script("plain"))  # fmt: skip


def _one_rank(node: Node) -> dict[str, str]:
    return {**node.env, "RANK": str(node.number), "WORLD_SIZE": str(node.nodes)}


def _script(name: str) -> Callable[[Node], tuple[str, ...]]:
    return lambda node: (*node.prefix, script(name))


def _four_ranks(node: Node) -> dict[str, str]:
    return {**node.env, "WORLD_SIZE": str(2 * node.nodes)}


def _deepspeed(node: Node) -> tuple[str, ...]:
    """What its runner starts on every node, there by ssh."""
    world = base64.urlsafe_b64encode(json.dumps({f"node{each}": [0, 1] for each in range(node.nodes)}).encode())
    return (*node.prefix, "-m", "deepspeed.launcher.launch", f"--world_info={world.decode()}",
            f"--node_rank={node.number}", "--master_addr=127.0.0.1", f"--master_port={node.port}",
            script("plain"))  # fmt: skip


LAUNCHERS = {
    "environment": Launcher(command=_script("plain"), ranks=1, env=_one_rank),
    "torchrun static": Launcher(command=_torchrun()),
    "torchrun static, 3 agents": Launcher(command=_torchrun(), nodes=3),
    "torchrun c10d": Launcher(command=_torchrun("c10d")),
    "torchrun c10d, 3 agents": Launcher(command=_torchrun("c10d"), nodes=3),
    "torchrun standalone": Launcher(command=_standalone, nodes=1),
    "torchrun, its workers of the other release": Launcher(command=_workers_of_the_last, alone=True, ranks=1),
    "torch.distributed.launch": Launcher(command=_torchrun(module="torch.distributed.launch")),
    "mp.spawn": Launcher(command=_script("spawn"), env=_four_ranks),
    "accelerate launch --multi_gpu": Launcher(command=_accelerate, package="accelerate"),
    "accelerate launch --cpu": Launcher(command=_accelerate_cpu, ranks=1, package="accelerate", env=_one_rank),
    "Lightning Fabric": Launcher(command=_script("fabric"), package="lightning"),
    "Lightning Trainer": Launcher(command=_script("trainer"), package="lightning"),
    "deepspeed.launcher.launch": Launcher(command=_deepspeed, package="deepspeed"),
    "Ray Train": Launcher(command=_ray, ranks=1, package="ray", silent=1),
    "mpirun": Launcher(command=_mpirun, alone=True, ranks=1),
}
