"""Writes used_symbols.json: the symbols of torch's libraries that popular extension wheels need.

    .venv/bin/python scenarios/extensions/_used_symbols.py

It downloads the wheels that WHEELS names (70 MB) to a temporary folder, reads the undefined symbols of every shared
library in them, and keeps those whose names are torch's. Add a wheel to the list when a release appears.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# One of each for every era of torch: 2.1, 2.2, 2.3, 2.6, 2.11 and later.
WHEELS = (
    "torchvision==0.16.2", "torchvision==0.17.2", "torchvision==0.18.1", "torchvision==0.21.0", "torchvision==0.26.0",
    "torchvision==0.28.0", "torchvision==0.29.1", "torchvision==0.29.2", "torchaudio==2.1.2", "torchaudio==2.2.2",
    "torchaudio==2.3.1", "torchaudio==2.6.0", "torchaudio==2.11.1",
)  # fmt: skip
PLATFORMS = ("manylinux1_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
# In a mangled name, a length comes before each part; C names are torch's by their prefix.
OURS = re.compile(r"2at|3c10|5torch|6caffe2|^THP|^aoti_torch|^torch_|^torchCheck")


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement for Python 3.11 on Linux."""
    options = [word for platform in PLATFORMS for word in ("--platform", platform)]
    options += ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "--quiet", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    name, _, release = requirement.partition("==")
    return next(folder.glob(f"{name}-{release}-*.whl"))


def needed_of(wheel: Path) -> set[str]:
    """The names that the wheel's libraries take from elsewhere and that are torch's."""
    namespace = runpy.run_path(str(HERE / "abi_symbols.py"))
    needed: set[bytes] = set()
    own: set[bytes] = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                exported, undefined = namespace["symbols"](io.BytesIO(archive.read(name)))
                needed |= undefined
                own |= exported
    return {name.decode() for name in needed - own if OURS.search(name.decode())}


def main() -> None:
    """Write the file and say what is in it."""
    users: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, requirement in enumerate(WHEELS):
            needed = needed_of(download(requirement, Path(folder)))
            print(f"{requirement}: {len(needed)} symbols")
            for symbol in needed:
                users.setdefault(symbol, []).append(number)
    wheels = [requirement.replace("==", " ") for requirement in WHEELS]
    lines = ",\n".join(f"  {json.dumps(symbol)}: {users[symbol]}" for symbol in sorted(users))
    head = json.dumps(wheels)
    (HERE / "used_symbols.json").write_text(f'{{"wheels": {head},\n "symbols": {{\n{lines}\n }}\n}}\n')
    print(f"{len(users)} symbols in all")


if __name__ == "__main__":
    main()
