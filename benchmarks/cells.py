"""Cells per second: warm agents against a process (or container) per rank, and against a bare fork of torch.

    python -m benchmarks.cells [--runtime venv|docker] [--version 2.13.0] [--cells 200]

Everything is measured in one run on one machine, in turn, so the ratios hold where absolute times drift.
Prints: cells/s and seconds per cell of each way, then the ratios with what issue and README state of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.agents import Agents
from torchskew.engine.ports import Ports
from torchskew.engine.progress import Plain
from torchskew.engine.run import Engine, default_jobs
from torchskew.errors import HarnessError
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Environment, Version
from torchskew.runtimes import ownership
from torchskew.runtimes import runtime as runtime_named
from torchskew.workflows.inputs import read_declaration, read_scenario

HERE = Path(__file__).resolve().parent
BARE = HERE / "bare.py"


def engine_seconds(agents: Agents, version: Version, cells: int, jobs: int, runtime: str) -> float:
    """Seconds per cell through the engine; every cell must be right."""
    scenario = read_scenario(HERE / "one_reduce.py")
    many = tuple(
        Cell(
            scenario="one_reduce",
            variant=Variant(name=str(index)),
            skew=(version.name,) * 2,
            runtime=runtime,
            timeout=30.0,
        )
        for index in range(cells)
    )
    plan = Plan(cells=many, runtime=runtime, seed=0, digest="")
    engine = Engine(
        plan=plan,
        scenarios={"one_reduce": scenario},
        versions={version.name: version},
        agents=agents,
        jobs=jobs,
        observe=lambda _: None,
    )
    begun = time.monotonic()
    results = list(engine.run({}))
    seconds = (time.monotonic() - begun) / cells
    wrong = [result for result in results if result.verdict is not Verdict.PASS]
    assert not wrong, wrong[0].reason
    return seconds


def processes(python: str, env: dict[str, str], at_once: int) -> float:
    """Seconds per cell of a process per rank, as many cells at once as there are processors."""

    def cell(port: int) -> None:
        command = [python, "-W", "ignore", str(BARE), "rank"]
        ranks = [subprocess.Popen([*command, str(rank), str(port), "127.0.0.1"], env=env) for rank in (0, 1)]
        assert [rank.wait() for rank in ranks] == [0, 0]

    return in_turn(cell, at_once)


def containers(image: str, at_once: int) -> float:
    """Seconds per cell of a container per rank."""
    network = f"torchskew-bench-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "network", "create", "--internal", network], check=True, stdout=subprocess.DEVNULL)

    def cell(port: int) -> None:
        host = f"host-{port}"
        base = ["docker", "run", "--rm", "-i", "--network", network, "-e", "GLOO_SOCKET_IFNAME=eth0"]
        base += ["-e", "USE_LIBUV=0", "-e", "OMP_NUM_THREADS=1"]
        tail = ["--entrypoint", "python3", image, "-W", "ignore", "-", "rank"]
        first = [*base, "--name", host, *tail, "0", str(port), host]
        second = [*base, *tail, "1", str(port), host]
        with BARE.open("rb") as text, BARE.open("rb") as again:
            ranks = [subprocess.Popen(first, stdin=text), subprocess.Popen(second, stdin=again)]
            assert [rank.wait() for rank in ranks] == [0, 0]

    try:
        return in_turn(cell, at_once)
    finally:
        subprocess.run(["docker", "network", "rm", network], check=True, stdout=subprocess.DEVNULL)


def in_turn(cell: Callable[[int], None], at_once: int) -> float:
    """Seconds per cell of four rounds of at_once cells."""
    ports = Ports()

    def leased(_: int) -> None:
        with ports.lease() as port:
            cell(port)

    rounds = 4
    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(leased, range(rounds * at_once)))
    return (time.monotonic() - begun) / (rounds * at_once)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=["venv", "docker"], default="venv")
    parser.add_argument("--version", default=None)
    parser.add_argument("--cells", type=int, default=200)
    args = parser.parse_args()
    name = args.version or {"venv": "2.13.0", "docker": "2.6.0"}[args.runtime]
    version = for_runtime(read_declaration(HERE.parent / "torchskew.toml").versions[name], args.runtime, Problems(""))
    runtime = runtime_named(args.runtime)
    try:
        environment = runtime.provision(version, Plain(sys.stderr))
    except HarnessError as error:
        sys.exit(f"INCOMPLETE: nothing was measured: {error}")
    with ownership.opened(f"bench-{uuid.uuid4().hex[:8]}") as opened:
        runtime.open(opened)
        agents = Agents(runtime)
        agents.provide({name: environment})
        try:
            report(agents, version, environment, args)
        finally:
            agents.close()
            runtime.close()


def report(agents: Agents, version: Version, environment: Environment, args: argparse.Namespace) -> None:
    """Warm up, then measure each way in turn and print the ratios."""
    engine_seconds(agents, version, 10, 1, args.runtime)
    at_once = os.cpu_count() or 1
    rounds = []
    for _ in range(3):
        single = engine_seconds(agents, version, args.cells // 4, 1, args.runtime)
        packed = engine_seconds(agents, version, args.cells, default_jobs(), args.runtime)
        rounds.append((single, packed, bare(environment) if args.runtime == "venv" else None))
    single, packed = (statistics.median(column) for column in list(zip(*rounds, strict=True))[:2])
    print(f"torchskew {args.runtime} {version.name}: one after another {1000 * single:.0f} ms a cell")
    print(f"torchskew {args.runtime} {version.name}: -j {default_jobs()} {1000 * packed:.0f} ms a cell")
    if args.runtime == "venv":
        ratio = statistics.median(row[0] / row[2] for row in rounds if row[2])
        print(
            f"bare fork of a pre-imported torch: {1000 * statistics.median(r[2] for r in rounds if r[2]):.0f} ms a cell"
        )
        print(f"ratio to the bare fork, one after another: {ratio:.2f} (at most 1.5)")
        naive = processes(environment.handle, quiet_env(), at_once)
    else:
        naive = containers(environment.handle, at_once)
    what = {"venv": "process", "docker": "container"}[args.runtime]
    print(f"a {what} per rank, {at_once} cells at once: {1000 * naive:.0f} ms a cell")
    print(f"throughput against a {what} per rank: {naive / packed:.1f} times (at least 20)")


def quiet_env() -> dict[str, str]:
    """The settings our ranks get, so that both sides do the same."""
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def bare(environment: Environment) -> float:
    """Seconds per cell of the bare fork."""
    command = [environment.handle, "-W", "ignore", str(BARE), "fork", "50"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=quiet_env()).stdout)


if __name__ == "__main__":
    main()
