"""A torch of a few lines that remembers its calls."""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A torch on the disk: of the real one, what the guard asks and what it puts itself in front of.
FILES = {
    "__init__.py": "from torch import distributed, version\n__version__ = '2.6.0'\n",
    "version.py": "git_version = 'abc'\n",
    "distributed/__init__.py": "from .distributed_c10d import init_process_group\nfrom .rendezvous import rendezvous\n",
    "distributed/rendezvous.py": "def rendezvous(url, rank=-1, world_size=-1, **more):\n    pass\n",
    "distributed/distributed_c10d.py": """
from .rendezvous import rendezvous

def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, store=None):
    pass
""",
}


def write_torch(folder: Path) -> None:
    """A torch package of a few lines in this folder."""
    for name, text in FILES.items():
        path = folder / "torch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Keys:
    """The store of a gloo group; it remembers what it was asked."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.waited: list[Any] = []

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    def wait(self, keys: list[str], timeout: Any) -> None:
        self.waited.append(timeout)


class Stub:
    """A torch that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.timeouts: dict[str, Any] = {}  # of the init, of the store that it made, of the group since then
        self.keys = Keys()
        self.while_forming: Callable[[Any], None] = lambda group: None  # called with each gloo group of an init
        self.torch = types.ModuleType("torch")
        self.version = types.ModuleType("torch.version")
        self.dist = types.ModuleType("torch.distributed")
        self.c10d = types.ModuleType("torch.distributed.distributed_c10d")
        self.torch.__version__ = "2.6.0+cpu"  # type: ignore[attr-defined]
        self.version.git_version = "abc"  # type: ignore[attr-defined]
        self.torch.version, self.torch.distributed = self.version, self.dist  # type: ignore[attr-defined]
        self.dist.distributed_c10d = self.c10d  # type: ignore[attr-defined]
        self.c10d.default_pg_timeout = dt.timedelta(minutes=30)  # type: ignore[attr-defined]

        def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> str:
            self.calls.append(("rendezvous", url, rank, world_size))
            self.timeouts["store"] = more.get("timeout")
            return "a store"

        def init_process_group(  # noqa: PLR0917 - as torch has it
            backend: Any = None, init_method: Any = None, timeout: Any = None, world_size: int = -1, rank: int = -1,
            store: Any = None,
        ) -> None:  # fmt: skip
            self.calls.append(("init", backend, init_method, rank))
            self.timeouts["init"] = self.timeouts["group"] = timeout
            if store is None:
                self.c10d.rendezvous(init_method or "env://", rank, world_size, timeout=timeout)
            if hasattr(self.c10d, "ProcessGroupGloo"):
                group = self.c10d.ProcessGroupGloo(self.keys, rank, world_size, timeout=timeout)
                self.while_forming(group)
                self.c10d._store_based_barrier(rank, self.keys, "", world_size, timeout)

        self.c10d.rendezvous = rendezvous  # type: ignore[attr-defined]
        self.stock = init_process_group
        self.dist.init_process_group = self.c10d.init_process_group = init_process_group  # type: ignore[attr-defined]

    def with_gloo(self) -> None:
        """From now on an init makes a gloo group, which waits for keys of the other ranks, and then a barrier."""

        class Gloo:
            options = "gloo's own"

            def __init__(self, store: Any, *_ranks: int, timeout: Any) -> None:
                self.store = store
                store.set("0", b"an address")
                store.wait(["1"], timeout)

        def barrier(rank: int, store: Any, group_name: str, count: int, timeout: Any) -> None:
            self.timeouts["barrier"] = timeout

        self.dist.Store = type("Store", (), {})  # type: ignore[attr-defined]
        self.c10d.ProcessGroupGloo, self.c10d._store_based_barrier = Gloo, barrier  # type: ignore[attr-defined]

    def adjustable(self) -> None:
        """From now on its groups can be given another timeout, as those of 2.13."""
        for name, what in (("group", "_get_default_group"), ("store", "_get_default_store")):

            def set_timeout(whole: Any, name: str = name) -> None:
                self.timeouts[name] = whole

            held = types.SimpleNamespace(set_timeout=set_timeout)
            setattr(self.c10d, what, lambda held=held: held)
        self.c10d.ProcessGroup = types.SimpleNamespace(set_timeout=None)  # type: ignore[attr-defined]
