"""What `torchskew explain` costs on the logs of a real job: seconds and peak memory, by the size of the logs.

    python -m benchmarks.explain [--version 2.13.0] [--ranks 4] [--megabytes 20 200]

The logs are written by ranks that run (benchmarks/explain_ranks.py): one of them dies in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.errors import HarnessError
from torchskew.runtimes import runtime
from torchskew.workflows.inputs import read_declaration

HERE = Path(__file__).resolve().parent
MOST_SECONDS, MOST_MEGABYTES = 3.0, 200.0  # of explain, whatever the size of the logs
NOTHING = "nothing found"
MEASURE = (
    "import os, sys; child = os.fork()\n"
    "if not child: os.execv(sys.executable, [sys.executable, '-m', 'torchskew', 'explain', '--json', *sys.argv[1:]])\n"
    "_, _, used = os.wait4(child, 0)\n"
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)"
)


def measured(logs: list[Path]) -> tuple[str, str, float, float]:
    """The answer's word, what it found and where, seconds of processor, megabytes at most."""
    command = [sys.executable, "-c", MEASURE, *map(str, logs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    answer = json.loads(done.stdout)
    seconds, kilobytes = map(float, done.stderr.split())
    entries = [*answer["breaks"], *answer["others"]]
    places = [f"{entry['id']} at {line['where']}" for entry in entries for line in entry["lines"]]
    return answer["fault"], places[0] if places else NOTHING, seconds, kilobytes / 1000


def main() -> int:
    """All sizes; the exit code is 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="2.13.0")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[20, 200])
    options = parser.parse_args()
    declared = read_declaration(HERE.parent / "torchskew.toml").versions[options.version]
    where = runtime("venv")
    try:
        environment = where.provision(for_runtime(declared, "venv", Problems("")), Plain(sys.stderr))
    except HarnessError as error:
        print(f"INCOMPLETE: no logs were made: {error}")
        return 1
    missed = False
    for size in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            command = [environment.handle, "-W", "ignore", str(HERE / "explain_ranks.py"), folder]
            env = {**os.environ, **environment.env, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
            subprocess.run([*command, str(options.ranks), str(size)], check=True, env=env, timeout=600)
            logs = sorted(Path(folder).iterdir())
            wrote = sum(log.stat().st_size for log in logs) / 1e6
            fault, place, seconds, memory = measured(logs)
        missed |= seconds > MOST_SECONDS or memory > MOST_MEGABYTES or place == NOTHING
        print(
            f"{wrote:6.0f} MB in {options.ranks} logs: {fault}, {place}; {seconds:.2f} s of processor "
            f"(aim: {MOST_SECONDS:.0f} s), {memory:.0f} MB of memory at most (aim: {MOST_MEGABYTES:.0f})"
        )
    where.close()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
