"""One of Ray's nodes: the first has the head and starts the training, the others end when it has ended.

Its arguments are the Python of this node, and what wraps a script.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HEAD = ("--head", "--include-dashboard=false")
PATIENCE = 60.0  # seconds that Ray has to start and to stop


def main() -> None:
    """Run this node until the training has ended."""
    prefix, port, first = sys.argv[1:], os.environ["MASTER_PORT"], os.environ["NODE_RANK"] == "0"
    address = f"127.0.0.1:{port}"
    over = Path(f"over-{port}")  # in the folder of this run, which all nodes share
    where = (*HEAD, f"--port={port}") if first else (f"--address={address}",)
    command = [
        *prefix,
        "-m",
        "ray.scripts.scripts",
        "start",
        *where,
        "--num-cpus=1",
        "--block",
        "--disable-usage-stats",
    ]
    ray = subprocess.Popen(command)
    try:
        if first:
            script = str(Path(__file__).with_name("ray_train.py"))
            done = subprocess.run([*prefix, script], env={**os.environ, "RAY_AT": address}, check=False)
            sys.exit(done.returncode)
        while not over.exists():
            if ray.poll() is not None:  # it gives up where the head takes long to start
                ray = subprocess.Popen(command)
            time.sleep(0.2)
    finally:
        over.touch()
        ray.terminate()
        ray.wait(PATIENCE)


if __name__ == "__main__":
    main()
