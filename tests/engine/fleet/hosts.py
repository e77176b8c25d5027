"""Three hosts on one machine: network namespaces with a name each, a bridge between them, and Ray on every one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torchskew.engine.fleet.ray_cluster import _LOCAL_SETTINGS

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
# Above 127: gloo lets the higher of two addresses connect, so that a host called 127.0.1.1 would be right below it.
NETWORK = "198.51.100"
PORTS = {
    "node-manager": 6380,
    "object-manager": 6381,
    "runtime-env-agent": 6382,
    "min-worker": 6400,
    "max-worker": 6499,
}
# What Ray and the store of a group need of a host: a firewall that allows nothing else stops only gloo's own ports.
PATIENT_RAY = """
from ray.scripts.scripts import main
from torchskew.engine.fleet.ray_cluster import _patiently
with _patiently():
    main()
"""
ALLOWED = ("6379:6499", "20000:32000")


def unavailable() -> str:
    """Why no such hosts can be made here; empty where they can."""
    missing = [name for name in ("ip", "iptables", "unshare", "mount") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        return f"network namespaces need root and {', '.join(missing) or 'nothing else'}"
    name = f"tsk{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        _run("ip", "netns", "del", name)
    return "" if tried.returncode == 0 else f"network namespaces are not allowed: {tried.stderr.strip()}"


@dataclass(frozen=True, slots=True)
class Host:
    """One of them. namespace: its network's; folder: of all of them, where each sees files of its own below `own`."""

    name: str
    number: int
    namespace: str
    folder: Path

    @property
    def hosts(self) -> Path:
        """What it sees as /etc/hosts."""
        return self.folder / f"hosts-{self.number}"

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return f"{NETWORK}.{self.number}"

    def command(self, *words: str) -> list[str]:
        """A command as it runs there: with the host's network, name, hosts file and disk."""
        inside = 'mount --bind "$1" /etc/hosts && mount --bind "$2" "$3" && hostname "$4" && shift 4 && exec "$@"'
        entered = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--mount"]
        given = [self.hosts, self.folder / f"own-{self.number}", self.folder / "own", self.name]
        return [*entered, "sh", "-c", inside, "sh", *map(str, given), *words]

    @property
    def environ(self) -> dict[str, str]:
        """For commands there: this code, and a cache on the host's own disk."""
        own = self.folder / "own"
        return {**os.environ, "PYTHONPATH": f"{ROOT}/harness:{ROOT}", "XDG_CACHE_HOME": str(own / "cache")}

    def names_itself(self, address: str) -> None:
        """From now on its own name is found at this address."""
        self.hosts.write_text(f"127.0.0.1 localhost\n{address} {self.name}\n")

    def filters(self, ports: Sequence[str]) -> None:
        """From now on others reach it only at these ports; without any, at all of them."""
        _run("ip", "netns", "exec", self.namespace, "iptables", "--flush", "INPUT")
        rules = [["-i", "lo"], ["-m", "state", "--state", "ESTABLISHED"]]
        rules += [["-p", "tcp", "--dport", each] for each in ports]
        for rule in [*rules, []] if ports else []:
            action = "ACCEPT" if rule else "DROP"
            _run("ip", "netns", "exec", self.namespace, "iptables", "--append", "INPUT", *rule, "--jump", action)


@contextmanager
def three_hosts(folder: Path) -> Iterator[tuple[Host, ...]]:
    """The hosts, each reachable from the others; nothing of them is left after the block."""
    mark = f"tsk{os.getpid()}"
    made = tuple(Host(f"{mark}-host-{n}", n, f"{mark}-{n}", folder) for n in (1, 2, 3))
    switch = f"{mark}-0"
    for name in ("own", "own-1", "own-2", "own-3"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        for namespace in (switch, *(host.namespace for host in made)):
            _run("ip", "netns", "add", namespace)
            stack.callback(_removed, namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", switch, "link", "add", "bridge0", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge0", "up")
        for host in made:
            host.names_itself(host.address)
            end = f"port{host.number}"
            _run(
                "ip", "-n", switch, "link", "add", end, "type", "veth", "peer", "name", "eth7", "netns", host.namespace
            )
            _run("ip", "-n", switch, "link", "set", end, "master", "bridge0", "up")
            _run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth7")
            _run("ip", "-n", host.namespace, "link", "set", "eth7", "up")
            _run("ip", "-n", host.namespace, "route", "add", "default", "via", f"{NETWORK}.1")
        yield made


@contextmanager
def ray_on(hosts: Sequence[Host], folder: Path) -> Iterator[str]:
    """The address of a Ray cluster with a node on each host."""
    head, *others = hosts
    address = f"{head.address}:6379"
    ray = [sys.executable, "-c", PATIENT_RAY, "start", "--block", "--disable-usage-stats", "--num-cpus=2"]
    ray += [f"--{name}-port={port}" for name, port in PORTS.items()]
    ray += [f"--object-store-memory={80 << 20}", "--include-log-monitor=False"]
    first = ["--head", "--port=6379", "--include-dashboard=False", f"--temp-dir={folder}/own/ray"]
    first.append(f"--system-config={json.dumps(_LOCAL_SETTINGS)}")
    with ExitStack() as stack:
        for host, more in [(head, first), *((each, [f"--address={address}"]) for each in others)]:
            words = host.command(*ray, *more, f"--node-ip-address={host.address}")
            said = stack.enter_context((folder / f"{host.name}.txt").open("wb"))
            process = subprocess.Popen(words, env=host.environ, stdout=said, stderr=said, start_new_session=True)
            stack.callback(_ended, process)
        yield address


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE / 10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _removed(namespace: str) -> None:
    """End what still runs in a namespace, then remove it."""
    until = time.monotonic() + PATIENCE / 10
    while (pids := _output("ip", "netns", "pids", namespace).split()) and time.monotonic() < until:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    _run("ip", "netns", "del", namespace)


def _run(*words: str) -> None:
    _output(*words)


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
