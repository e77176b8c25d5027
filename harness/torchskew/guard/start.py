"""The start-up hook: it waits for torch.distributed, and covers its init by a call that loads the guard when needed.

Every Python of an environment may run it, so it is written into a small file of its own, as text: StartHook uses
nothing but sys until torch.distributed is imported, and the guard itself is loaded by the first init.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

START = "torchskew_guard_start"  # the module that the text becomes
MARK = "# Written by torchskew's guard, which also removes it."
_TEXT = '''"""The start-up hook of torchskew's guard: nothing but torch.distributed loads more than this file."""

{mark}
from __future__ import annotations

import sys


{hook}

StartHook({name!r}, {path}).arm()
'''


class StartHook:
    """A finder that finds nothing: it waits for modules of torch.distributed, and covers functions that form groups."""

    # By module: what is covered, and the guard's function that makes the cover. A dot: a method of a class.
    COVERED = {  # noqa: RUF012 - never changed, and typing is not loaded here
        "torch.distributed.distributed_c10d": (
            ("init_process_group", "guarded_init"),
            ("rendezvous", "guarded_rendezvous"),
        ),
        "torch.distributed.elastic.rendezvous.static_tcp_rendezvous": (
            ("StaticTCPRendezvous.next_rendezvous", "guarded_static"),
        ),
        "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend": (("_create_tcp_store", "guarded_c10d"),),
        "torch.distributed.elastic.agent.server.api": (("SimpleElasticAgent._initialize_workers", "announcing"),),
    }

    def __init__(self, name: str, path: str = "") -> None:
        """The guard's module, and its file where that is not to be looked for."""
        self.name, self.path = name, path
        self.loading: set[str] = set()

    def arm(self) -> None:
        """Cover what there is of torch.distributed, and wait for the rest; nothing where the guard is switched off."""
        import os

        if os.environ.get("TORCHSKEW_GUARD", "").strip().lower() != "off":
            self.watch()

    def watch(self) -> None:
        """As arm(), whatever is set."""
        for where in self.COVERED:
            if where in sys.modules:
                self.cover(where)
        if not any(hasattr(each, "COVERED") for each in sys.meta_path):
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the other finders find; for a module that is waited for, its loader covers it when it is loaded."""
        if name not in self.COVERED or name in self.loading:
            return None
        self.loading.add(name)
        try:
            for finder in list(sys.meta_path):
                spec = finder.find_spec(name, path, target) if finder is not self else None
                if spec is not None:
                    self.follow(name, spec.loader)
                    return spec
        finally:
            self.loading.discard(name)
        return None

    def follow(self, name: str, loader: Any) -> None:
        """Cover the module once its own loader has run it; a loader that allows no change stays as it is."""
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            self.cover(name)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            self.say("%s has a loader of its own" % name)

    def cover(self, where: str) -> None:
        """Put a call that loads the guard before each function of a module, wherever torch.distributed has it."""
        for name, maker in self.COVERED[where]:
            owner, _, attribute = name.rpartition(".")
            holder = getattr(sys.modules[where], owner, None) if owner else sys.modules[where]
            stock = getattr(holder, attribute, None)
            if stock is None or hasattr(stock, "torchskew_guard"):
                continue
            if owner:
                setattr(holder, attribute, self.late(stock, maker))
            else:
                self.replace(attribute, stock, self.late(stock, maker))

    @staticmethod
    def replace(name: str, stock: Any, cover: Any) -> None:
        """Every reference to a function under its own name in torch.distributed's modules becomes its cover."""
        for where, module in list(sys.modules.items()):
            if where.startswith("torch.distributed") and getattr(module, "__dict__", {}).get(name) is stock:
                setattr(module, name, cover)

    def late(self, stock: Any, maker: str) -> Any:
        """The function, guarded from its first call on."""
        import functools

        ready: list[Any] = []

        @functools.wraps(stock)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not ready:
                ready.append(self.guarded(stock, maker))
            return ready[0](*args, **kwargs)

        call.torchskew_guard = call  # type: ignore[attr-defined]
        return call

    def guarded(self, stock: Any, maker: str) -> Any:
        """What the guard makes of a function; the function itself where the guard can't be loaded."""
        try:
            return getattr(self.load(), maker)(stock)
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with the guard, the job goes on
            self.say("%s can't be loaded: %s: %s" % (self.path or self.name, type(problem).__name__, problem))
            return stock

    def load(self) -> Any:
        """The guard's module."""
        import importlib.util

        if self.name in sys.modules or not self.path:
            return importlib.import_module(self.name)
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        module = sys.modules[self.name] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except BaseException:
            del sys.modules[self.name]
            raise
        return module

    @staticmethod
    def say(problem: str) -> None:
        """One line on standard error."""
        try:
            line = "torchskew guard: %s. The init goes on without a comparison of the releases.\n"
            sys.stderr.write(line % " ".join(problem.split()))
        except (OSError, ValueError, AttributeError):
            return


def start_text(name: str, path: str = "") -> str:
    """The file that a Python loads at its start; path: the guard's file as an expression, "" to import it by name."""
    return _TEXT.format(mark=MARK, hook=inspect.getsource(StartHook).rstrip(), name=name, path=path or '""')
