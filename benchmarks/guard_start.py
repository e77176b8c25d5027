"""What the start-up hook costs: processor milliseconds of a bare Python and of `import torch`, without and with it.

    python -m benchmarks.guard_start [--version 2.13.0] [--rounds 15]

Two environments that share one torch take turns, so that what else the machine does hits both. The least of each is
compared: everything else a machine does only adds to it.
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
# What runs, how many rounds of it for each that is asked for, and the aim in milliseconds.
CASES = (("pass", 8, 1.0), ("import torch", 1, 5.0))


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
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        plain, guarded = (environment(Path(folder, name), packages) for name in ("plain", "guarded"))
        into(guarded)
        env = {name: value for name, value in {**os.environ, **torch.env}.items() if name != "TORCHSKEW_GUARD"}
        for code, times, aim in CASES:
            pairs = [(seconds(plain, code, env), seconds(guarded, code, env)) for _ in range(times * options.rounds)]
            without, with_hook = (1e3 * min(column) for column in zip(*pairs, strict=True))
            missed |= with_hook - without > aim
            print(f"python -c {code!r}: {without:.1f} ms, with the hook {with_hook:.1f} ms: "
                  f"{with_hook - without:+.2f} ms (aim: at most {aim:.0f} ms)")  # fmt: skip
    where.close()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
