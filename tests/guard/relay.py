"""`python -m tests.guard.relay`: real ranks over the relay for stock clients, a table of what each group came to.

Each group has one release: a guarded rank 0, and a stock rank 1 that connects to rank 0's guard before it steps aside.
Releases up to 2.4 don't connect again, so rank 1 computes over the relay or not at all. --without shows the latter: a
guard that can't start its relay. Not part of CI: the environments of two releases with CUDA take 10 GB.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.guard.generate import FILE
from torchskew.model.versions import Environment
from torchskew.runtimes import runtime
from torchskew.workflows.inputs import read_declaration

from tests.conftest import ROOT
from tests.guard.processes import free_port, printed

LIMIT = 200.0  # seconds for one rank
SCRIPT = """
import datetime, os, socket, sys, time
import torch, torch.distributed as dist
rank = int(os.environ["RANK"])
while rank:  # until rank 0's guard is there
    try:
        socket.create_connection(("127.0.0.1", int(os.environ["MASTER_PORT"]))).close()
        break
    except OSError:
        time.sleep(0.01)
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
for _ in range(100):
    value = torch.ones(1000) * (rank + 1)
    dist.all_reduce(value)
    assert value.sum() == 3000, value
sys.stdout.write("computed %s\\n" % torch.__version__)
dist.barrier()
"""


def group(environment: Environment, guard: Path, mode: str, folder: Path) -> tuple[int, str]:
    """How many of the two ranks computed, and the line that rank 0's guard said."""
    port = free_port()
    (folder / "train.py").write_text(SCRIPT)
    running = []
    for rank in (0, 1):
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
        settings = {"TORCHSKEW_GUARD": mode, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        command = [environment.handle, "-W", "ignore", *([str(guard)] if rank == 0 else []), str(folder / "train.py")]
        running.append(subprocess.Popen(command, env={**os.environ, **environment.env, **where, **settings}, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE))  # fmt: skip
    texts = printed(running, LIMIT)
    lines = re.findall(r"^torchskew guard, rank 0: (.*)$", texts[0][1], re.MULTILINE)
    computed = sum("computed" in out and each.returncode == 0 for (out, _), each in zip(texts, running, strict=True))
    return computed, "; ".join(lines)


def main(arguments: list[str]) -> int:
    """Print the table; 1 where a group came to something else than it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", default=["2.1.2", "2.2.2"])
    parser.add_argument("--modes", nargs="+", default=["enforce", "warn"])
    parser.add_argument("--without", action="store_true", help="a guard that can't start its relay: rank 1 fails")
    asked = parser.parse_args(arguments)
    where, failed = runtime("venv"), False
    declared = read_declaration(ROOT / "torchskew.toml").versions
    sys.stdout.write("| release | mode | ranks that computed | rank 0's guard |\n|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        guard = Path(folder) / FILE.name
        text = FILE.read_text(encoding="utf-8")
        guard.write_text(text.replace('if not hasattr(os, "fork"):', "if True:") if asked.without else text)
        for release in asked.releases:
            environment = where.provision(for_runtime(declared[release], "venv", Problems("")), Plain(sys.stderr))
            for mode in asked.modes:
                computed, line = group(environment, guard, mode, Path(folder))
                failed |= computed != (0 if asked.without else 2) or "came instead" not in line
                sys.stdout.write(f"| {release} | {mode} | {computed} of 2 | {line or 'said nothing'} |\n")
                sys.stdout.flush()
    where.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
