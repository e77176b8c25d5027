"""PyTorch's own distributed tests as a release carries them: which there are, and one of them run as a rank.

Nothing of the suite is copied or changed. A rank calls the suite's own entry of a child process, with the settings
that PyTorch's test/run_test.py gives it; docs/suite.md lists them with their sources.
"""

from __future__ import annotations

import importlib
import inspect
import linecache
import os
import re
import sys
import traceback
import types
import unittest
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import torchskew_kit as kit  # type: ignore[import-not-found,unused-ignore]

PLACE = "torch.testing._internal.distributed."
WORLDS = (2, 3, 4, 8)  # imported ahead: decorators read the size of the world while the module is imported
NEEDS_FILE = "file:///torchskew"  # begins like what a rank gets; decorators look no further
SHOWN = 200  # characters of a value
TEXT = 4000  # characters of a failure's text
HERE = "torchskew_suite"  # classes that are made here are found by this name when they are unpickled

_modules: dict[tuple[str, int], Any] = {}


# -- The suites, and how each is started: test/distributed/test_distributed_spawn.py and rpc/test_tensorpipe_agent.py
def _distributed(module: Any) -> dict[str, type]:
    bases = (module.TestDistBackend, module.DistributedTest._DistTestBase)  # noqa: SLF001 - the tests are there
    return {"TestDistBackendWithSpawn": type("TestDistBackendWithSpawn", bases, {"__module__": HERE})}


def _rpc(module: Any) -> dict[str, type]:
    fixtures = PLACE + "rpc.{}_rpc_agent_test_fixture"
    agents = (
        ("TensorPipe", "tensorpipe", ("GENERIC_TESTS", "TENSORPIPE_TESTS")),
        ("Faulty", "faulty", ("FAULTY_AGENT_TESTS",)),
    )
    classes: dict[str, type] = {}
    for prefix, name, lists in agents:
        fixture = _fixture(importlib.import_module(fixtures.format(name)))
        tests = [test for each in lists for test in getattr(module, each, ())]
        classes.update(module.generate_tests(prefix, fixture, tests, HERE))
    return classes


def _fixture(module: Any) -> type:
    """The one class that a module of fixtures defines."""
    return next(each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__)


# suite -> its module, the classes of its tests, and whether the world of a test is what WORLD_SIZE says
SUITES: dict[str, tuple[str, Callable[[Any], dict[str, type]], bool]] = {
    "distributed": (PLACE + "distributed_test", _distributed, True),
    "rpc": (PLACE + "rpc_utils", _rpc, False),
}


# -- Importing
def import_distributed() -> None:
    """Import the suite `distributed` for the usual worlds, once for all ranks of an agent."""
    for world in WORLDS:
        if kit.refusal(lambda world=world: load("distributed", world)):  # ranks report it themselves
            break


def import_rpc() -> None:
    """Import the suite `rpc`, once for all ranks of an agent."""
    kit.refusal(lambda: load("rpc", WORLDS[0]))  # ranks report it themselves


def load(suite: str, world: int) -> Any:
    """The suite's module as a world of this size sees it, which is also the one that pickles find."""
    name, _, sized = SUITES[suite]
    key = (suite, world if sized else 0)
    if key not in _modules:
        sys.modules.pop(name, None)
        with _environment(BACKEND="gloo", WORLD_SIZE=str(world), INIT_METHOD=NEEDS_FILE):
            _modules[key] = importlib.import_module(name)
    sys.modules[name] = _modules[key]
    return _modules[key]


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """These settings for a while; a BACKEND that the version sets stays."""
    before = dict(os.environ)
    os.environ.update(
        {name: before.get(name, value) if name == "BACKEND" else value for name, value in settings.items()}
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def classes(suite: str, world: int) -> dict[str, type]:
    """The suite's classes of tests by name; this module holds them too, for pickles."""
    found = SUITES[suite][1](load(suite, world))
    globals().update(found)
    return found


# -- What there is
def tests() -> dict[str, Any]:
    """Every test of this release: `tests` holds [suite, name, ranks] (0 ranks: as many as asked), `lacks` why not."""
    found: list[list[Any]] = []
    lacks: dict[str, str] = {}
    for suite in SUITES:
        why = kit.refusal(lambda suite=suite: found.extend(_tests_of(suite)))
        if why:
            lacks[suite] = why
    return {"tests": found, "lacks": lacks}


def _tests_of(suite: str) -> list[list[Any]]:
    sized = SUITES[suite][2]
    listed = []
    for name, kind in classes(suite, WORLDS[0]).items():
        methods = unittest.TestLoader().getTestCaseNames(kind)
        ranks = 0 if sized or not methods else int(kind(methods[0]).world_size)
        listed += [[suite, method if sized else name + "." + method, ranks] for method in methods]
    return listed


def lacking(suite: str, wanted: Any) -> dict[str, str]:
    """Which of these tests this release lacks, and why; `*` where its suite can't be started at all."""
    found: list[str] = []
    why = kit.refusal(lambda: found.extend(name for _, name, _ in _tests_of(suite)))
    if why:
        return {"*": why}
    return {name: "its suite has no such test" for name in wanted if name not in found}


# -- One test
class Messages:
    """The suite's end of a pipe to its parent: what it sends is dropped, for the exception itself is at hand.

    Nobody reads the other end here, so a long traceback would fill the pipe and stop the rank.
    """

    def __init__(self) -> None:
        """Open a pipe, which the suite's listening thread waits for."""
        from multiprocessing import Pipe

        self.parent, self.child = Pipe()

    def send(self, text: str) -> None:
        """Drop the traceback."""

    def __getattr__(self, name: str) -> Any:
        """Everything else is the pipe's."""
        return getattr(self.child, name)


def run(job: Any, suite: str) -> dict[str, Any]:
    """Run the test that the job's variant names; its failed assertion, if it has one.

    Raises what the test raised, unless that is an assertion of the suite.
    """
    job.need(job.variant)
    if job.host not in ("127.0.0.1", "localhost"):
        job.unsupported("the suite's barrier names its files by process id, so all ranks need one machine")
    module = load(suite, job.world_size)
    kind, method = _test(job, suite)
    instance_world = int(_with_settings(job, module, lambda: kind(method).world_size))
    if instance_world != job.world_size:
        job.unsupported("{} is written for {} ranks".format(job.variant, instance_world))
    if job.bridge:
        meeting = job.meeting_place()
        kind.init_method = property(lambda _: meeting)
    job.phase("run")
    try:
        kind._run(job.rank, method, job.path("rendezvous"), Messages())  # noqa: SLF001 - the suite's own entry
    except SystemExit as end:
        return _ended(job, end)
    return {"failed": None}


def _test(job: Any, suite: str) -> tuple[Any, str]:
    found = classes(suite, job.world_size)
    name, _, method = job.variant.rpartition(".")
    kind = found.get(name) if name else next(iter(found.values()))
    if kind is None or not hasattr(kind, method):
        job.unsupported("its suite has no test {}".format(job.variant))
    return kind, method


def _with_settings(job: Any, module: Any, then: Callable[[], Any]) -> Any:
    """What PyTorch's test/run_test.py sets, and what the test's parent process would have prepared."""
    for folder in ("barrier", "test_dir", "init_dir"):
        os.makedirs(job.path(folder), exist_ok=True)
    open(job.path("rendezvous"), "a").close()
    settings = {
        "BACKEND": os.environ.get("BACKEND", "gloo"),
        "WORLD_SIZE": str(job.world_size),
        "TEMP_DIR": job.share,
        "INIT_METHOD": "file://" + job.path("init_dir/shared_init_file"),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(job.port),
    }
    os.environ.update(settings)
    module.INIT_METHOD = settings["INIT_METHOD"]  # read while it is imported
    if hasattr(module, "default_pg_timeout"):
        module.default_pg_timeout = job.timeout
    return then()


def _ended(job: Any, end: SystemExit) -> dict[str, Any]:
    """What an exit of the suite means: its code, and the exception that it was raised in the handler of."""
    if not end.code:
        return {"failed": None}
    cause = end.__context__
    if isinstance(cause, unittest.SkipTest):
        job.unsupported("the suite skips it: {}".format(cause))
    common = importlib.import_module("torch.testing._internal.common_distributed")
    skips = {skip.exit_code: skip.message for skip in common.TEST_SKIPS.values()}
    if end.code in skips:
        job.unsupported("the suite skips it: {}".format(skips[end.code]))
    if cause is None:
        why = "the test ended by sys.exit({!r})".format(end.code)
        raise RuntimeError(why) from end
    traceback.print_exception(type(cause), cause, cause.__traceback__)
    if is_assertion(cause):
        return {"failed": failure(cause)}
    raise cause


# -- A failed assertion
def is_assertion(error: BaseException) -> bool:
    """Whether the suite itself objects: an AssertionError raised by a test or by what compares for it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return isinstance(error, AssertionError) and bool(frames) and _of_tests(frames[-1][0])


def _of_tests(frame: types.FrameType) -> bool:
    file = frame.f_code.co_filename
    parts = (os.path.dirname(unittest.__file__), os.path.join("torch", "testing"))
    return parts[0] in file or parts[1] in file


def failure(error: BaseException) -> dict[str, Any]:
    """Where the assertion stands, what it says, and the values that it compared, as text."""
    frames = list(traceback.walk_tb(error.__traceback__))
    inside = [index for index, (frame, _) in enumerate(frames) if _is_test(frame)]
    index = inside[-1] if inside else len(frames) - 1
    frame, line = frames[index]
    file = frame.f_code.co_filename
    return {
        "at": "{}:{}".format(os.path.basename(file), line),
        "line": linecache.getline(file, line).strip(),
        "text": str(error)[:TEXT],
        "values": compared(frames[index + 1][0]) if index + 1 < len(frames) else {},
    }


def _is_test(frame: types.FrameType) -> bool:
    return os.path.join("_internal", "distributed") + os.sep in frame.f_code.co_filename


def compared(frame: types.FrameType) -> dict[str, str]:
    """The first two arguments of an assertion, by name; empty where it compares no two values."""
    if not frame.f_code.co_name.startswith("assert"):
        return {}
    given = inspect.getargvalues(frame)
    names = [name for name in given.args if name != "self"][:2]
    return {name: _shown(given.locals[name]) for name in names if name in given.locals}


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # a test's own objects
        text = "<no repr: {}>".format(type(error).__name__)
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
