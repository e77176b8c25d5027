"""Environments with a release of torch and the launchers' packages, made by uv and kept in the user's cache."""

from __future__ import annotations

import subprocess
from pathlib import Path

from torchskew.runtimes.ownership import cache_folder
from torchskew.runtimes.venv.uv import Uv

# Besides torch. torch 2.1 builds with a setuptools that still has pkg_resources.
PACKAGES = ("setuptools<80", "accelerate", "lightning", "ray[train]")
OLD_NUMPY = ("numpy<2", "pyarrow<20", "pandas<3")
REQUIREMENTS = {
    "2.13.0": ("torch==2.13.0+cpu", "numpy"),
    "2.1.2": ("torch==2.1.2", *OLD_NUMPY),
    "2.2.2": ("torch==2.2.2", *OLD_NUMPY),
}
LISTED = ("accelerate", "lightning", "ray", "deepspeed")


def python_of(release: str) -> str:
    """The Python of a release's environment; made first, in about a minute and 6 GB for a release with CUDA."""
    folder = cache_folder() / "launchers" / release
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        uv = Uv(cache_folder() / "uv")
        uv.call("venv", "--quiet", "--clear", "--python", "3.11", str(folder))
        uv.call("pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS[release], *PACKAGES)
        # Its build asks the torch that is there; without operators of its own it needs no compiler.
        uv.call("pip", "install", "--quiet", "--python", str(python), "--no-build-isolation", "deepspeed",
                extra={"DS_BUILD_OPS": "0"})  # fmt: skip
        (folder / "whole").touch()
    return str(python)


def installed(python: str) -> dict[str, str]:
    """The versions of the launchers' packages in an environment, by name."""
    ask = f"import importlib.metadata as m\nfor name in {LISTED!r}: print(name, m.version(name))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def script(name: str) -> str:
    """One of the scripts that the launchers start."""
    return str(Path(__file__).parent / "scripts" / f"{name}.py")
