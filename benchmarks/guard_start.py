"""What the start-up hook costs: processor milliseconds of a bare Python and of `import torch`, without and with it.

    python -m benchmarks.guard_start [--version 2.13.0] [--rounds 15]

Two environments that share one torch take turns, and who begins changes, so that what else the machine does hits both.
The least of each is compared: everything else a machine does only adds to it. Where `import torch` takes 1.5 s, that
can still not tell a few milliseconds from noise, so the milliseconds that pass inside the hook are summed up as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.errors import HarnessError
from torchskew.guard.environment import into
from torchskew.runtimes import runtime
from torchskew.workflows.inputs import read_declaration

ROOT = Path(__file__).resolve().parent.parent
# What runs, and how many rounds of it for each that is asked for.
CASES = (("pass", 8), ("import torch", 1))
MOST_PASS, MOST_TORCH = 1.0, 5.0  # milliseconds: the aims
# Sums up what passes inside the hook while torch is imported, with the clock's own share in it.
INSIDE = """
import sys, time
(hook,) = [each for each in sys.meta_path if hasattr(each, "COVERED")]
spent, calls = 0.0, 0
def timed(function):
    def call(*args):
        global spent, calls
        began = time.perf_counter()
        found = function(*args)
        if found is None:  # else other finders and torch itself did the work
            spent, calls = spent + time.perf_counter() - began, calls + 1
        return found
    return call
hook.find_spec, hook.cover = timed(hook.find_spec), timed(hook.cover)
import torch
print(calls, 1e3 * spent)
"""


def environment(folder: Path, packages: str) -> str:
    """A Python that has these packages beside its own."""
    venv.EnvBuilder(symlinks=True).create(folder)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(packages + "\n", encoding="utf-8")
    return str(folder / "bin" / "python")


def seconds(python: str, code: str, env: dict[str, str]) -> float:
    """Processor time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-W", "ignore", "-c", code], env=env, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pair(plain: str, guarded: str, code: str, env: dict[str, str], *, swapped: bool) -> tuple[float, float]:
    """Processor time of one run without the hook and one with it; swapped: the second goes first."""
    if swapped:
        with_hook = seconds(guarded, code, env)
        return seconds(plain, code, env), with_hook
    return seconds(plain, code, env), seconds(guarded, code, env)


def inside(guarded: str, env: dict[str, str]) -> tuple[int, float]:
    """Calls of the hook while torch is imported, and the milliseconds that they took."""
    ask = [guarded, "-W", "ignore", "-c", INSIDE]
    said = subprocess.run(ask, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    calls, spent = said.split()[-2:]
    return int(calls), float(spent)


def main() -> int:
    """Both cases; the exit code is 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="2.13.0")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    where = runtime("venv")
    version = for_runtime(read_declaration(ROOT / "torchskew.toml").versions[options.version], "venv", Problems(""))
    try:
        torch = where.provision(version, Plain(sys.stderr))
    except HarnessError as error:
        print(f"INCOMPLETE: what the start-up hook costs was not measured: {error}")
        return 1
    ask = [torch.handle, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        plain, guarded = (environment(Path(folder, name), packages) for name in ("plain", "guarded"))
        into(guarded)
        env = {name: value for name, value in {**os.environ, **torch.env}.items() if name != "TORCHSKEW_GUARD"}
        more = {}
        for code, times in CASES:
            rounds = range(times * options.rounds)
            pairs = [pair(plain, guarded, code, env, swapped=bool(number % 2)) for number in rounds]
            without, with_hook = (1e3 * min(column) for column in zip(*pairs, strict=True))
            more[code] = with_hook - without
            print(f"python -c {code!r}: {without:.1f} ms, with the hook {with_hook:.1f} ms: {more[code]:+.2f} ms")
        calls, spent = min((inside(guarded, env) for _ in range(options.rounds)), key=lambda found: found[1])
        print(f"inside the hook while torch is imported: {calls} calls, {spent:.2f} ms")
        start = max(0.0, more["pass"])
        print(f"any Python {start:.2f} ms (aim: at most {MOST_PASS:g}), "
              f"import torch {start + spent:.2f} ms (aim: at most {MOST_TORCH:g})")  # fmt: skip
    where.close()
    return int(start > MOST_PASS or start + spent > MOST_TORCH)


if __name__ == "__main__":
    sys.exit(main())
