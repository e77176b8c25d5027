"""Real containers of real images: locked down, speaking lines, on a network of their own, and gone afterwards."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torchskew.errors import AgentError, MachineError
from torchskew.inside.protocol import boot_line
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.runtimes.base import Scope
from torchskew.runtimes.docker.catalogue import load_suites
from torchskew.runtimes.docker.runtime import DockerRuntime

pytestmark = [pytest.mark.docker, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[3]
HOST = socket.gethostname()
# Seconds that a reverse look-up takes at least where a name server is asked that doesn't answer.
LOOK_UP = 150.0

# A stand-in for the agent: evaluates what it is sent and answers with the value.
STAND_IN = """
import json, sys
def main():
    for line in sys.stdin:
        space = {}
        exec(json.loads(line), space)
        print(json.dumps(space.get("answer")), flush=True)
"""


@pytest.fixture(scope="module")
def runtime():
    made = DockerRuntime()
    yield made
    made.close()


@pytest.fixture(scope="module")
def environments(runtime):
    """Of the oldest and the newest suite; made on the first use on this machine, which takes minutes."""
    made = {}
    for name in ("bullseye", "forky"):
        suite = load_suites()[name]
        version = Version(name=suite.torch, sources=(Source(kind=SourceKind.DEBIAN, value=name),), env=suite.env)
        made[name] = runtime.provision(version, Quiet())
    return made


class Quiet:
    def step(self, version, text, done=0, total=0):
        del version, text, done, total

    def say(self, text):
        del text


@pytest.fixture
def opened(runtime, request, tmp_path):
    """The runtime with a run of its own."""
    run_id = f"test-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}"
    runtime.open(Scope(run_id=run_id, owner_pid=os.getpid(), host=HOST, folder=str(tmp_path)))
    yield runtime
    runtime.close()


def started(runtime, environment, replica=0):
    channel = runtime.start(environment, replica)
    boot = json.loads(boot_line()) | {
        "order": ["m"],
        "main": "m",
        "modules": {"m": {"file": "m.py", "source": STAND_IN}},
    }
    channel.send(json.dumps(boot).encode() + b"\n")
    return Talk(channel)


class Talk:
    """A channel with its lines."""

    def __init__(self, channel):
        self.channel = channel
        self.lines = channel.lines()

    def say(self, code):
        self.channel.send(json.dumps(code).encode() + b"\n")

    def hear(self):
        return json.loads(next(self.lines))

    def ask(self, code):
        self.say(code)
        return self.hear()


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def ours(label):
    """Names of everything in the daemon with this label."""
    wanted = f"label={label}"
    listed = [
        docker("ps", "-a", "--filter", wanted, "--format", "{{.Names}}"),
        docker("network", "ls", "--filter", wanted, "--format", "{{.Name}}"),
        docker("volume", "ls", "--filter", wanted, "--format", "{{.Name}}"),
    ]
    return [name for names in listed for name in names.split()]


def test_the_daemon_says_what_it_is(runtime):
    assert runtime.answers() is None
    assert runtime.describe().startswith("docker ")


def test_each_suites_image_holds_the_torch_that_the_catalogue_says(environments):
    assert environments["bullseye"].reports == load_suites()["bullseye"].reports
    assert environments["forky"].reports == load_suites()["forky"].reports


def test_a_container_has_no_rights_to_lose(opened, environments):
    rank = started(opened, environments["bullseye"])
    status = dict(line.split(":\t") for line in rank.ask("answer = open('/proc/self/status').read()").splitlines())
    assert status["Uid"].split() == ["65534"] * 4
    assert (int(status["CapBnd"], 16), int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    writable = "import os; answer = [p for p in ('/', '/etc', '/usr', '/tmp', '/share') if os.access(p, os.W_OK)]"
    assert rank.ask(writable) == ["/tmp", "/share"]
    assert rank.ask("import os; answer = bool(os.statvfs('/').f_flag & os.ST_RDONLY)")


def test_a_list_of_processes_names_the_program_and_the_version(opened, environments):
    talk = started(opened, environments["forky"])
    code = "answer = open('/proc/self/cmdline').read().rstrip('\\0').split('\\0')"
    command = talk.ask(code)
    assert command[-2:] == ["torchskew-agent", environments["forky"].version]
    assert len(" ".join(command)) < 120


def test_a_container_has_limits_of_memory_and_processes(opened, environments):
    channel = opened.start(environments["bullseye"], 0)
    limits = json.loads(docker("inspect", "-f", "{{json .HostConfig}}", channel.id))
    assert (limits["Memory"], limits["MemorySwap"], limits["PidsLimit"]) == (4 << 30, 4 << 30, 4096)


def test_containers_reach_their_peers_on_an_internal_network(opened, environments):
    one, two = (started(opened, environments[name]) for name in ("bullseye", "forky"))
    serve = (
        "import socket; server = socket.create_server(('', 29500)); c, _ = server.accept(); answer = c.recv(9).decode()"
    )
    one.say(serve)
    join = f"""
import socket, time
while True:
    try:
        peer = socket.create_connection(({one.channel.host!r}, 29500), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.02)
peer.sendall(b'hello'); peer.close()
"""
    two.ask(join)
    assert one.hear() == "hello"
    (network,) = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", one.channel.id))
    assert docker("network", "inspect", "-f", "{{.Internal}}", network) == "true"


def test_containers_share_a_folder_and_ranks_get_the_interface(opened, environments):
    one, two = (started(opened, environments[name]) for name in ("bullseye", "forky"))
    path = f"{one.channel.share}/file"
    one.ask(f"open({path!r}, 'w').write('from one')")
    assert two.ask(f"answer = open({path!r}).read()") == "from one"
    assert one.channel.rank_env["GLOO_SOCKET_IFNAME"] == "eth0"
    assert two.channel.rank_env["USE_LIBUV"] == "0"


@pytest.mark.parametrize("suite", ["bullseye", "forky"])
def test_reverse_look_ups_wait_for_no_name_server(opened, environments, suite):
    rank, peer = started(opened, environments[suite]), opened.start(environments["bullseye"], 1)
    addresses = [rank.channel.host, peer.host, "127.0.0.1"]
    addresses += [f"::ffff:{address}" for address in addresses]
    timed = f"""
import os, socket, time
os.environ["RES_OPTIONS"] = "timeout:30 attempts:5"  # a look-up that waits takes at least {LOOK_UP} s
answer = {{}}
for address in {addresses!r}:
    began = time.monotonic()
    try:
        socket.getnameinfo((address, 1, 0, 0) if ':' in address else (address, 1), 0)
    except OSError:
        pass
    answer[address] = time.monotonic() - began
"""
    slow = {address: seconds for address, seconds in rank.ask(timed).items() if seconds >= LOOK_UP}
    assert slow == {}


def test_many_containers_start_and_close_at_once(opened, environments):
    with ThreadPoolExecutor(6) as pool:
        talks = list(pool.map(lambda number: started(opened, environments["bullseye"], number), range(6)))
    hosts = {talk.channel.host for talk in talks}
    names = {talk.ask("import socket; answer = socket.gethostname()") for talk in talks}
    assert (len(hosts), len(names)) == (6, 6)


def test_an_agent_that_dies_ends_its_lines_and_tells_why(opened, environments):
    rank = started(opened, environments["bullseye"])
    rank.say("import os, sys; sys.stderr.write('last words'); sys.stderr.flush(); os._exit(7)")
    assert list(rank.lines) == []
    with pytest.raises(AgentError, match=r"ended with 7\. last words"):
        rank.say("")


def test_memory_beyond_the_limit_is_reported_as_such(opened, environments, monkeypatch):
    from torchskew.runtimes.docker.daemon import Limits

    monkeypatch.setattr(opened, "_limits", Limits(memory=64 << 20))
    rank = started(opened, environments["bullseye"])
    rank.say("answer = len(bytearray(256 << 20))")
    assert list(rank.lines) == []
    assert rank.channel.story() == "Its container ran out of memory."


def test_closing_a_run_leaves_nothing(runtime, environments, tmp_path):
    runtime.open(Scope(run_id=f"test-{os.getpid()}-gone", owner_pid=os.getpid(), host=HOST, folder=str(tmp_path)))
    started(runtime, environments["bullseye"])
    runtime.close()
    assert ours(f"torchskew.run=test-{os.getpid()}-gone") == []


def test_a_killed_harness_leaves_what_the_next_sweep_removes_and_no_running_container(runtime, environments, tmp_path):
    run_id = f"test-{os.getpid()}-killed"
    program = f"""
import os, socket, sys
from torchskew.model.versions import Environment
from torchskew.runtimes.base import Scope
from torchskew.runtimes.docker.runtime import DockerRuntime
runtime = DockerRuntime()
runtime.open(Scope(run_id={run_id!r}, owner_pid=os.getpid(), host=socket.gethostname(), folder={str(tmp_path)!r}))
environment = Environment(version="v", runtime="docker", identity="", handle={environments["bullseye"].handle!r})
print(runtime.start(environment, 0).id, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        container = owner.stdout.readline().strip()
        assert [line for line in runtime.sweep() if run_id in line] == []
        owner.send_signal(signal.SIGKILL)
    assert runtime.daemon.ended(container, 10.0)
    removed = [line for line in runtime.sweep() if run_id in line]
    assert [line.split()[0] for line in removed] == ["container", "network", "volume"]
    assert ours(f"torchskew.run={run_id}") == []


def test_a_sweep_touches_nothing_of_another_host_or_of_nobody(runtime):
    name = f"torchskew-test-{os.getpid()}-other"
    dead = "--label=torchskew.owner=1:1"
    docker("volume", "create", dead, "--label=torchskew.host=elsewhere", f"{name}-a")
    docker("volume", "create", dead, f"{name}-b")
    try:
        assert [line for line in runtime.sweep() if name in line] == []
        assert docker("volume", "ls", "-q", "--filter", f"name={name}").split() == [f"{name}-a", f"{name}-b"]
    finally:
        docker("volume", "rm", f"{name}-a", f"{name}-b")


class Relay:
    """A socket in front of the daemon's own, so that a test can take the daemon away."""

    def __init__(self, path):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.open = [self.server]
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self):
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect("/var/run/docker.sock")
            self.open += [client, daemon]
            for pair in ((client, daemon), (daemon, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py leaves its sockets open
def test_a_daemon_that_dies_in_mid_run_is_reported_with_the_fix(environments, tmp_path, monkeypatch, runtime):
    path = tmp_path / "d.sock"
    relay = Relay(path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    broken = DockerRuntime()
    run_id = f"test-{os.getpid()}-daemon"
    broken.open(Scope(run_id=run_id, owner_pid=os.getpid(), host=HOST, folder=str(tmp_path)))
    try:
        rank = started(broken, environments["bullseye"])
        relay.die()
        assert list(rank.lines) == []
        with pytest.raises(AgentError, match="stopped answering.*--runtime venv"):
            rank.say("")
        with pytest.raises(MachineError, match="stopped answering.*Start the daemon"):
            broken.start(environments["bullseye"], 1)
        with pytest.raises(MachineError, match="can't be removed"):
            broken.close()
    finally:
        runtime.sweep()
        for what, ident, _, _ in list(runtime.daemon.labelled(f"torchskew.run={run_id}")):
            {"container": runtime.daemon.remove, "network": runtime.daemon.remove_network}.get(
                what, runtime.daemon.remove_volume
            )(ident)
        gc.collect()
