"""A forked rank's life: cut loose from the agent, run the scenario's function, report, leave."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import json
import linecache
import os
import signal
import socket
import sys
import time
import traceback
import types
from typing import Any, NoReturn

import torchskew_kit as kit  # type: ignore[import-not-found,unused-ignore]
import torchskew_mounts as mounts  # type: ignore[import-not-found,unused-ignore]
import torchskew_program as program  # type: ignore[import-not-found,unused-ignore]
import torchskew_tree as tree  # type: ignore[import-not-found,unused-ignore]

REPORT_LIMIT = 2 << 20  # bytes; larger results travel as digests
TEXT_LIMIT = 64 << 10  # characters of an error's text
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Scenario:
    """A scenario's compiled source; each rank executes it afresh, so that a bad file never harms the agent."""

    def __init__(self, source: str, file: str) -> None:
        """Compile; raises SyntaxError. Tracebacks show the source, though the file is not in the version."""
        self.code = compile(source, file, "exec", dont_inherit=True)
        self.file = file
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)

    def module(self) -> Any:
        """Execute it as a new module."""
        module = types.ModuleType("torchskew_scenario")
        module.__file__ = self.file
        sys.modules[module.__name__] = module
        exec(self.code, module.__dict__)  # noqa: S102 - the harness's own scenario
        return module


class Birth:
    """What a rank gets from its agent: its job (a JobRecord), the scenario, and where to write.

    function: "rank" or "lacks". pipe, log, stacks: descriptors. close: the agent's own descriptors.
    """

    def __init__(self, function: str, rank_id: str, job: Any, scenario: Scenario) -> None:
        """Note the agent and the instant of birth; the agent fills in the descriptors."""
        self.function, self.id, self.job, self.scenario = function, rank_id, job, scenario
        self.agent, self.began = os.getpid(), time.monotonic()
        self.pipe = self.log = self.stacks = -1
        self.close: list[int] = []

    def send(self, **event: Any) -> None:
        """Write one line to the agent, with the seconds since the fork."""
        event["at"] = time.monotonic() - self.began
        data = json.dumps(event, allow_nan=False).encode() + b"\n"
        while data:
            data = data[os.write(self.pipe, data) :]


def live(birth: Birth) -> NoReturn:
    """Be the rank; ends the process, and never returns into the agent's loop.

    A rank that did its work leaves at once. After an error it leaves through the interpreter's own end, as a
    training script would, so that a crash at exit is seen; that costs a quarter of a second of work, so it
    is left out where no thread is alive that could crash (the store refused, and nothing else was created).
    """
    _leave_agent(birth)
    os.environ["TORCHSKEW_RANK"] = birth.id
    _apply_settings(birth.job.env)
    report, code = _perform(birth)
    birth.send(report=report)
    if birth.job.keep:
        birth.send(phase="held")
        while True:  # until the agent kills it: somebody wants to look inside
            signal.pause()
    birth.send(phase="exit")
    if report["error"] is None:
        leave()
    gc.collect()
    if not kit.thread_states():
        leave(code)
    raise SystemExit(code)


def _leave_agent(birth: Birth) -> None:
    """Die with the agent, own group, own output, stacks on SIGUSR1, none of the agent's descriptors."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != birth.agent:
        os._exit(1)
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (birth.log, 1), (birth.log, 2)):
        os.dup2(source, target)
    for descriptor in (null, birth.log, *birth.close):
        os.close(descriptor)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=birth.stacks, all_threads=True)


def _apply_settings(env: dict[str, str]) -> None:
    """Apply the rank's settings, also those that torch reads only while it is imported."""
    os.environ.update(env)
    if tree.is_unbuilt():
        return
    import torch

    if "TORCH_DISTRIBUTED_DEBUG" in env:
        getattr(torch.distributed, "set_debug_level_from_env", int)()  # since 1.12
    torch.set_num_threads(1)


def _perform(birth: Birth) -> tuple[dict[str, Any], int]:
    """Run the function; its report, as docs/protocol.md describes it, and the exit code after an error."""
    code = 1
    watch = program.ImportWatch()
    report: dict[str, Any] = {"finished": False, "payload": {}, "error": None, "error_after": None}
    report["unsupported"] = report["prevented"] = None

    job = kit.Job(birth.job, "provision", birth.send)
    watch.begin()
    try:
        mounts.protect(birth.job.data)
        program.enter(job)
        report["payload"] = _run_function(birth, job)
        report["finished"] = True
    except kit.Unsupported as error:
        report["unsupported"] = str(error)
    except kit.Prevented as error:
        report["prevented"] = str(error)[:TEXT_LIMIT]
    except BaseException as error:  # torch's CheckpointException is no Exception
        report["error"] = describe(error)
        report["error_after"] = time.monotonic() - job.entered
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            report["prevented"] = "the disk is full: " + report["error"]["text"]
        if isinstance(error, program.ScriptExit):
            code = error.code
        else:
            _print_traceback(error)
    ended = dict(job.phases)
    ended[job.current] = ended.get(job.current, 0.0) + time.monotonic() - job.entered
    report.update(phase=job.current, phases=ended, slow_imports=watch.seconds, **version())
    return report, code


def _print_traceback(error: BaseException) -> None:
    """As Python prints it, without the frames of the harness that called the code under test."""
    trace, ours = error.__traceback__, (__file__, program.__file__)
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    with contextlib.suppress(OSError):  # a full disk, for one: the report is still to come
        traceback.print_exception(type(error), error, trace)


def _run_function(birth: Birth, job: Any) -> dict[str, Any]:
    """Run, leave the process group, check that the payload can travel."""
    module = birth.scenario.module()
    job.phase("rendezvous" if getattr(module, "KIND", "group") == "group" else "run")
    function = getattr(module, birth.function, None)
    if job.share:
        os.makedirs(job.share, exist_ok=True)
    payload = (function(job) if function else None) or {}
    job.phase("teardown")
    if not tree.is_unbuilt():
        kit.leave_group()
    size = len(json.dumps(payload, allow_nan=False))
    if size > REPORT_LIMIT:
        why = "the payload holds {} bytes of {} allowed; report a digest".format(size, REPORT_LIMIT)
        raise ValueError(why)
    job.phase("done")
    return payload


def describe(error: BaseException) -> dict[str, str]:
    """Return the qualified type and the text of an error."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else kind.__module__ + "." + kind.__qualname__
    return {"type": name, "text": str(error)[:TEXT_LIMIT]}


def version() -> dict[str, Any]:
    """Return what this interpreter is: torch, git_version, python, numpy (None where it has none), host."""
    numpy = sys.modules.get("numpy")  # torch imports it where it is there

    return {
        **_torch(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "numpy": getattr(numpy, "__version__", None),
        "host": socket.gethostname(),
    }


def _torch() -> dict[str, str | None]:
    if tree.is_unbuilt():
        return {"torch": tree.release(), "git_version": None}
    import torch

    return {"torch": str(torch.__version__), "git_version": getattr(torch.version, "git_version", None)}


def leave(code: int = 0) -> NoReturn:
    """End the process at once; the interpreter's own end would take torch a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    measured = sys.modules.get("coverage")
    current = measured.Coverage.current() if measured else None
    if current:  # the harness's own tests
        current.stop()
        current.save()
    os._exit(code)
