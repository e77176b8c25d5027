"""Runs a user's own code inside a rank: where it expects to be, and a script as `python script.py` would."""

from __future__ import annotations

import atexit
import builtins
import importlib
import linecache
import os
import runpy
import sys
import threading
import time
import traceback
import types
from typing import Any

GUARD = "torchskew_guard"
SLOW = 0.5  # seconds from which an import is worth doing ahead of the fork


class ScriptExit(Exception):  # noqa: N818 - the name of what happened: the script itself chose to end so
    """A script ended with an exit code other than 0, which its rank ends with as well."""

    def __init__(self, code: int, text: str) -> None:
        """Take the exit code, and what the script gave to sys.exit where that is a text."""
        super().__init__(text)
        self.code = code


def enter(job: Any) -> None:
    """Put the folders that the job names on sys.path, and work in the folder that it names."""
    if job.paths:
        sys.path[:0] = [path for path in job.paths if path not in sys.path]
        importlib.invalidate_caches()
    if job.cwd is not None:
        where = os.path.join(job.share, job.cwd)
        if not os.path.isabs(job.cwd):
            os.makedirs(where, exist_ok=True)
        os.chdir(where)


def launcher_settings(job: Any) -> dict[str, str]:
    """Return the variables that a launcher gives each rank."""
    return {
        "RANK": str(job.rank),
        "WORLD_SIZE": str(job.world_size),
        "LOCAL_RANK": str(job.local_rank),
        "LOCAL_WORLD_SIZE": str(job.ranks_per_node),
        "GROUP_RANK": str(job.node),
        "MASTER_ADDR": job.host,
        "MASTER_PORT": str(job.port),
    }


def run_script(job: Any) -> dict[str, Any]:
    """Run the script in job.params (path, text, args) as the main module of this process, to its very end."""
    path, text = job.params["path"], job.params["text"]
    os.environ.update(launcher_settings(job))
    job.meeting_place()  # at a bridge, this sets what makes a rank its client
    if job.guard:
        importlib.import_module(GUARD).install()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None, __annotations__={})
    sys.modules["__main__"] = main
    sys.argv = [path, *job.params["args"]]
    sys.path.insert(0, os.path.dirname(path))
    linecache.cache[path] = (len(text), None, text.splitlines(True), path)
    job.phase("run")
    try:
        exec(compile(text, path, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - our user's own script
    except SystemExit as end:
        _raise_unless_good(end.code, "the script")
    finally:
        _end_as_the_interpreter_does()
    return {}


def _raise_unless_good(code: Any, who: str) -> None:
    """What Python makes of sys.exit(code): None and 0 are good, a number is the exit code, anything else is a text."""
    if code in (None, 0):
        return
    if isinstance(code, int):
        raise ScriptExit(code & 0xFF, "{} ended with exit code {}".format(who, code & 0xFF)) from None
    print(code, file=sys.stderr)
    raise ScriptExit(1, "{} ended with exit code 1: {}".format(who, code)) from None


def _end_as_the_interpreter_does() -> None:
    """Wait for threads that are no daemons, then run what was registered for the exit."""
    getattr(threading, "_shutdown", int)()
    run = getattr(atexit, "_run_exitfuncs", None)
    if run:
        run()


def run_torchrun(job: Any) -> dict[str, Any]:
    """Run the script under this release's own torchrun, which starts the ranks of this node.

    Torchrun's agent runs in this process, as `python -m torch.distributed.run` would, because torch is imported here
    already: to import it in one more process is what most of such a cell would wait for.
    """
    sys.argv = ["torchrun", "--nnodes", str(job.world_size), "--node_rank", str(job.rank)]
    sys.argv += ["--nproc_per_node", str(job.ranks_per_node), "--master_addr", job.host, "--master_port", str(job.port)]
    sys.argv += ["--max_restarts", "0", job.params["path"], *job.params["args"]]
    os.environ["PYTHONPATH"] = os.pathsep.join(job.paths)  # for the ranks that torchrun starts
    job.phase("run")
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        _raise_unless_good(end.code, "torchrun")
    except Exception:
        traceback.print_exc()  # as the interpreter does for the main module
        raise ScriptExit(1, "torchrun ended with exit code 1") from None
    finally:
        _end_as_the_interpreter_does()
    return {}


class ImportWatch:
    """Times imports of torch's own modules in a rank, so that slow ones can be done ahead of the next fork.

    It is a finder that finds nothing itself. seconds: by module, of the outermost imports that took SLOW or longer.
    A user's own modules are left alone: they are the code under test, and run in every rank anew.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.seconds: dict[str, float] = {}
        self._loading = False

    def begin(self) -> None:
        """Be asked first for every module that is not imported yet."""
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find an outermost module of torch with the other finders, and time its execution; None for any other."""
        if self._loading or not name.startswith("torch."):
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                return self._timed(spec)
        return None

    def _timed(self, spec: Any) -> Any:
        execute: Any = getattr(spec.loader, "exec_module", None)

        def timed(module: Any) -> None:
            self._loading, began = True, time.monotonic()
            try:
                execute(module)
            finally:
                self._loading = False
                if time.monotonic() - began >= SLOW:
                    self.seconds[spec.name] = time.monotonic() - began

        if execute and hasattr(spec.loader, "__dict__"):
            spec.loader.exec_module = timed
        return spec
