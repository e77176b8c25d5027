"""Local processes: lines both ways, look-ups at once, and an end that is certain."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.errors import AgentError, MachineError
from torchskew.inside.protocol import boot_line
from torchskew.model.versions import Environment
from torchskew.runtimes import ownership, processes
from torchskew.runtimes.venv import process
from torchskew.runtimes.venv.runtime import VenvRuntime

from tests.conftest import ROOT
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow
# The longest that the resolver can be told to wait for a name server.
# It asks one only where /etc/nsswitch.conf says so.
WAITING, LOOK_UP = "timeout:30 attempts:5", 150.0


def here(python: str = sys.executable, **env: str) -> Environment:
    return Environment(version="here", runtime="venv", identity="0" * 64, handle=python, env=env)


def boot(body: str) -> bytes:
    """A boot line whose module runs these statements."""
    source = "import json, os, signal, socket, sys, time\ndef say(x): print(json.dumps(x), flush=True)\ndef main():\n"
    source += textwrap.indent(textwrap.dedent(body), "    ")
    modules = {"m": {"file": "m.py", "source": source}}
    line = json.loads(boot_line()) | {"modules": modules, "order": ["m"], "main": "m"}
    return json.dumps(line).encode()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = VenvRuntime()
    with ownership.opened("run-of-a-test") as opened:
        made.open(opened)
        yield made
        made.close()


def started(runtime: VenvRuntime, body: str, environment: Environment | None = None) -> process.LocalChannel:
    channel = runtime.start(environment or here(), 0)
    channel.send(boot(body))
    assert isinstance(channel, process.LocalChannel)
    return channel


def heard(channel: process.LocalChannel) -> object:
    return json.loads(next(channel.lines()))


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while processes.look_up(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not processes.look_up(pid)


def test_lines_go_both_ways(runtime) -> None:
    channel = started(runtime, "for line in sys.stdin: say(line)")
    lines = channel.lines()
    channel.send(b"one\n")
    channel.send(b"two")
    assert [json.loads(next(lines)), json.loads(next(lines))] == ["one\n", "two\n"]


def test_a_rank_gets_a_small_environment_of_its_own(runtime, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/wrong")
    monkeypatch.setenv("MASTER_ADDR", "wrong")
    environment = here(MINE="yes", OMP_NUM_THREADS="2")
    found = heard(started(runtime, "say(dict(os.environ))", environment))
    assert "PYTHONPATH" not in found
    assert "MASTER_ADDR" not in found
    assert (found["MINE"], found["OMP_NUM_THREADS"], found["TORCHSKEW_RUN"]) == ("yes", "2", "run-of-a-test")
    assert found["TMPDIR"].endswith("runs/run-of-a-test/tmp")


def test_a_list_of_processes_names_the_program_and_the_version(runtime) -> None:
    channel = started(runtime, "say(1)\nsys.stdin.read()", replace(here(), version="2.6.0"))
    heard(channel)
    program, *arguments = Path(f"/proc/{channel.pid}/cmdline").read_text().rstrip("\0").split("\0")
    assert program == sys.executable
    assert arguments[-2:] == ["torchskew-agent", "2.6.0"]
    assert len(" ".join(arguments)) < 120


def test_every_channel_of_the_run_sees_the_same_folder(runtime) -> None:
    one = started(runtime, "open(os.path.join(sys.stdin.readline().strip(), 'x'), 'w').close(); say(1)")
    one.send(one.share.encode())
    assert heard(one) == 1
    two = started(runtime, "say(os.listdir(sys.stdin.readline().strip()))")
    two.send(two.share.encode())
    assert heard(two) == ["x"]
    assert (two.host, dict(two.rank_env)) == ("127.0.0.1", {"GLOO_SOCKET_IFNAME": "lo"})


def test_reverse_look_ups_wait_for_no_name_server(runtime) -> None:
    body = """
        signal.alarm(60)  # ends the process long before one look-up would give up
        for n in range(20):
            socket.getnameinfo(("::ffff:127.0.0.1", n + 1), 0)
        say(open("/etc/nsswitch.conf").read())
        """
    conf = heard(started(runtime, body, here(RES_OPTIONS=WAITING)))
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no private view of /etc is allowed here")
    assert "hosts: files\n" in conf
    assert "hosts: files\n" not in Path("/etc/nsswitch.conf").read_text()


def test_its_own_name_is_still_known(runtime) -> None:
    assert heard(started(runtime, "say(socket.gethostbyname(socket.gethostname()))")).startswith("127.")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_somebody_unprivileged_gets_the_same_view(tmp_path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "nsswitch.conf").write_text("hosts: files\n")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    quiet = ROOT / "harness/torchskew/inside/quiet.py"
    program = "import sys; exec(sys.argv[1]); print(open('/etc/nsswitch.conf').read(), os.getuid())"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, quiet.read_text()],
        user=65534, group=65534, extra_groups=[], cwd="/", env={"TORCHSKEW_ETC": str(etc)}, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    if "hosts: files" not in done.stdout:
        pytest.skip("no user namespaces here")
    assert done.stdout == "hosts: files\n 65534\n"


def test_where_no_namespace_is_allowed_it_runs_all_the_same(tmp_path) -> None:
    quiet = (ROOT / "harness/torchskew/inside/quiet.py").read_text()
    program = "import sys; exec(sys.argv[1]); print('ran')"
    env = {"TORCHSKEW_ETC": str(tmp_path / "missing")}
    done = subprocess.run([sys.executable, "-c", program, quiet], env=env, capture_output=True, check=True)
    assert done.stdout == b"ran\n"


def test_the_end_of_standard_error_is_kept(runtime) -> None:
    body = "[print(f'line {n}', file=sys.stderr) for n in range(100)]; print('x' * 5000, file=sys.stderr); say(1)"
    channel = started(runtime, body)
    assert list(channel.lines()) == [b"1\n"]
    channel.close()
    kept = channel.errors().splitlines()
    assert len(kept) == 32
    assert kept[0] == "line 71"
    assert max(map(len, kept)) == 2000


def test_close_ends_a_process_that_goes_by_itself(runtime) -> None:
    channel = started(runtime, "say(1); sys.stdin.read()")
    heard(channel)
    channel.close()
    assert is_gone(channel.pid)
    channel.close()


def test_close_ends_a_process_that_ignores_everything_with_its_children(runtime, monkeypatch) -> None:
    monkeypatch.setattr(process, "_POLITE", 0.1)
    monkeypatch.setattr(process, "_TERM", 0.1)
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child: say(child)
        while True: time.sleep(60)
        """
    channel = started(runtime, body)
    child = heard(channel)
    channel.close()
    assert is_gone(channel.pid)
    assert is_gone(child)


def test_closing_the_run_ends_even_what_left_its_session(runtime) -> None:
    body = """
        child = os.fork()
        if not child:
            os.setsid()
            os.close(1), os.close(2)
            time.sleep(60)
        say(child)
        """
    child = heard(started(runtime, body))
    runtime.close()
    assert is_gone(child)


def test_sending_to_a_process_that_is_gone_says_how_it_ended(runtime) -> None:
    channel = started(runtime, "print('it broke', file=sys.stderr); os._exit(7)")
    assert list(channel.lines()) == []
    with pytest.raises(AgentError, match=r"the agent is gone \(exit 7\)"):
        [channel.send(b"x" * 100_000) for _ in range(10)]
    assert channel.errors() == "it broke"


def test_the_last_words_of_a_process_that_is_gone_are_read_before_they_are_shown(runtime, monkeypatch) -> None:
    read, drained = threading.Event(), process.LocalChannel._drained

    def late(channel: process.LocalChannel) -> None:
        read.wait(PATIENCE)
        drained(channel)

    monkeypatch.setattr(process.LocalChannel, "_drained", late)
    channel = started(runtime, "print('it broke', file=sys.stderr); os._exit(7)")
    channel._process.wait(PATIENCE)
    threading.Timer(0.1, read.set).start()
    assert channel.errors() == "it broke"


def test_an_interpreter_that_does_not_start_is_an_agents_error(runtime) -> None:
    with pytest.raises(AgentError, match="here: /nowhere/python does not start"):
        runtime.start(here("/nowhere/python"), 0)


def test_nothing_starts_before_the_runtime_is_open() -> None:
    with pytest.raises(MachineError, match="not open"):
        VenvRuntime().start(here(), 0)


def test_a_thread_that_started_a_process_may_end_before_it(runtime) -> None:
    import threading

    made: list[process.LocalChannel] = []

    def start() -> None:
        made.append(started(runtime, "say('up')\nfor line in sys.stdin: say(line)"))
        heard(made[0])  # only now has it asked to die with its parent

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    made[0].send(b"alive")
    assert heard(made[0]) == "alive\n"


OWNER = """
    import json, os, sys
    from torchskew.runtimes import ownership
    from torchskew.runtimes.venv.runtime import VenvRuntime
    from tests.runtimes.venv.test_process import boot, here
    runtime = VenvRuntime()
    run = ownership.opened("killed")
    runtime.open(run.__enter__())
    channel = runtime.start(here(), 0)
    channel.send(boot(sys.argv[1]))
    print(next(channel.lines()).decode(), flush=True)
    sys.stdin.read()
"""
STUBBORN = """
    if not os.fork():
        os.setsid()
        say(os.getpid())
    while True: time.sleep(60)
    """


def owner_with(body: str, cache: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", textwrap.dedent(OWNER), body]
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    pipe = subprocess.PIPE
    run = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=env)
    return run, int(run.stdout.readline())


def test_when_the_harness_is_killed_its_agents_die(tmp_path) -> None:
    run, agent = owner_with("say(os.getpid())\nwhile True: time.sleep(60)", tmp_path)
    run.kill()
    run.communicate()
    assert is_gone(agent)


def test_a_sweep_ends_orphans_and_removes_their_folder_but_touches_no_living_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dead, orphan = owner_with(STUBBORN, tmp_path / "a")
    living, kept = owner_with(STUBBORN, tmp_path / "b")
    other = subprocess.Popen(["sleep", "60"], env={"TORCHSKEW": "not of a run"})
    dead.kill()
    dead.communicate()
    assert not is_gone_now(orphan)
    (tmp_path / "torchskew").mkdir()
    (tmp_path / "a/torchskew/runs").rename(tmp_path / "torchskew/runs")
    lines = VenvRuntime().sweep()
    assert lines == (f"process {orphan} of run killed", "folder killed")
    assert is_gone(orphan)
    assert not is_gone_now(kept)
    assert other.poll() is None
    assert VenvRuntime().sweep() == ()
    for each in (living, other):
        each.kill()
        each.communicate()
    os.kill(kept, signal.SIGKILL)


def is_gone_now(pid: int) -> bool:
    return not processes.look_up(pid)


@pytest.mark.torch
def test_the_agent_of_a_real_torch_gets_ready_and_ends_when_its_input_does(
    runtime, torch_environment, monkeypatch
) -> None:
    monkeypatch.setattr(process, "_POLITE", PATIENCE)
    env = {**torch_environment.env, "RES_OPTIONS": WAITING}
    channel = runtime.start(dataclasses.replace(torch_environment, env=env), 0)
    channel.send(boot_line())
    ready = heard(channel)
    assert ready["event"] == "ready"
    assert ready["torch"].startswith("2.13.0")
    assert ready["resolver_seconds"] < LOOK_UP
    channel.close()
    assert channel._process.returncode == 0  # neither TERM nor KILL was needed
