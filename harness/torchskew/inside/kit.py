"""What a scenario works with inside a rank: the Job, its phases, and bytes of tensors without numpy."""

from __future__ import annotations

import ctypes
import datetime as dt
import fnmatch
import functools
import glob
import hashlib
import importlib
import json
import os
import shutil
import socket
import sysconfig
import time
from typing import Any, Callable, NoReturn

GUARD = "torchskew_guard"
AT_A_BRIDGE = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}


class Unsupported(Exception):  # noqa: N818 - it is no error: the version says what it lacks
    """The version lacks what the scenario needs; the text is the version's own where it has one."""


class Prevented(Exception):  # noqa: N818 - it is no error of the version: what had to come first failed
    """What the rank needs before it can say anything about the version could not be had; the text says why."""


def clients_without_libuv() -> None:
    """Let env:// make clients in a build without libuv.

    Since 2.6 it asks for libuv in a client, whatever USE_LIBUV says. A client has no use for it: nothing else changes.
    """
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")
    if "use_libuv" in (rendezvous.TCPStore.__init__.__doc__ or ""):
        rendezvous.TCPStore = functools.partial(rendezvous.TCPStore, use_libuv=False)


class Job:
    """One rank's part in a cell.

    rank, world_size; host, port (where rank 0's store listens, or the bridge); timeout (seconds for the process group);
    guard (this rank installs it); bridge (a bridge listens at the port; no rank hosts a store);
    variant, params (of the scenario); skip (case pattern -> why);
    share (a folder every rank of the cell sees); skew (declared versions, rank 0 first); seed;
    ranks_per_node, node, local_rank (which node this rank is on, and which of that node's ranks it is);
    paths, cwd (what came first on sys.path, and where the rank works).
    phases: seconds by name, of the phases that ended; entered: when the current one began (monotonic).
    """

    def __init__(self, record: Any, phase: str, send: Callable[..., None]) -> None:
        """Record: the JobRecord that the harness wrote. send: writes an event's fields to the harness."""
        self.rank: int = record.rank
        self.world_size: int = record.world_size
        self.host: str = record.host
        self.port: int = record.port
        self.timeout: float = record.timeout
        self.guard: bool = record.guard
        self.bridge: bool = record.bridge
        self.variant: str | None = record.variant
        self.params: dict[str, Any] = record.params
        self.skip: dict[str, str] = record.skip
        self.share: str = record.share
        self.skew: list[str] = record.skew
        self.seed: int = record.seed
        self.paths: list[str] = record.paths
        self.cwd: str | None = record.cwd
        self.ranks_per_node: int = record.ranks_per_node
        self.node, self.local_rank = divmod(record.rank, record.ranks_per_node)
        self.current = phase
        self.phases: dict[str, float] = {}
        self.entered = time.monotonic()
        self._send = send

    def phase(self, name: str) -> None:
        """Enter a phase: rendezvous, run, teardown or done."""
        now = time.monotonic()
        self.phases[self.current] = self.phases.get(self.current, 0.0) + now - self.entered
        self.current, self.entered = name, now
        self._send(phase=name)

    def report_progress(self, name: str, step: int = 0) -> None:
        """Report a step of the work while it goes on; it reaches the harness as a `progress` event."""
        self._send(progress=name, step=step)

    def rendezvous(self, init_method: str | None = None) -> None:
        """Join the process group (gloo), under the guard where this rank has it, and enter phase run."""
        import torch.distributed as dist

        if self.current != "rendezvous":
            self.phase("rendezvous")
        if self.guard:
            importlib.import_module(GUARD).install()
        where = {"init_method": init_method or self.meeting_place()}
        if init_method is None and not self.port:  # a world of one needs no place to meet
            where = {"store": dist.HashStore()}
        limit = dt.timedelta(seconds=self.timeout)
        dist.init_process_group("gloo", rank=self.rank, world_size=self.world_size, timeout=limit, **where)
        self.phase("run")

    def meeting_place(self) -> str:
        """Return the init_method by which the ranks of this cell meet at their store.

        A tcp:// URL makes rank 0 host it. Only env:// makes every rank a client of one that is there already; then
        torch takes the place and these settings, torchrun's own, from the environment.
        """
        if not self.bridge:
            return "tcp://{}:{}".format(self.host, self.port)
        os.environ.update(MASTER_ADDR=self.host, MASTER_PORT=str(self.port), **AT_A_BRIDGE)
        if os.environ.get("USE_LIBUV") == "0":
            clients_without_libuv()
        return "env://"

    def store(self) -> Any:
        """Host (rank 0, where there is no bridge) or join a TCPStore, without a process group; enters phase run."""
        self.phase("rendezvous")
        store = self._tcp_store()
        self.phase("run")
        return store

    def _tcp_store(self) -> Any:
        """A build without libuv takes USE_LIBUV from init_process_group's environment, its store from an argument."""
        import torch.distributed as dist

        takes_libuv = "use_libuv" in (dist.TCPStore.__init__.__doc__ or "")
        options = {"use_libuv": False} if takes_libuv and os.environ.get("USE_LIBUV") == "0" else {}
        limit = dt.timedelta(seconds=self.timeout)
        hosts = self.rank == 0 and not self.bridge
        return dist.TCPStore(self.host, self.port, self.world_size, hosts, limit, **options)

    def skipped(self, case: str) -> bool:
        """Whether a version of the group lacks this case, so that every rank leaves it out."""
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in self.skip)

    def need(self, case: str) -> None:
        """End this rank where a version of the group lacks the case that the whole cell is about."""
        for pattern, why in self.skip.items():
            if fnmatch.fnmatchcase(case, pattern):
                self.unsupported(why)

    def path(self, name: str) -> str:
        """Return the path of a file that every rank of this cell sees."""
        return os.path.join(self.share, name)

    def post(self, name: str, value: Any) -> None:
        """Leave a JSON value for the other ranks, outside the code under test; it appears all at once."""
        unfinished = self.path("{}.{}.part".format(name, self.rank))
        with open(unfinished, "w") as file:
            json.dump(value, file)
        os.replace(unfinished, self.path(name))

    def fetch(self, name: str) -> Any:
        """Wait for a value that another rank posts, at most the group's timeout."""
        until, path = time.monotonic() + self.timeout, self.path(name)
        while not os.path.exists(path):
            if time.monotonic() > until:
                why = "no rank posted {} within {} s".format(name, self.timeout)
                raise TimeoutError(why)
            time.sleep(0.005)
        with open(path) as file:
            return json.load(file)

    def unsupported(self, text: str) -> NoReturn:
        """End this rank: the version lacks what the scenario needs."""
        raise Unsupported(text)

    def prevented(self, text: str) -> NoReturn:
        """End this rank without a result: what had to come first failed, which says nothing about the version."""
        raise Prevented(text)


def raw(tensor: Any) -> bytes:
    """Return the bytes of a contiguous CPU tensor, in the machine's order."""
    size = tensor.numel() * tensor.element_size()
    return ctypes.string_at(tensor.data_ptr(), size) if size else b""


def fill(tensor: Any, data: bytes) -> None:
    """Write bytes into a contiguous CPU tensor of exactly that size."""
    if len(data) != tensor.numel() * tensor.element_size():
        why = "{} bytes don't fill {}".format(len(data), tuple(tensor.shape))
        raise ValueError(why)
    if data:
        ctypes.memmove(tensor.data_ptr(), data, len(data))


def digest(data: bytes) -> str:
    """Return the sha256 of data, in hex."""
    return hashlib.sha256(data).hexdigest()


def patterned(block: list[Any], size: int, dtype: str) -> Any:
    """Return a tensor of a length and dtype whose elements repeat the block."""
    import torch

    tensor = torch.tensor(block, dtype=getattr(torch, dtype))
    return tensor.repeat(-(-size // len(block)))[:size].clone()


def refusal(call: Callable[[], Any]) -> str | None:
    """Return a version's own words where it can't do something, None where it can."""
    try:
        call()
    except BaseException as error:  # torch's CheckpointException is no Exception
        lines = str(error).strip().splitlines() or [""]
        return "{}: {}".format(type(error).__name__, lines[0][:200])
    return None


def no_compiler() -> str | None:
    """Return why no C++ extension can be built here: no compiler, no headers or no ninja; None where all are there."""

    def ninja() -> None:
        from torch.utils import cpp_extension

        cpp_extension.verify_ninja_availability()

    compiler = os.environ.get("CXX", "c++")
    headers = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    reasons = (
        None if shutil.which(compiler) else "there is no C++ compiler ({})".format(compiler),
        None if os.path.exists(headers) else "Python's headers are not there ({})".format(headers),
        refusal(ninja),
    )
    return next((reason for reason in reasons if reason), None)


def made_once(what: str, make: Callable[[str], None]) -> str:
    """The folder that make() fills, once for each torch: it would be the same for each cell of a run.

    Agents of several releases share the temporary folder, so the installation is part of the folder's name.
    """
    import fcntl

    folder = "%s-%s" % (_made_by_this_torch(), digest(what.encode())[:16])
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, "whole")):
            shutil.rmtree(folder, ignore_errors=True)  # of a maker that was killed
            os.makedirs(folder)
            make(folder)
            with open(os.path.join(folder, "whole"), "w"):
                pass
    return folder


def forget_made() -> None:
    """Remove what made_once() keeps for this torch, so that the next ranks make it anew."""
    for path in glob.glob(glob.escape(_made_by_this_torch()) + "-*"):
        shutil.rmtree(path, ignore_errors=True)


def _made_by_this_torch() -> str:
    """How the paths of the folders that made_once() fills begin."""
    import tempfile

    import torch

    name = digest(("%s %s" % (torch.__file__, torch.__version__)).encode())[:16]
    return os.path.join(tempfile.gettempdir(), "torchskew-made-" + name)


def built_operators(name: str, text: str, folder: str, *flags: str) -> str:
    """Build a library of operators from one C++ source, put it into a folder, load it, and return its path."""
    import torch
    from torch.utils import cpp_extension

    # -O0: the compiler's time is in the headers; -g0: their debug information is most of the file.
    options, loaded = ["-O0", "-g0", *flags], []

    def build(where: str) -> None:
        source = os.path.join(where, "source.cpp")
        with open(source, "w") as file:
            file.write(text)
        cpp_extension.load(name, [source], build_directory=where, extra_cflags=options, is_python_module=False)
        loaded.append(where)

    os.makedirs(folder, exist_ok=True)
    library = os.path.join(folder, name + ".so")
    shutil.copy(os.path.join(made_once(repr((name, text, options)), build), name + ".so"), library)
    if not loaded:
        torch.ops.load_library(library)
    return library


def load_refusal(path: str) -> str | None:
    """Load a library of operators; the loader's words where it refuses."""
    import torch

    try:
        torch.ops.load_library(path)
    except OSError as error:
        return " ".join(map(str, (error, error.__cause__)))[-2000:]
    return None


def meet_alone(job: Job) -> None:
    """Let a job of one rank host its store on a port of the loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        job.host, job.port = "127.0.0.1", probe.getsockname()[1]


def start_rpc(job: Job) -> None:
    """Meet the other ranks in RPC, as the phase `rendezvous`; then the phase is `run`. A rank's name is like rank0."""
    from torch.distributed import rpc

    if "GLOO_SOCKET_IFNAME" in os.environ:  # which of the machine's addresses ranks reach each other by
        os.environ.setdefault("TP_SOCKET_IFNAME", os.environ["GLOO_SOCKET_IFNAME"])
    job.phase("rendezvous")
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=job.meeting_place(), rpc_timeout=job.timeout, num_worker_threads=4
    )
    name = "rank{}".format(job.rank)
    rpc.init_rpc(name, rank=job.rank, world_size=job.world_size, rpc_backend_options=options)
    job.phase("run")


def host_leaves_last(job: Job) -> None:
    """Let rank 0 stay until all are here: the store dies with its host, and the last steps of the others need it."""
    job.post("down {}".format(job.rank), True)
    for rank in range(job.world_size if job.rank == 0 else 0):
        job.fetch("down {}".format(rank))


def forked_world(job: Job, size: int, name: str, work: Callable[[int], Any]) -> list[Any]:
    """Run work(rank) in a gloo world of forked processes of this rank; return what each gave, by rank.

    They meet over a file of this name in the cell's folder, so each world of a cell needs a name of its own.
    """
    for rank in range(size):
        if os.fork() == 0:
            job.post("{} {}".format(name, rank), _member(job, size, name, (rank, work)))
            for other in range(size):  # nobody leaves while another may still talk to it
                job.fetch("{} {}".format(name, other))
            os._exit(0)
    told = [job.fetch("{} {}".format(name, rank)) for rank in range(size)]
    errors = [one["error"] for one in told if "error" in one]
    if errors:
        raise RuntimeError(errors[0])
    return [one["gave"] for one in told]


def _member(job: Job, size: int, name: str, part: tuple[int, Callable[[int], Any]]) -> dict[str, Any]:
    """What one process of a forked world gave, or its error, which begins with its cause."""
    import torch.distributed as dist

    rank, work = part
    limit = dt.timedelta(seconds=job.timeout)
    try:
        where = "file://" + job.path(name)
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=limit)
        return {"gave": work(rank)}
    except BaseException as error:  # torch's CheckpointException is no Exception
        lines = str(error).strip().splitlines() or [""]
        return {"error": "{}: {}\n{}".format(type(error).__name__, lines[-1], error)}


def leave_group() -> None:
    """Destroy the process group where there is one, when gloo's threads rest."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        _let_threads_rest()
        dist.destroy_process_group()


def _let_threads_rest() -> None:
    """Wait until every other thread sleeps, twice in a row, at most 0.1 s.

    Up to 2.6 the group's destructor joins gloo's worker while it holds the interpreter's lock. A worker that still
    has to drop the last reference to a tensor wants that lock: both wait for ever, in one rank of five as measured
    with 2.1, and in one group of six with 2.6; never in 3,000 with 2.13.
    """
    until, asleep = time.monotonic() + 0.1, 0
    while asleep < 2 and time.monotonic() < until:
        time.sleep(0.0005)
        asleep = asleep + 1 if set(thread_states()) <= {"S"} else 0


def thread_states() -> list[str]:
    """Return the kernel's word for each other thread of this process: S sleeping, R running or ready."""
    return [_state(thread) for thread in set(os.listdir("/proc/self/task")) - {str(os.getpid())}]


def _state(thread: str) -> str:
    try:
        with open("/proc/self/task/{}/stat".format(thread), "rb") as line:
            return line.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
        return "X"
