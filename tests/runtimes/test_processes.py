"""A process is told from a later one with its id, and from one that only waits to be reaped."""

from __future__ import annotations

import os
import subprocess
import sys

from torchskew.runtimes import processes


def test_this_process_is_found_with_its_parent() -> None:
    myself = processes.look_up(os.getpid())
    assert myself is not None
    assert (myself.pid, myself.parent) == (os.getpid(), os.getppid())
    assert int(myself.start) > 0


def test_an_id_that_nobody_has_is_none() -> None:
    assert processes.look_up(4194999) is None
    assert not processes.exists(4194999)


def test_a_name_with_brackets_and_spaces_changes_nothing(tmp_path) -> None:
    program = tmp_path / "odd) R 1 (name"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        seen = processes.look_up(process.pid)
        assert seen is not None
        assert seen.parent == os.getpid()
        process.communicate(b"")


def test_children_of_children_are_descendants() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        family = processes.descendants(process.pid)
        assert len(family) == 1
        assert processes.descendants(family[0]) == ()
        assert set(family) < set(processes.descendants(os.getpid()))
        process.communicate(b"")
