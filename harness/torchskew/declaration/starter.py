"""The text of a first declaration, with comments that teach the format."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import InvalidVersion
from packaging.version import Version as Release

from torchskew.errors import ConfigError

SCENARIOS = ("import_smoke", "rendezvous_tcp", "rendezvous_file", "all_reduce", "broadcast", "barrier")
_TEXT = """\
# PyTorch releases to combine, and how. Written by `torchskew init`; edit it as you like.
#   torchskew doctor              checks this machine
#   torchskew matrix --dry-run    prints the cells of this file and runs nothing
#   torchskew matrix              runs them and writes reports to out/

# One line per release: the name that cells and reports show, and where the release comes from.
# Sources: pip, wheel = "dist/torch-….whl", interpreter = "/path/to/python" (venv), debian = "trixie" (docker),
# image = "registry/name@sha256:…" (docker). Also: python = "3.11", index = "https://…", env = {{ NAME = "value" }},
# and packages beside torch, such as requires = ["numpy"] (["numpy<2"] up to 2.3).
[versions]
{versions}

[matrix]
runtime     = "auto"           # docker where an engine answers and can use the sources, otherwise venv
pairs       = "all"            # every ordered pair: rank 0 hosts the store, so the order matters.
                               # Others: "neighbours", "boundary", or a list of pairs like [{pair}]
world_sizes = [2]              # number of ranks; with 3 or more, one rank of another release in every position
guard       = ["off", "on"]    # stock PyTorch, and the same job with the guard (docs/guard.md)
store       = ["stock"]        # rank 0's own; "bridge": one that serves all releases (docs/bridge.md)
timeout     = 10               # seconds given to the process group; a mixed group may use all of them
scenarios   = [                # names or patterns; `torchskew scenarios` lists them, ["*"] runs all
{scenarios}
]

# Known failures belong in expectations.toml beside this file. They must fail exactly as listed:
#   [[expect]]
#   cells  = "rendezvous_tcp/{first},{last}/*"
#   reason = "why it fails, and until when that is acceptable"
#   link   = "https://…"

# `torchskew gate` decides whether a candidate works with the releases above:
# [gate]
# candidate = "pip:torch=={last}"    # or wheel:PATH, image:REF, interpreter:PATH
# tier      = "smoke"                # smoke: under a minute; critical: under ten; full: every promise
"""
_REHEARSAL = """
# `torchskew rehearse` upgrades a small training cluster node by node:
[rehearsal]
from     = "{first}"
to       = "{last}"
rollback = true                # and back again
"""


def starter(releases: Sequence[str]) -> str:
    """A declaration that combines these releases, oldest first.

    Raises:
        ConfigError: no release at all, or a name that is not a release of torch.
    """
    if not releases:
        raise ConfigError("there is no release to write. Name one or more, like 2.6.0 2.13.0.")
    problems = [f"{name!r} is not a release. Write it like 2.6.0." for name in releases if not _is_release(name)]
    if problems:
        raise ConfigError(*problems)
    names = sorted(dict.fromkeys(releases), key=Release)
    first, last = names[0], names[-1]
    keys = [f'"{name}"' for name in names]
    width = max(map(len, keys))
    rows = [f'{key:{width}} = {{ pip = "torch=={name}" }}' for key, name in zip(keys, names, strict=True)]
    text = _TEXT.format(
        versions="\n".join(rows),
        scenarios="\n".join(f'    "{name}",' for name in SCENARIOS),
        pair=f'["{first}", "{last}"]',
        first=first,
        last=last,
    )
    return text + (_REHEARSAL.format(first=first, last=last) if len(names) > 1 else "")


def _is_release(name: str) -> bool:
    """Whether it names one release, in the letters that a version's name may have."""
    try:
        return Release(name).local is None and Release(name).epoch == 0 and name[0].isdigit()
    except InvalidVersion:
        return False
