"""Two hosts with a bridge between them: network namespaces in which light ranks meet, over good and bad networks.

`python -m tests.guard.networks [NAME...]` prints for each network what a group that may form and one that may not come
to, and how long after the last rank started. It needs root, ip, iptables and tc. The ranks have the guard but no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.guard.ranks import FAR, Group, hello_of
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PORT, TOOLS = 29500, ("ip", "iptables", "ip6tables", "tc", "unshare")
IPV4, IPV6, OTHER = ("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2"), "10.88.0.1"
NETNS = Path("/etc/netns")  # `ip netns exec` shows each namespace its own files from here


class Ended(NamedTuple):
    """What one rank came to: "formed" or the kind of its error, and its text; seconds are on the monotonic clock."""

    what: str
    text: str
    began: float
    ended: float


class Network:
    """Hosts 0 and 1, each with one interface on a bridge, which is in a namespace of its own."""

    def __init__(self, name: str) -> None:
        """Make it; CalledProcessError where that is not permitted."""
        self.hosts = (f"{name}-0", f"{name}-1")
        self.switch = f"{name}-s"
        self.made: list[str] = []
        try:
            for each in (self.switch, *self.hosts):
                run("ip", "netns", "add", each)
                self.made.append(each)
                run("ip", "-n", each, "link", "set", "lo", "up")
            run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
            run("ip", "-n", self.switch, "link", "set", "br0", "up")
            for number, host in enumerate(self.hosts):
                port = f"port{number}"
                peer = ("peer", "name", "eth0", "netns", host)
                run("ip", "-n", self.switch, "link", "add", port, "type", "veth", *peer)
                run("ip", "-n", self.switch, "link", "set", port, "master", "br0", "up")
                run("ip", "-n", host, "link", "set", "eth0", "up")
                self.files(number)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Nothing of it stays."""
        for each in self.made:
            subprocess.run(["ip", "netns", "del", each], check=False, capture_output=True)
            shutil.rmtree(NETNS / each, ignore_errors=True)
        with contextlib.suppress(OSError):
            NETNS.rmdir()

    def addresses(self, *, four: bool = True, six: bool = True) -> None:
        """Give both hosts theirs."""
        for number, host in enumerate(self.hosts):
            if four:
                run("ip", "-n", host, "addr", "add", f"{IPV4[number]}/24", "dev", "eth0")
            if six:
                run("ip", "-n", host, "addr", "add", f"{IPV6[number]}/64", "dev", "eth0", "nodad")

    def files(self, number: int, hosts: str = "", resolv: str = "") -> None:
        """What one host has in /etc/hosts, besides its own name, and in /etc/resolv.conf."""
        folder = NETNS / self.hosts[number]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}\n")
        (folder / "resolv.conf").write_text(resolv + "\n")

    def inside(self, number: int, *command: str) -> list[str]:
        """A command as it runs on one host."""
        return ["ip", "netns", "exec", self.hosts[number], *command]

    def on_both(self, *command: str) -> None:
        """Run a command on each host."""
        for number in range(2):
            run(*self.inside(number, *command))

    def group(self, releases: tuple[str, ...], where: tuple[str, str], seconds: float = FAR) -> dict[int, Ended]:
        """What each rank came to: rank 0 on host 0, the others on host 1. where: MASTER_ADDR on each host."""
        hellos = [hello_of(rank, torch, world=len(releases)) for rank, torch in enumerate(releases)]
        started = []
        for number, ours in ((0, hellos[:1]), (1, hellos[1:])):
            asked = json.dumps({"where": where[number], "seconds": seconds, "hellos": ours})
            command = self.inside(number, sys.executable, "-m", "tests.guard.networks", "--ranks", asked)
            env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'harness'}", "PATH": os.environ["PATH"]}
            started.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True))
        ended: dict[int, Ended] = {}
        try:
            for each in started:
                out, _ = each.communicate(timeout=PATIENCE)
                ended |= {int(rank): Ended(*values) for rank, values in json.loads(out).items()}
        finally:
            for each in started:
                each.kill()
                each.wait()
        return ended


def run(*command: str) -> None:
    """Run a command that must succeed; CalledProcessError has what it said."""
    subprocess.run(command, check=True, capture_output=True, text=True)


def missing() -> str:
    """Why no network can be made here; "" where one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    try:
        run("unshare", "-n", "true")
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.strip()}"
    return ""


@contextlib.contextmanager
def network(name: str) -> Iterator[tuple[Network, tuple[str, str]]]:
    """One of NETWORKS, with MASTER_ADDR on each of its hosts."""
    made = Network(f"torchskew-{os.getpid()}")
    try:
        yield made, NETWORKS[name](made)
    finally:
        made.close()


def ipv4(made: Network) -> tuple[str, str]:
    """By address."""
    made.addresses(six=False)
    return IPV4[0], IPV4[0]


def ipv6_only(made: Network) -> tuple[str, str]:
    """No host has an IPv4 address, loopback aside."""
    made.addresses(four=False)
    return IPV6[0], IPV6[0]


def names(made: Network) -> tuple[str, str]:
    """By a name with one address of each kind."""
    made.addresses()
    for number in range(2):
        made.files(number, hosts=f"{IPV6[0]} rank0.test\n{IPV4[0]} rank0.test")
    return "rank0.test", "rank0.test"


def one_dead_address(made: Network) -> tuple[str, str]:
    """By a name whose first address leads nowhere: its packets are dropped."""
    made.addresses()
    for number in range(2):
        made.files(number, hosts=f"{IPV6[0]} rank0.test\n{IPV4[0]} rank0.test")
    run(*made.inside(1, "ip6tables", "-A", "OUTPUT", "-d", IPV6[0], "-j", "DROP"))
    return "rank0.test", "rank0.test"


def loss(made: Network) -> tuple[str, str]:
    """2 % of all packets are lost, each way."""
    made.addresses(six=False)
    made.on_both("iptables", "-A", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random",
                 "--probability", "0.02", "-j", "DROP")  # fmt: skip
    return IPV4[0], IPV4[0]


def slow_link(made: Network) -> tuple[str, str]:
    """256 kbit/s each way."""
    made.addresses(six=False)
    made.on_both("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "256kbit", "burst", "4kb",
                 "latency", "2s")  # fmt: skip
    return IPV4[0], IPV4[0]


def dead_resolver(made: Network) -> tuple[str, str]:
    """By address; resolv.conf names a server whose packets are dropped."""
    made.addresses(six=False)
    for number in range(2):
        made.files(number, resolv="nameserver 10.77.0.99")
    made.on_both("iptables", "-A", "OUTPUT", "-d", "10.77.0.99", "-j", "DROP")
    return IPV4[0], IPV4[0]


def wrong_interface(made: Network) -> tuple[str, str]:
    """Host 1 has the address of another interface of host 0, to which its packets have no way."""
    made.addresses(six=False)
    run("ip", "-n", made.hosts[0], "addr", "add", f"{OTHER}/32", "dev", "lo")
    run("ip", "-n", made.hosts[1], "route", "add", "unreachable", "10.88.0.0/24")
    return OTHER, OTHER


def silent_interface(made: Network) -> tuple[str, str]:
    """As wrong_interface(), but what host 1 sends is dropped without a word."""
    made.addresses(six=False)
    run("ip", "-n", made.hosts[1], "route", "add", "10.88.0.0/24", "via", IPV4[0])
    run(*made.inside(0, "iptables", "-A", "INPUT", "-d", OTHER, "-j", "DROP"))
    run("ip", "-n", made.hosts[0], "addr", "add", f"{OTHER}/32", "dev", "lo")
    return OTHER, OTHER


def unresolved(made: Network) -> tuple[str, str]:
    """Only host 0 knows the name."""
    made.addresses(six=False)
    made.files(0, hosts=f"{IPV4[0]} rank0.test")
    return "rank0.test", "rank0.test"


# Networks on which ranks find each other, and networks on which they can't.
GOOD = {each.__name__: each for each in (ipv4, ipv6_only, names, one_dead_address, loss, slow_link, dead_resolver)}
BAD = {each.__name__: each for each in (wrong_interface, silent_interface, unresolved)}
NETWORKS = {**GOOD, **BAD}
MATCH, MISMATCH = ("2.6.0", *["2.13.0"] * 7), ("2.2.2", *["2.1.2"] * 7)


def _ranks(asked: dict[str, Any]) -> None:
    """Run the ranks of one host, and print what they came to."""
    group = Group(PORT, asked["seconds"])
    group.host, began = asked["where"], time.monotonic()
    for hello in asked["hellos"]:
        group.start(hello["rank"], hello)
    said = {}
    for rank, result in group.join().items():
        what = "formed" if isinstance(result, dict) else getattr(result, "kind", type(result).__name__)
        said[rank] = Ended(what, "" if what == "formed" else str(result), began, group.ended[rank])
    sys.stdout.write(json.dumps(said) + "\n")


def _line(ended: dict[int, Ended]) -> str:
    """What a group came to, and seconds from the last start to the last end."""
    seconds = max(each.ended for each in ended.values()) - max(each.began for each in ended.values())
    return f"{'/'.join(sorted({each.what for each in ended.values()}))} {seconds:.2f} s"


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--ranks"]:
        _ranks(json.loads(arguments[1]))
        return
    reason = missing()
    if reason:
        sys.exit(f"No network can be made here: {reason}.")
    unknown = set(arguments) - set(NETWORKS)
    if unknown:
        sys.exit(f"No such network: {', '.join(sorted(unknown))}. There are: {', '.join(NETWORKS)}.")
    for name in arguments or NETWORKS:
        seconds = FAR if name in GOOD else 5.0
        with network(name) as (made, where):
            lines = [_line(made.group(releases, where, seconds)) for releases in (MATCH, MISMATCH)]
        sys.stdout.write(f"| {name} | {' | '.join(lines)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
