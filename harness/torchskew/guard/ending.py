"""An end for what a stock init waits for in its store, where its group keeps the timeout that it is given: up to 2.12.

Gloo waits for the keys of the other ranks, in C++, for as long as its group may wait for good. While ending_by() is
entered, a gloo group is made with a store between it and the real one, which cuts these waits; afterwards it passes
everything on. The barrier of old releases is cut as well.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import inspect
import time
from typing import Any, Callable, Iterator

Cut = Callable[[dt.timedelta], dt.timedelta]
_HELD: list[Any] = []  # C++ uses these stores as long as their groups live, and does not keep their Python half


@contextlib.contextmanager
def ending_by(end: float) -> Iterator[None]:
    """Whatever the ranks of a group are waited for ends at an instant of the monotonic clock."""
    from torch.distributed import distributed_c10d

    over: list[bool] = []

    def cut(asked: dt.timedelta) -> dt.timedelta:
        return asked if over else min(asked, dt.timedelta(seconds=max(0.01, end - time.monotonic())))

    covers = []
    for name, cover in (("ProcessGroupGloo", _cut_gloo), ("_store_based_barrier", _cut_barrier)):
        stock: Any = getattr(distributed_c10d, name, None)
        if not callable(stock):  # a torch may have no gloo
            continue
        with contextlib.suppress(TypeError, ValueError):  # another kind of function than torch has there
            covers.append((name, stock, cover(stock, cut)))
            setattr(distributed_c10d, name, covers[-1][2])
    try:
        yield
    finally:
        over.append(True)
        for name, stock, cover in covers:
            if getattr(distributed_c10d, name) is cover:  # else something else is in front, and ours cuts nothing
                setattr(distributed_c10d, name, stock)


def _cut_gloo(stock: Any, cut: Cut) -> Any:
    """The class of gloo's groups, as torch's own code sees it, that makes them with a store whose waits are cut."""

    class Gloo(type):
        def __call__(cls, store: Any, *args: Any, **kwargs: Any) -> Any:
            return stock(_cut_store(store, cut), *args, **kwargs)

        def __instancecheck__(cls, group: Any) -> bool:
            return isinstance(group, stock)

        def __subclasscheck__(cls, kind: Any) -> bool:
            return issubclass(kind, stock)

        def __getattr__(cls, name: str) -> Any:
            return getattr(stock, name)

    return Gloo("ProcessGroupGloo", (), {})


def _cut_store(real: Any, cut: Cut) -> Any:
    """A store for gloo; the real one where torch allows none in between."""
    from torch.distributed import Store

    class CutStore(Store):  # type: ignore[misc] # no types without torch
        def set(self, key: str, value: Any) -> Any:
            return real.set(key, value)

        def get(self, key: str) -> Any:
            return real.get(key)

        def add(self, key: str, amount: int) -> Any:
            return real.add(key, amount)

        def wait(self, keys: list[str], *timeout: dt.timedelta) -> Any:
            return real.wait(keys, *map(cut, timeout))

        def append(self, key: str, value: Any) -> Any:
            return real.append(key, value)

        def multi_get(self, keys: list[str]) -> Any:
            return real.multi_get(keys)

        def multi_set(self, keys: list[str], values: list[Any]) -> Any:
            return real.multi_set(keys, values)

        def has_extended_api(self) -> bool:
            return bool(real.has_extended_api())

    try:
        _HELD.append(CutStore())
        return _HELD[-1]
    except Exception:  # noqa: BLE001 - whatever torch says: a missing rank costs more then, and the group forms
        return real


def _cut_barrier(stock: Callable[..., Any], cut: Cut) -> Callable[..., Any]:
    """The barrier over the store after a group was made, with its timeout cut."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def _store_based_barrier(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        if isinstance(given.arguments.get("timeout"), dt.timedelta):
            given.arguments["timeout"] = cut(given.arguments["timeout"])
        return stock(*given.args, **given.kwargs)

    return _store_based_barrier
