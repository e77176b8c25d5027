"""What is kept of a rank's files: of stacks that are too long, the thread that matters stays whole."""

from __future__ import annotations

import os

from torchskew.inside.handle import KEEP, excerpt, unnamed_file
from torchskew.judging.stacks import rank_first, waiting_in

FRAMES = 100  # faulthandler writes no more of a thread


def thread(name: str, frames: list[str]) -> str:
    lines = [f'  File "/env/torch/distributed/distributed_c10d.py", line 4711 in {frame}' for frame in frames]
    return "\n".join([f"{name} (most recent call first):", *lines, "", ""])


def test_of_long_stacks_the_last_thread_is_whole_which_is_the_ranks_own() -> None:
    idle = [thread(f"Thread 0x{number:016x}", ["idle"] * FRAMES) for number in range(20)]
    own = thread("Current thread 0x00007f8d5b1e4740", ["wait", "new_group", *["outer"] * (FRAMES - 2)])
    descriptor = unnamed_file()
    os.write(descriptor, "".join([*idle, own]).encode())
    text = excerpt(descriptor)
    os.close(descriptor)
    assert len("".join(idle)) > 2 * KEEP
    assert "bytes left out" in text
    assert waiting_in(text).endswith("new_group -> wait")
    assert rank_first(text).startswith(own.strip()[:200])
