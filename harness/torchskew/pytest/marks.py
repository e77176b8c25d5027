"""`@pytest.mark.torchskew(...)`: the skews and conditions that a test runs over, as its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from torchskew.errors import ConfigError
from torchskew.model.declared import MatrixSpec
from torchskew.model.versions import Version
from torchskew.planning.plan import oldest_first, skews
from torchskew.releases import eras

PAIRS = ("all", "neighbours", "boundary")
FIELDS = ("pairs", "versions", "world_size", "guard", "store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One parameter of a test: the version of each rank or node, rank 0 first, and the conditions."""

    skew: tuple[str, ...]
    guard: bool | str | None = None
    store: str | None = None

    @property
    def id(self) -> str:
        """What `-k` finds it by: 2.6.0+2.13.0, with guard-on, store-bridge where the mark names guards, stores."""
        parts = ["+".join(self.skew)]
        if self.guard is not None:
            parts.append(f"guard-{self.guard if isinstance(self.guard, str) else 'on' if self.guard else 'off'}")
        return "-".join([*parts, *([f"store-{self.store}"] if self.store is not None else [])])


def chosen(arguments: Mapping[str, Any], declared: Mapping[str, Version]) -> tuple[Chosen, ...]:
    """The parameters that a mark asks for, in the order of the declaration.

    Raises:
        ConfigError: an argument that does not exist or has another form, or a version that is not declared.
    """
    problems = [f"the mark torchskew has no argument {name!r}; it has {', '.join(FIELDS)}."
                for name in arguments if name not in FIELDS]  # fmt: skip
    names = tuple(arguments.get("versions", declared))
    problems += [f"the mark torchskew names {name!r}, which is not declared. Declared: {', '.join(declared)}."
                 for name in names if name not in declared]  # fmt: skip
    if not names:
        problems.append("the mark torchskew needs declared versions: write them under [versions] in torchskew.toml.")
    sizes = _listed(arguments.get("world_size", 2))
    if not all(isinstance(size, int) and size >= 2 for size in sizes):
        problems.append(f"world_size of the mark torchskew must be 2 or more, or a list of such, got {sizes!r}.")
    if problems:
        raise ConfigError(*problems)
    guards, stores = (_listed(arguments[name]) if name in arguments else (None,) for name in ("guard", "store"))
    versions = {name: declared[name] for name in names}
    found = dict.fromkeys(_skews(arguments.get("pairs", "all"), versions, sizes))
    return tuple(Chosen(skew=skew, guard=guard, store=store) for skew, guard, store in product(found, guards, stores))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _skews(
    pairs: str | Sequence[Sequence[str]], versions: Mapping[str, Version], sizes: Sequence[int]
) -> Iterator[tuple[str, ...]]:
    if isinstance(pairs, str) and pairs not in PAIRS:
        raise ConfigError(f"pairs of the mark torchskew must be one of {', '.join(PAIRS)}, or a list of pairs.")
    if pairs == "boundary":
        for skew in boundary(versions):
            yield from (_stretched(skew, size) for size in sizes)
    elif isinstance(pairs, str):
        spec = MatrixSpec(versions=tuple(versions), pairs=pairs, world_sizes=tuple(sizes))
        yield from (skew for skew in skews(spec) if len(skew) > 1)
    else:
        yield from (_stretched(tuple(pair), size) for pair in pairs for size in sizes)


def boundary(versions: Mapping[str, Version]) -> Iterator[tuple[str, str]]:
    """Neighbours in age, in both orders, of which something that torchskew knows of releases differs.

    Raises:
        ConfigError: a version whose release is unknown.
    """
    for older, newer in pairwise(oldest_first(versions)):
        if _speaks(versions[older]) != _speaks(versions[newer]):
            yield older, newer
            yield newer, older


def _speaks(version: Version) -> tuple[object, ...] | str:
    known = eras.release(str(version.torch))
    if known is None:
        return str(version.torch)
    return known.store, known.gloo, known.keys, known.barrier_after_init, known.files


def _stretched(skew: tuple[str, ...], size: int) -> tuple[str, ...]:
    """A skew over a larger world: its versions in turn."""
    return tuple(skew[rank % len(skew)] for rank in range(max(size, len(skew))))
