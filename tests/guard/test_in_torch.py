"""Installed in a real torch, the guard covers every init_process_group and leaves the group working."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.guard.generate import FILE
from torchskew.guard.settings import spare_ports
from torchskew.model.versions import Environment

from tests.conftest import ROOT
from tests.patience import PATIENCE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

# Run in each rank: how it takes init_process_group, then its part of an all_reduce, or the error.
SCRIPT = """
import os, sys, datetime, importlib.util
import torch, torch.distributed as dist
from torch.distributed import init_process_group as taken_before
how = sys.argv[1]
if "pretend" in how and os.environ["RANK"] == "1":
    torch.__version__ = "2.1.2"
if "lazy" in how and os.environ["RANK"] == "1":
    os.environ["TORCH_GLOO_LAZY_INIT"] = "1"
if "vendored" not in how:
    spec = importlib.util.spec_from_file_location("protocol_version", os.environ["GUARD_FILE"])
    module = sys.modules["protocol_version"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install(); module.install()
start = taken_before if "before" in how else dist.init_process_group
method = os.environ.get("METHOD")
for _ in range(2 if "twice" in how else 1):
    more = dict(init_method=method, rank=int(os.environ["RANK"]), world_size=2) if method else {}
    try:
        start("gloo", timeout=datetime.timedelta(seconds=8), **more)
        value = torch.ones(1) * (dist.get_rank() + 1)
        dist.all_reduce(value)
        sys.stdout.write("sum %s %s\\n" % (float(value), sys.argv[1:]))
        dist.destroy_process_group()
    except RuntimeError as error:
        what = type(error).__name__, getattr(error, "kind", None), str(error).splitlines()[0]
        sys.stdout.write("%s %s %s\\n" % what)  # whole lines: the workers of torchrun share their output
"""


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def ranks(torch_environment: Environment, tmp_path: Path):
    """Start two ranks with these settings; returns what each printed."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)

    def start(how: str, *launch: str, **settings: str) -> list[str]:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "WORLD_SIZE": "2", "GUARD_FILE": str(FILE)}
        command = [torch_environment.handle, *launch, str(script), how, "an argument"]
        running = [
            subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **torch_environment.env,
                    **where,
                    **settings,
                    "RANK": str(rank),
                    "TMPDIR": str(tmp_path),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        return [one.communicate(timeout=PATIENCE)[0] for one in running]

    return start


def test_install_covers_a_reference_taken_before_and_a_second_init(ranks) -> None:
    assert [out.count("sum 3.0") for out in ranks("before twice")] == [2, 2]
    for out in ranks("before pretend"):
        assert "ProtocolVersionError version" in out
        assert "2.1.2" in out
        assert "2.13.0" in out


def test_a_script_runs_guarded_without_a_change(ranks) -> None:
    assert ["sum 3.0 ['vendored', 'an argument']" in out for out in ranks("vendored", str(FILE))] == [True, True]
    refused = ranks("vendored pretend", "-m", "torchskew.guard", PYTHONPATH=str(ROOT / "harness"))
    assert ["ProtocolVersionError version" in out for out in refused] == [True, True]


@pytest.fixture
def torchrun(torch_environment: Environment, tmp_path: Path):
    """Start two workers under torchrun, through the guard; returns what that printed.

    Under warn this guard may wait as long as under enforce: how fast the machine is, is not what these tests are about.
    """
    script, guard = tmp_path / "train.py", tmp_path / FILE.name
    script.write_text(SCRIPT)
    text = FILE.read_text(encoding="utf-8")
    assert text.count(", MOST_APART = 1.8,") == text.count("now + min(seconds, 1.0)") == 1
    patient = text.replace(", MOST_APART = 1.8,", ", MOST_APART = 10.0,")
    guard.write_text(patient.replace("now + min(seconds, 1.0)", "now + seconds"), encoding="utf-8")

    def start(how: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [torch_environment.handle, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options]
        settings = {**os.environ, **torch_environment.env, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
        settings["GLOO_SOCKET_IFNAME"] = "lo"
        return subprocess.run(
            [*command, str(guard), str(script), how],
            env=settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return start


def test_workers_of_torchrun_are_guarded_although_its_agent_has_their_port(torchrun) -> None:
    refused = torchrun("vendored pretend", "--master-port", str(port()))
    assert refused.stdout.count("ProtocolVersionError version") == 2


def test_workers_of_torchrun_that_may_mix_compute(torchrun) -> None:
    assert torchrun("vendored", "--standalone").stdout.count("sum 3.0") == 2


@pytest.mark.parametrize("how", ["env://", "tcp://"])
def test_ranks_meet_at_a_bridge_without_a_change_to_their_script(ranks, how: str) -> None:
    """Rank 1 says it is 2.1.2. The second group has a bridge of its own."""
    settings = {"TORCHSKEW_GUARD": "bridge", "PYTHONPATH": str(ROOT / "harness")}
    if how == "tcp://":
        settings["METHOD"] = f"tcp://127.0.0.1:{port()}"
    outs = ranks("vendored pretend twice", "-m", "torchskew.guard", **settings)
    assert [out.count("sum 3.0") for out in outs] == [2, 2]


@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_agents_of_torchrun_and_their_workers_meet_at_bridges(
    two_agents, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agents say they are 2.1.2 and 2.2.2, so their workers can't use the store of the other's agent either."""
    monkeypatch.setenv("TORCHSKEW_GUARD", "bridge")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "harness"))
    for out in two_agents(backend, "2.1.2", "2.2.2"):
        assert "sum 3.0" in out
        assert "releases whose stores can't mix meet at a bridge, port " in out


def test_files_are_guarded_too(ranks, tmp_path: Path) -> None:
    method = f"file://{tmp_path}/init"
    assert ["sum 3.0" in out for out in ranks("file", METHOD=method)] == [True, True]
    assert ["ProtocolVersionError version" in out for out in ranks("file pretend", METHOD=method)] == [True, True]


def test_warn_goes_on_where_enforce_refuses(ranks) -> None:
    """The pretended release speaks the same, so the group works once it is let through."""
    assert ["sum 3.0" in out for out in ranks("pretend", TORCHSKEW_GUARD="warn")] == [True, True]
    assert ["sum 3.0" in out for out in ranks("pretend", TORCHSKEW_GUARD="off")] == [True, True]


def test_a_setting_on_one_rank_is_refused_before_it_crashes_the_other(ranks) -> None:
    assert ["ProtocolVersionError settings" in out for out in ranks("lazy")] == [True, True]
    assert ["sum 3.0" in out for out in ranks("both", TORCH_GLOO_LAZY_INIT="1")] == [True, True]


def test_usage_is_shown_without_a_script() -> None:
    done = subprocess.run([sys.executable, str(FILE)], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "usage: python torchskew_guard.py" in done.stderr


def neighbours() -> tuple[int, socket.socket]:
    """A free port, and a server on the next one; below those that a kernel gives to outgoing connections meanwhile."""
    for first in range(24000, 32000, 2):
        with contextlib.suppress(OSError):
            socket.create_server(("0.0.0.0", first)).close()
            return first, socket.create_server(("0.0.0.0", first + 1))
    raise AssertionError("no two free ports in a row")


@pytest.mark.parametrize("mode", ["enforce", "warn", "strict"])
def test_workers_of_torchrun_form_where_the_neighbouring_port_is_taken(
    torchrun, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's store has MASTER_PORT, and another program the port after it."""
    monkeypatch.setenv("TORCHSKEW_GUARD", mode)
    master, taken = neighbours()
    with taken:
        done = torchrun("vendored", "--master-port", str(master))
    assert done.stdout.count("sum 3.0") == 2
    assert "torchskew guard" not in done.stderr


@pytest.mark.parametrize("mode", ["enforce", "warn"])
def test_workers_of_torchrun_form_with_one_line_where_every_port_is_taken(
    torchrun, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", mode)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # what torchrun gives its workers
    master = port()
    with contextlib.ExitStack() as taken:
        for spare in spare_ports(master):
            with contextlib.suppress(OSError):  # then something else has it, which serves as well
                taken.enter_context(socket.create_server(("0.0.0.0", spare)))
        done = torchrun("vendored", "--master-port", str(master))
    assert done.stdout.count("sum 3.0") == 2
    assert done.stderr.count("torchskew guard, rank 0: ") == 1
    assert "rank 0 can't listen for hellos" in done.stderr
    assert done.stderr.count("torchskew guard, rank 1: ") == 1


# One rank, in a store that it is given, of a torch whose groups keep the timeout of their init.
ALONE = """
import datetime, importlib.util, os, sys
import torch, torch.distributed as dist
spec = importlib.util.spec_from_file_location("the_guard", os.environ["GUARD_FILE"])
guard = sys.modules["the_guard"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
guard.restorable = lambda backend: False
guard.install()
store = dist.TCPStore("127.0.0.1", 0, None, True, datetime.timedelta(seconds=90), wait_for_workers=False)
asked = dict(store=store, rank=0, world_size=2, timeout=datetime.timedelta(seconds=8))
try:
    dist.init_process_group("gloo", **asked)
except dist.DistStoreError as error:
    sys.stdout.write(str(error))
"""


def test_where_a_group_keeps_its_timeout_gloo_waits_for_what_the_guard_left_of_it(
    torch_environment: Environment, tmp_path: Path
) -> None:
    """Up to 2.12 every group does; `python -m tests.guard.missing` shows it of such releases."""
    (tmp_path / "alone.py").write_text(ALONE)
    command = [torch_environment.handle, "-W", "ignore", str(tmp_path / "alone.py")]
    env = {**os.environ, **torch_environment.env, "GUARD_FILE": str(FILE), "TMPDIR": str(tmp_path)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    waited = re.match(r"wait timeout after (\d+)ms, keys: ", said)
    assert waited, said
    assert 1000 <= int(waited[1]) <= 4000  # half of the timeout went to the guard


# What torchrun runs, by an agent that says it is of another release.
PRETENDING = """
import os
import torch
torch.__version__ = os.environ["AGENT"]
from torch.distributed.run import main
main()
"""


@pytest.fixture
def two_agents(torch_environment: Environment, tmp_path: Path):
    """Start two agents with a worker each; what each printed, both streams together."""
    (tmp_path / "agent.py").write_text(PRETENDING)
    (tmp_path / "train.py").write_text(SCRIPT)

    def start(backend: str, *releases: str, how: str = "vendored") -> list[str]:
        where, running = port(), []
        for number, release in enumerate(releases):
            options = ["--master-addr", "127.0.0.1", "--master-port", str(where), "--node-rank", str(number)]
            if backend == "c10d":
                options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{where}", "--rdzv-id", "a job"]
            command = [torch_environment.handle, str(FILE), str(tmp_path / "agent.py"), "--nnodes", "2", *options]
            env = {**os.environ, **torch_environment.env, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
            env |= {"AGENT": release, "TMPDIR": str(tmp_path)}
            running.append(subprocess.Popen([*command, str(tmp_path / "train.py"), how], env=env, text=True,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT))  # fmt: skip
        try:
            return [each.communicate(timeout=PATIENCE)[0] for each in running]
        finally:
            for each in running:
                each.kill()
                each.wait()

    return start


@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_two_agents_of_torchrun_are_refused_before_any_worker_starts(two_agents, backend: str) -> None:
    for out in two_agents(backend, "2.1.2", "2.2.2"):
        assert "Incompatible PyTorch releases among the agents of one job: torch 2." in out
        assert "store era differs since 2.2: agent" in out
        assert "sum" not in out
        assert "init_process_group" not in out


def test_two_agents_of_torchrun_form_and_a_worker_of_another_release_says_so(two_agents) -> None:
    """The agents say 2.6.0, the workers run what is there: a mix that works."""
    for out in two_agents("c10d", "2.6.0", "2.6.0"):
        assert "sum 3.0" in out
        assert "this worker runs torch 2.13.0+cpu, the agent that started it 2.6.0" in out
