"""One file per command: from arguments to a workflow to the exit code."""

from __future__ import annotations

from torchskew.commands import (
    advise,
    boundary,
    bridge,
    check,
    clean,
    doctor,
    explain,
    gate,
    guard,
    images,
    init,
    matrix,
    probe,
    rehearse,
    report,
    runs,
    scenarios,
    suite,
    survey,
)

# In the order in which `torchskew --help` lists them.
COMMANDS = (
    init,
    matrix,
    check,
    gate,
    runs,
    rehearse,
    scenarios,
    report,
    survey,
    suite,
    boundary,
    explain,
    advise,
    probe,
    guard,
    bridge,
    images,
    doctor,
    clean,
)
