"""What a scenario holds in its hands: phases add up, cases are skipped by pattern, values reach other ranks."""

from __future__ import annotations

import ctypes
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.inside.job import alone
from torchskew.inside.kit import Job, Unsupported, fill, forget_made, made_once, no_compiler, raw, refusal


class Tensor:
    """As much of a tensor as its bytes need."""

    shape = (2,)

    def __init__(self, data: bytes) -> None:
        self.buffer = ctypes.create_string_buffer(data, max(len(data), 1))
        self.size = len(data)

    def numel(self) -> int:
        return self.size // 2

    def element_size(self) -> int:
        return 2

    def data_ptr(self) -> int:
        return ctypes.addressof(self.buffer)


def job(**fields) -> tuple[Job, list[str]]:
    sent: list[str] = []
    return Job(replace(alone(10.0), **fields), "provision", lambda **event: sent.append(event["phase"])), sent


def test_a_job_of_its_own_is_a_world_of_one() -> None:
    one, _ = job()
    assert (one.rank, one.world_size, one.host, one.guard, one.params, one.skip) == (0, 1, "127.0.0.1", False, {}, {})


def test_a_phase_entered_twice_adds_up() -> None:
    one, told = job()
    for phase in ("run", "rendezvous", "run", "done"):
        one.phase(phase)
    assert told == ["run", "rendezvous", "run", "done"]
    assert set(one.phases) == {"provision", "run", "rendezvous"}
    assert one.current == "done"
    assert all(seconds >= 0 for seconds in one.phases.values())


def test_cases_are_skipped_by_pattern_and_needed_ones_end_the_rank() -> None:
    one, _ = job(skip={"AVG/*": "no AVG before 1.11"})
    assert one.skipped("AVG/int32/1")
    assert not one.skipped("SUM/int32/1")
    one.need("SUM/int32/1")
    with pytest.raises(Unsupported, match="no AVG"):
        one.need("AVG/int32/1")


def test_a_value_posted_by_one_rank_is_fetched_by_another(tmp_path: Path) -> None:
    first, _ = job(rank=0, share=str(tmp_path))
    second, _ = job(rank=1, share=str(tmp_path))
    late = threading.Timer(0.02, lambda: first.post("it", {"a": [1]}))
    late.start()
    assert second.fetch("it") == {"a": [1]}
    late.join()
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_value_that_nobody_posts_is_waited_for_as_long_as_the_group(tmp_path: Path) -> None:
    one, _ = job(share=str(tmp_path), timeout=0.02)
    with pytest.raises(TimeoutError, match=r"no rank posted it within 0\.02 s"):
        one.fetch("it")


def test_bytes_go_into_a_tensor_and_come_out_of_it() -> None:
    tensor = Tensor(b"\0" * 4)
    fill(tensor, b"abcd")
    assert raw(tensor) == b"abcd"
    assert raw(Tensor(b"")) == b""
    fill(Tensor(b""), b"")
    with pytest.raises(ValueError, match="3 bytes don't fill"):
        fill(tensor, b"abc")


def test_a_refusal_is_in_the_versions_own_words() -> None:
    assert refusal(lambda: None) is None
    assert refusal(lambda: int("x")) == "ValueError: invalid literal for int() with base 10: 'x'"
    assert refusal(lambda: (_ for _ in ()).throw(RuntimeError("one\ntwo"))) == "RuntimeError: one"


def test_where_nothing_can_be_compiled_the_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert no_compiler() == "there is no C++ compiler (no-such-compiler)"


def test_what_a_compiler_makes_is_made_once_for_each_torch_and_anew_where_its_maker_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[str] = []

    def of(release: str, what: str = "cube", broken: bool = False) -> list[str]:
        def make(folder: str) -> None:
            made.append(f"{what} for {release}")
            (Path(folder) / "part").write_text("half")
            if broken:
                raise RuntimeError("no compiler")
            (Path(folder) / "library").write_text(made[-1])

        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=release, __file__=f"/{release}/torch"))
        folder = Path(made_once(what, make))
        return sorted(path.read_text() for path in folder.iterdir())

    with pytest.raises(RuntimeError, match="no compiler"):
        of("2.6", broken=True)
    assert of("2.6") == of("2.6") == ["", "cube for 2.6", "half"]
    assert of("2.13") == ["", "cube for 2.13", "half"]
    assert of("2.13", "square") == ["", "half", "square for 2.13"]
    assert made == ["cube for 2.6", "cube for 2.6", "cube for 2.13", "square for 2.13"]


def test_what_was_made_once_is_made_anew_after_it_is_forgotten_and_another_torch_s_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that repeats its cells compares what each repetition made itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[str] = []

    def of(release: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=release, __file__=f"/{release}/torch"))
        made_once("cube", lambda _folder: made.append(release))

    of("2.6")
    of("2.13")
    forget_made()
    of("2.13")
    of("2.6")
    assert made == ["2.6", "2.13", "2.13"]
