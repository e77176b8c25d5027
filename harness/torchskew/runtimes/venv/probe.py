"""Asks an interpreter about its torch, in the environment that ranks will have."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from torchskew.errors import ProvisionError
from torchskew.runtimes.venv import launch

_PATIENCE = 180.0  # seconds for a first `import torch` on a slow disk
_PROBE = """
import hashlib, importlib.util, json, os, platform, sys
spec = importlib.util.find_spec("torch")
if spec is None or not spec.origin:
    sys.exit("there is no torch in it")
content = hashlib.sha256()
for folder, folders, names in os.walk(os.path.dirname(spec.origin)):
    folders[:] = sorted(set(folders) - {"__pycache__", "include"})
    for path in [os.path.join(folder, name) for name in sorted(names)]:
        told = os.stat(path)
        content.update(repr((path, told.st_size, told.st_mtime_ns)).encode())
facts = {"python_version": platform.python_version(), "content": content.hexdigest()}
if sys.argv[1] == "import":
    import torch
    facts["reports"] = torch.__version__
    facts["git_version"] = getattr(torch.version, "git_version", None)
print(json.dumps(facts))
"""


def probed(python: str, depth: str, what: str) -> dict[str, Any]:
    """What a Python says of its torch; depth is `look` (where it is) or `import` (what it reports)."""
    command = [python, "-c", _PROBE, depth]
    try:
        done = subprocess.run(
            command,
            env=launch.environ(python, {}),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = f"{what}: `import torch` took over {_PATIENCE:.0f} s. Look at the load of the disk."
        raise ProvisionError(text) from error
    if done.returncode == 0:
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return facts
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"])[-1]
    mend = f"See it with: {python} -c 'import torch'. Another release, Python or interpreter may work here."
    raise ProvisionError(f"{what}: `import torch` fails: {last}. {mend}")
