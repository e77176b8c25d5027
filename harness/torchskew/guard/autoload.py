"""What `import torch` calls since 2.5 where torchskew is installed: its entry point of the group torch.backends."""

from __future__ import annotations

import os


def autoload() -> None:
    """Guard this process where TORCHSKEW_GUARD is set; does nothing at all where it is not."""
    if not os.environ.get("TORCHSKEW_GUARD", "").strip():
        return
    from torchskew.guard.start import StartHook

    hook = StartHook("torchskew.guard.install")
    try:
        hook.arm()
    except Exception as problem:  # noqa: BLE001 - an error here would end `import torch`
        hook.say("torch.distributed can't be covered: %s: %s" % (type(problem).__name__, problem))
