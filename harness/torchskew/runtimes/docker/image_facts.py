"""Asks an image once for its torch, its Python and its packages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from torchskew.errors import ProvisionError
from torchskew.runtimes.docker.daemon import ImageDaemon

# Runs inside the image, on Python 3.8 too; torch is absent in a base.
_SCRIPT = """
import json, platform, subprocess
from importlib import metadata
out = {"python": platform.python_version(), "wheels": sorted("%s=%s" % (d.metadata["Name"], d.version)
       for d in metadata.distributions())}
try:
    listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package}=${Version}\\n"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    out["debs"] = sorted(listed.stdout.decode().split())
except OSError:
    out["debs"] = []
try:
    import torch
    out["torch"], out["git_version"] = str(torch.__version__), torch.version.git_version
except Exception as error:
    out["error"] = "%s: %s" % (type(error).__name__, error)
print("\\n" + json.dumps(out))
"""
_NOTED = ("torch", "libc6", "python3", "numpy", "libgloo", "libtorch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an image holds. digest: over all packages with their versions; packages: those that matter most."""

    python: str
    digest: str
    packages: Mapping[str, str]
    torch: str
    git_version: str | None


def ask(daemon: ImageDaemon, image: str) -> Facts:
    """Run the image's own Python once.

    Raises:
        ProvisionError: no Python, no torch, or a torch that can't be imported.
    """
    words = daemon.ask(image, ["python3", "-c", _SCRIPT])
    try:
        answer = json.loads(words.strip().splitlines()[-1])
        python, every = str(answer["python"]), [*map(str, answer["debs"]), *map(str, answer["wheels"])]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        why = words.strip()[-300:] or "nothing was printed"
        raise ProvisionError(f"its python3 does not answer: {why}. Name an image with python3 on its PATH.") from error
    if not answer.get("torch"):
        fix = "Name an image whose python3 imports torch."
        raise ProvisionError(f"its torch can't be imported: {answer.get('error', 'no version')}. {fix}")
    return Facts(
        python=python,
        digest=hashlib.sha256("\n".join(every).encode()).hexdigest(),
        packages=_noted(every),
        torch=str(answer["torch"]),
        git_version=answer.get("git_version"),
    )


def _noted(every: list[str]) -> dict[str, str]:
    pairs = dict(each.partition("=")[::2] for each in every)
    wanted = {
        name: version
        for name, version in pairs.items()
        if name in _NOTED or name.startswith(("python3-torch", "libtorch", "libgloo"))
    }
    return dict(sorted(wanted.items()))
