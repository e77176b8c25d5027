"""Facts about pairs of releases that no source states and a run has shown, each with the cell that shows it.

A bound is the first measured release that behaved differently; the change may have come in any release since the
measured one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from torchskew.model.outcomes import Outcome, Store
from torchskew.releases.bounds import within

OK, WRONG, OPAQUE = Outcome.OK, Outcome.WRONG, Outcome.OPAQUE
TIMEOUT, HANG, CRASH = Outcome.TIMEOUT, Outcome.HANG, Outcome.CRASH
RUN = "20261121-160550-a9bd37"  # 11 releases, 1.13.1 to 2.15.0, every ordered pair, in virtual environments


Sides = tuple[str, str, str]  # of one rank, or bounds for them: torch, Python, NumPy; "" where unknown or unbounded


@dataclass(frozen=True, slots=True)
class Observation:
    """One fact about two ranks. scenario: pattern over names with variants.

    first, second: bounds for the release of rank 0 (host, or writer) and of the other. outcomes: of both, in that
    order. cell: the skew that shows it. either: the same outcomes follow in the other order. python, numpy: bounds for
    the Python and the NumPy of the same two ranks; ("", "") where they don't matter. store: None where the fact does
    not depend on it.
    """

    scenario: str
    first: str
    second: str
    outcomes: tuple[Outcome, Outcome]
    cell: str
    either: bool = False
    python: tuple[str, str] = ("", "")
    numpy: tuple[str, str] = ("", "")
    store: Store | None = None

    def covers(self, scenario: str, *ranks: Sides) -> bool:
        """Whether this is about two ranks in this scenario."""
        bounds = tuple(zip((self.first, self.second), self.python, self.numpy, strict=True))
        orders = [ranks, ranks[::-1]] if self.either else [ranks]
        return fnmatchcase(scenario, self.scenario) and any(
            all(_within(*each) for each in zip(order, bounds, strict=True)) for order in orders
        )


_SAME_KEYS = ("sgd", "stateful", "nested", "adamw_partial")  # what no release misses a key of
_THE_313 = ">=3.13,<3.14"
_LAYERS = ("attention", "norms", "rms", "embedding", "quantized", "convolution", "recurrent", "branch")
_TOGETHER = "checkpoint_together"
_EXPORTED = ("export_files", *map("programs.export_{}".format, _LAYERS))
OBSERVATIONS: tuple[Observation, ...] = (
    # Python 3.13 alone pickles paths as pathlib._local, and 3.14 reads that name. The metadata of every distributed
    # checkpoint holds a path since 2.4.
    *(
        Observation(name, ">=2.4", "", (OK, OPAQUE), "2.6.0,2.13.0", python=(_THE_313, "<3.13"))
        for name in ("pickles.dcp", "checkpoint_dcp.*", *map("checkpoint_resume.{}".format, _SAME_KEYS))
    ),
    *(
        Observation(name, "", second, (OK, OPAQUE), "2.6.0,1.13.1", python=(_THE_313, "<3.13"))
        for name, second in (("pickles.path", ""), ("load_default.path", "<2.6"), ("load_default.trusted", ""))
    ),
    Observation("object_collectives.path", "", "", (OPAQUE, OPAQUE), "2.6.0,2.13.0", True, python=(_THE_313, "<3.13")),
    # The call comes back with the error; the other rank then waits in shutdown for a peer that does not leave.
    Observation("rpc_objects.path", "", "", (OPAQUE, HANG), "2.6.0,2.13.0", python=(_THE_313, "<3.13")),
    Observation("rpc_objects.path", "", "", (HANG, OPAQUE), "2.13.0,2.6.0", python=("<3.13", _THE_313)),
    # The class that the reader allows has another name than the one in the file.
    *(
        Observation(name, "", "", (OK, OPAQUE), "2.6.0,2.14.1", True, python=(_THE_313, other))
        for name in ("pickles.allowed", "load_default.allowed")
        for other in ("<3.13", ">=3.14")
    ),
    # NumPy 2 pickles name numpy._core, of which 1.26 has a part. Generators are pickled in another way since 1.24, and
    # since 2.0.
    Observation("pickles.numpy_*", "", "", (OK, OPAQUE), "2.6.0,1.13.1", numpy=(">=2.0", "<1.26")),
    *(
        Observation(f"load_default.numpy_{name}", "", "<2.6", (OK, OPAQUE), "2.6.0,1.13.1", numpy=(">=2.0", "<1.26"))
        for name in ("state", "array")
    ),
    *(
        Observation(f"pickles.numpy_{name}", "", "", (OK, OPAQUE), "2.13.0,2.2.2", numpy=(">=2.0", "<2.0"))
        for name in ("generator", "protocol")
    ),
    Observation("pickles.numpy_generator", "", "", (OK, OPAQUE), "1.13.1,1.7.1", numpy=(">=1.24", "<1.24")),
    # A builder that is killed leaves the lock file behind; up to 2.13 the file's existence is the lock.
    Observation("stale_lock.killed", "", "<2.14", (OK, HANG), "2.13.0,2.13.0"),
    # Since 2.14 (flock) a finished build leaves the file behind as well.
    Observation("stale_lock.finished", ">=2.14", "<2.14", (OK, HANG), "2.14.1,2.13.0"),
    Observation("extension_cache", ">=2.14", "<2.14", (OK, HANG), "2.14.1,2.13.0"),
    # Functions that wheels of torchvision and torchaudio take from torch's libraries; torchskew matrix --scenarios
    # 'abi_*' shows them. 2.6 has another C++ ABI than 2.13, and 2.15 has no c10::report_overflow any more.
    Observation("abi_symbols", ">=1.13,<2.0", "<1.13", (OK, WRONG), "1.13.1,1.7.1"),
    Observation("abi_symbols", "<2.2", ">=2.2", (OK, WRONG), "2.1.2,2.2.2", either=True),
    Observation("abi_symbols", ">=2.2,<2.6", ">=2.6", (OK, WRONG), "2.2.2,2.6.0", either=True),
    Observation("abi_symbols", ">=2.6,<2.13", ">=2.13", (OK, WRONG), "2.6.0,2.13.0", either=True),
    Observation("abi_symbols", ">=2.13,<2.15", ">=2.15", (OK, WRONG), "2.14.1,2.15.0"),
    # Two releases at the same path: ninja knows files and flags, and no release; 2.6 and 2.13 have other flags.
    Observation("extension_upgrade", "<2.2", ">=2.2,<2.6", (OK, WRONG), "2.1.2,2.2.2", either=True),
    Observation("extension_upgrade", ">=2.2,<2.6", ">=2.6,<2.13", (OK, WRONG), "2.2.2,2.6.0", either=True),
    Observation("extension_upgrade", ">=2.13,<2.14", ">=2.14", (OK, WRONG), "2.13.0,2.14.1"),
    Observation("extension_upgrade", ">=2.14", ">=2.13,<2.14", (OK, TIMEOUT), "2.14.1,2.13.0"),
    Observation("extension_upgrade", ">=2.14,<2.15", ">=2.15", (OK, WRONG), "2.14.1,2.15.0", either=True),
    # The examples of refine_names and rename in the documentation of 2.6: 2.13 has no named tensors.
    Observation("doctests", "<2.13", ">=2.13", (OK, WRONG), "2.6.0,2.13.0"),
    # `Serialized version 1 does not match our current schema version 2`; the archive changed in 2.13.
    *(
        Observation(name, first, second, (OK, OPAQUE), cell, either)
        for name in _EXPORTED
        for first, second, cell, either in (
            ("<2.2", ">=2.2", "2.1.2,2.2.2", True),
            ("<2.3", ">=2.3", "2.2.2,2.3.1", True),
            ("<2.4", ">=2.4", "2.3.1,2.4.1", False),
            ("<2.5", ">=2.5", "2.4.1,2.5.1", True),
            ("<2.6", ">=2.6", "2.5.1,2.6.0", True),
            (">=2.13", "<2.13", "2.13.0,2.6.0", False),
        )
    ),
    # 2.15 added a field to the description of a shard, which a pickle of one holds as well.
    Observation("sharded_state.local", ">=2.15", "<2.15", (OK, OPAQUE), "2.15.0,2.13.0"),
    Observation("sharded_state.tensor", ">=2.15", "<2.15", (OK, OPAQUE), "2.15.0,2.13.0"),
    # 2.13 can't read the condition of a torch.cond that 2.6 wrote; TorchScript of 2.2 has no aten::rms_norm.
    Observation("programs.export_branch", ">=2.6,<2.13", ">=2.13", (OK, OPAQUE), "2.6.0,2.13.0"),
    Observation("programs.script_rms", ">=2.4", "<2.4", (OK, OPAQUE), "2.13.0,2.2.2"),
    # A package of 2.13 has its parts below a folder of its own name.
    Observation("aot_packages", ">=2.13", ">=2.6,<2.13", (OK, OPAQUE), "2.13.0,2.6.0"),
    # Up to 2.5 a bare library is compiled, which calls what later releases do not export. 2.6 loads those of 2.4 and
    # 2.5; that of 2.4 gives another answer there.
    Observation("aot_packages", ">=2.3,<2.4", ">=2.6", (OK, OPAQUE), "2.3.1,2.6.0"),
    Observation("aot_packages", ">=2.4,<2.6", ">=2.7", (OK, OPAQUE), "2.4.1,2.13.0"),
    Observation("aot_packages", ">=2.4,<2.5", ">=2.6,<2.7", (OK, WRONG), "2.4.1,2.6.0"),
    Observation("aot_packages", ">=2.6", ">=2.3,<2.6", (OK, OPAQUE), "2.6.0,2.3.1"),
    # From the same state, the next bernoulli, multinomial and exponential draws differ. 1.13 and 2.8 agree, and
    # Debian's builds of 2.6 agree with both: the difference is in the wheels, not in the release.
    Observation("rng_state", ">=2.0,<2.7", "<2.0", (OK, WRONG), "2.0.1,1.13.1", either=True),
    Observation("rng_state", ">=2.0,<2.7", ">=2.7", (OK, WRONG), "2.6.0,2.8.0", either=True),
    Observation("data_order.dropout", ">=2.0,<2.7", ">=2.7", (OK, WRONG), "2.6.0,2.8.0", either=True),
    # Dtypes that the reader lacks.
    *(Observation(f"newer_dtypes.uint{bits}", ">=2.3", "<2.3", (OK, OPAQUE), "2.6.0,2.2.2") for bits in (16, 32, 64)),
    *(
        Observation(f"newer_dtypes.{name}", ">=2.2", "<2.2", (OK, OPAQUE), "2.2.2,2.1.2")
        for name in ("float8_e4m3fn", "float8_e5m2", "bits8", "nested")
    ),
    *(
        Observation(f"newer_dtypes.{name}", ">=2.3", "<2.2", (OK, OPAQUE), "2.3.1,2.1.2")
        for name in ("float8_e4m3fnuz", "float8_e5m2fnuz", "complex32")
    ),
    Observation("newer_dtypes.float8_e8m0fnu", ">=2.7", "<2.7", (OK, OPAQUE), "2.13.0,2.6.0"),
    Observation("newer_dtypes.float4_e2m1fn_x2", ">=2.8", "<2.8", (OK, OPAQUE), "2.13.0,2.6.0"),
    # A jagged tensor is pickled with the private state of its class.
    Observation("newer_dtypes.jagged", ">=2.2,<2.3", ">=2.3", (OK, OPAQUE), "2.2.2,2.3.1"),
    Observation("newer_dtypes.jagged", ">=2.2,<2.3", "<2.2", (OK, OPAQUE), "2.2.2,2.1.2"),
    Observation("newer_dtypes.jagged", ">=2.3", "<2.3", (OK, OPAQUE), "2.3.1,2.2.2"),
    Observation("newer_dtypes.jagged", ">=2.6", "<2.6", (OK, OPAQUE), "2.6.0,2.3.1"),
    Observation("newer_dtypes.jagged", ">=2.13", "<2.13", (OK, OPAQUE), "2.13.0,2.6.0"),
    Observation("newer_dtypes.jagged", ">=2.15", "<2.15", (OK, OPAQUE), "2.15.0,2.13.0"),
    # gloo's reduce_scatter takes any operation and sums (pytorch issue 162338).
    # One rank's wrong shard is a part of the parameter that every rank gathers.
    Observation("fsdp.fully_shard", ">=2.7,<2.9", ">=2.7,<2.9", (WRONG, WRONG), "2.7.1,2.7.1"),
    Observation("fsdp.fully_shard", ">=2.7,<2.9", ">=2.9", (WRONG, WRONG), "2.7.1,2.13.0", either=True),
    # Each rank gets what its own release computes; 2.2 and 2.3 run other collectives.
    *(
        Observation(f"reduce_scatter.{op}", first, second, outcomes, cell)
        for op in ("average", "maximum")
        for first, second, outcomes, cell in (
            (">=2.2,<2.3", ">=2.3,<2.9", (OPAQUE, WRONG), "2.2.2,2.6.0"),
            (">=2.2,<2.3", ">=2.9", (OPAQUE, OK), "2.2.2,2.13.0"),  # at a bridge
            (">=2.3,<2.9", ">=2.2,<2.3", (WRONG, OPAQUE), "2.6.0,2.2.2"),
            (">=2.9", ">=2.2,<2.3", (OK, OPAQUE), "2.13.0,2.2.2"),
            (">=2.2,<2.9", ">=2.2,<2.9", (WRONG, WRONG), "2.6.0,2.6.0"),
            (">=2.3,<2.9", ">=2.9", (WRONG, OK), "2.6.0,2.13.0"),
            (">=2.9", ">=2.3,<2.9", (OK, WRONG), "2.13.0,2.6.0"),
        )
    ),
    # Up to 2.6 a group that loads gathers its keys first. A group that saves exchanges pickles of private classes.
    Observation(f"{_TOGETHER}.loaded", ">=2.2,<2.13", ">=2.13", (TIMEOUT, TIMEOUT), "2.6.0,2.13.0", either=True),
    Observation(f"{_TOGETHER}.saved", ">=2.15", ">=2.2,<2.15", (OPAQUE, OPAQUE), "2.15.0,2.14.1", either=True),
    Observation(f"{_TOGETHER}.saved", ">=2.4,<2.15", ">=2.3,<2.4", (OK, OPAQUE), "2.6.0,2.3.1"),
    Observation(f"{_TOGETHER}.saved", ">=2.3,<2.15", ">=2.2,<2.3", (OK, OPAQUE), "2.3.1,2.2.2"),
    Observation(f"{_TOGETHER}.saved", ">=2.2,<2.3", ">=2.3,<2.4", (OPAQUE, OPAQUE), "2.2.2,2.3.1"),
    # Hashed names of groups: 2.6 includes their number, 2.14 counts them. Each side waits for its own name.
    Observation("new_group.local", "<2.6", ">=2.6", (HANG, HANG), "2.5.1,2.6.0", either=True),
    Observation("new_group.after_local", "<2.6", ">=2.6", (HANG, HANG), "2.5.1,2.6.0", either=True),
    Observation("new_group.after_local", "<2.14", ">=2.14", (HANG, HANG), "2.13.0,2.14.1", either=True),
    # The older side waits for a key; it ends with the store, and a bridge outlives rank 0.
    Observation("device_mesh.two_d", ">=2.10", "<2.10", (TIMEOUT, HANG), "2.10.0,2.9.1", store=Store.BRIDGE),
    Observation("device_mesh.two_d", ">=2.10", "<2.10", (TIMEOUT, TIMEOUT), "2.13.0,2.6.0"),
    Observation("device_mesh.two_d", "<2.10", ">=2.10", (HANG, TIMEOUT), "2.9.1,2.10.0"),
    # One side sends more than the other expects, and gloo aborts the receiver (op.preamble.length <= op.nbytes).
    Observation("dtensor", ">=2.4", "<2.4", (OPAQUE, CRASH), "2.4.1,2.3.1"),
    Observation("dtensor", "<2.4", ">=2.4", (CRASH, OPAQUE), "2.3.1,2.4.1"),
    Observation("ddp.unused", ">=2.4", "<2.4", (CRASH, OPAQUE), "2.4.1,2.3.1"),
    Observation("ddp.unused", "<2.4", ">=2.4", (OPAQUE, CRASH), "2.3.1,2.4.1"),
    Observation("fsdp.wrapped", "<2.3", ">=2.3", (TIMEOUT, TIMEOUT), "2.2.2,2.3.1", either=True),
    # The pickle names the module by its new name, or by its old one.
    Observation("object_collectives.moved", "<2.5", ">=2.5", (OPAQUE, OPAQUE), "2.5.1,2.4.1", either=True),
    # The older side rejects it or does it differently; the newer side finishes before it notices.
    Observation("reduce_scatter.tensor", ">=2.3", "<2.3", (OK, OPAQUE), "2.3.1,2.2.2"),
    Observation("reduce_scatter.tensor", "<2.3", ">=2.3", (OPAQUE, OK), "2.2.2,2.3.1"),
    # 2.2 and 2.3 silently leave values that aren't tensors unchanged; 2.4 misses keys that older ones wrote as a whole.
    Observation("checkpoint_dcp.one", "", ">=2.2,<2.4", (OK, WRONG), "2.2.2,2.2.2"),
    Observation("checkpoint_dcp.one", "<2.4", ">=2.4,<2.5", (OK, OPAQUE), "2.3.1,2.4.1"),
    *(
        Observation(name, "<2.4", ">=2.2,<2.4", (OK, WRONG), "2.2.2,2.2.2")
        for name in ("checkpoint_resume.nested", "pickles.dcp", "pickles.dcp_alias")
    ),
    # 2.3 loads tensors only: the learning rate stays what it was before the load. Stateful objects are right.
    *(
        Observation(f"checkpoint_resume.{name}", "<2.4", ">=2.3,<2.4", (OK, WRONG), "2.3.1,2.3.1")
        for name in ("adam", "adamw", "sgd")
    ),
    # 2.7 adds decoupled_weight_decay to the settings of Adam and AdamW, and a load misses it. Up to 2.3 the settings
    # are written as one list, which later releases take as it is.
    *(
        Observation(f"checkpoint_resume.{name}", ">=2.5,<2.7", ">=2.7", (OK, OPAQUE), "2.6.0,2.13.0")
        for name in ("adam", "adamw", "app_state")
    ),
    # 2.6 writes and asks for `verbose` of a schedule, 2.13 for `_is_initial`. Up to 2.3 a plain dict stays as it was.
    Observation("checkpoint_resume.scheduler", ">=2.4,<2.13", ">=2.13", (OK, OPAQUE), "2.6.0,2.13.0"),
    Observation("checkpoint_resume.scheduler", ">=2.13", ">=2.4,<2.13", (OK, OPAQUE), "2.13.0,2.6.0"),
    Observation("checkpoint_resume.scheduler*", "<2.4", ">=2.2,<2.4", (OK, WRONG), "2.2.2,2.2.2"),
    # 2.6 made weights_only the default of torch.load. Up to 2.3 the state of OneCycleLR holds a method; 2.15 took
    # nested tensors off the list.
    *(
        Observation(f"load_default.{kind}", "", ">=2.6", (OK, OPAQUE), "2.2.2,2.6.0")
        for kind in ("namespace", "path", "time", "numpy_state", "numpy_array", "library", "own", "module")
    ),
    Observation("load_default.one_cycle", "<2.4", ">=2.6", (OK, OPAQUE), "2.2.2,2.6.0"),
    Observation("load_default.nested", "", ">=2.15", (OK, OPAQUE), "2.13.0,2.15.0"),
    Observation("load_default.nested", ">=2.2", "<2.2", (OK, OPAQUE), "2.2.2,2.1.2"),
    Observation("load_default.nested_trusted", ">=2.2", "<2.2", (OK, OPAQUE), "2.2.2,2.1.2"),
    # Opcode 7 is WATCH_KEY up to 2.0 and DELETE_KEY in 2.1.
    Observation("store_operations.delete", "<2.1", ">=2.1", (TIMEOUT, TIMEOUT), "2.0.1,2.1.2"),
    Observation("store_operations.delete", ">=2.1", "<2.1", (HANG, HANG), "2.1.2,2.0.1"),
    # A wait that times out is cancelled by an opcode that 2.0 does not have.
    Observation("store_operations.wait", "<2.1", ">=2.1", (TIMEOUT, OPAQUE), "2.0.1,2.1.2"),
    Observation("rpc", "<2.1", ">=2.1", (HANG, HANG), "2.0.1,2.1.2", either=True),
    # Since 2.5 the agent hosts the workers' store.
    Observation("torchrun_worker", ">=2.5", "<2.2", (OK, TIMEOUT), "2.5.1,2.1.2"),
    # 2.6 added a time zone to heartbeats (`can't compare offset-naive and offset-aware datetimes`), 2.3 a field to the
    # state. Since 2.4 ranks are assigned under other keys, since 2.5 through the agent's own store. Which agent reads
    # the other's state depends on which starts first: 2.2.2,2.3.1 also ended OK,OK once (20261121-164255-1cc95a).
    Observation("torchrun", ">=2.6", "<2.6", (OPAQUE, OPAQUE), "2.6.0,2.5.1", either=True),
    Observation("torchrun", ">=2.5", "<2.5", (TIMEOUT, TIMEOUT), "2.5.1,2.4.1"),
    Observation("torchrun", ">=2.4", ">=2.3,<2.4", (TIMEOUT, TIMEOUT), "2.4.1,2.3.1"),
    Observation("torchrun", ">=2.3,<2.4", ">=2.4", (HANG, TIMEOUT), "2.3.1,2.4.1"),
    Observation("torchrun", "<2.3", ">=2.3", (OPAQUE, OPAQUE), "2.2.2,2.3.1"),
    Observation("torchrun", ">=2.4", "<2.3", (OPAQUE, OPAQUE), "2.4.1,2.2.2"),
)


def outcomes(
    scenario: str,
    numbers: tuple[tuple[int, ...], ...],
    pythons: tuple[str, ...] = (),
    numpys: tuple[str, ...] = (),
    store: Store = Store.STOCK,
) -> tuple[Outcome, ...] | None:
    """The outcomes of two ranks of these releases, rank 0's first; None where no observation covers them.

    pythons, numpys: of each rank, "" where it is unknown; () where none is known.
    """
    if len(numbers) != 2:
        return None
    releases = (".".join(map(str, number)) for number in numbers)
    first, other = zip(releases, pythons or ("", ""), numpys or ("", ""), strict=True)
    at_this_store = (each for each in about(scenario) if each.store in (None, store))
    return next((each.outcomes for each in at_this_store if each.covers(scenario, first, other)), None)


@cache
def about(scenario: str) -> tuple[Observation, ...]:
    """The observations about a scenario: a plan asks for the same few scenarios tens of thousands of times."""
    return tuple(each for each in OBSERVATIONS if fnmatchcase(scenario, each.scenario))


def _within(rank: Sides, bounds: Sides) -> bool:
    """Whether a rank keeps to all three bounds; a Python or NumPy that is unknown keeps to none."""
    return all(not bound or (bool(known) and within(known, bound)) for known, bound in zip(rank, bounds, strict=True))
