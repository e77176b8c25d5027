"""Shows what the scenario `speed` finds: an operator that was made slower, and nothing where nothing was.

    python -m benchmarks.slowdown --python ENVIRONMENT/bin/python [--runs 20] [--slower 10]

Takes an installed release, links a copy of it whose layer_norm takes so many percent longer, and runs
`speed.layer_norm` that often between the release and the copy, and between the release and itself. It prints what each
run said, and how many found a slowdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.doctored import added, doctored

RELEASE = "2.13.0"
SLOWER = """
_right_layer_norm = layer_norm


def layer_norm(*args, **kwargs):
    import time

    began = time.process_time()
    value = _right_layer_norm(*args, **kwargs)
    until = began + (time.process_time() - began) * {factor}
    while time.process_time() < until:
        pass
    return value
"""


def runs(folder: Path, versions: dict[str, str], skew: str, count: int) -> Iterator[tuple[str, str]]:
    """The verdict and the words of each run of one cell."""
    lines = [f'"{name}" = {{ interpreter = "{python}" }}' for name, python in versions.items()]
    declaration = folder / "torchskew.toml"
    declaration.write_text("[versions]\n" + "\n".join(lines) + '\n[matrix]\nscenarios = ["speed"]\n')
    command = [sys.executable, "-m", "torchskew", "matrix", "--runtime", "venv", "--no-cache", "--out", str(folder)]
    command += ["--declaration", str(declaration), "--only", f"speed.layer_norm/{skew}/*"]
    for _ in range(count):
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        latest = max(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
        (cell,) = json.loads(latest.read_text())["cells"]
        yield cell["verdict"], cell["reason"]


def main() -> None:
    """Run both, and say how often a slowdown was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--slower", type=float, default=10.0, help="percent")
    parser.add_argument("--python", required=True, help=f"the interpreter of an environment with torch {RELEASE}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = SLOWER.format(factor=1 + options.slower / 100)
        copy = doctored(options.python, folder / "copy", {"torch/nn/functional.py": added(code)})
        versions = {"release": options.python, "copy": copy}
        for skew, what in (("release,copy", f"slower by {options.slower:g} %"), ("release,release", "unchanged")):
            verdicts = []
            for number, (verdict, words) in enumerate(runs(folder, versions, skew, options.runs), 1):
                verdicts.append(verdict)
                print(f"{what} {number}: {verdict} {words}", flush=True)
            found, unknown = verdicts.count("FAIL"), verdicts.count("UNKNOWN")
            print(f"{what}: found in {found} of {len(verdicts)} runs, undecided in {unknown}", flush=True)


if __name__ == "__main__":
    main()
