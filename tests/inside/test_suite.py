"""What a rank reports of PyTorch's own tests: whose assertion failed, where, and what it compared."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import unittest
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path
from types import ModuleType

import pytest
from torchskew.inside import kit
from torchskew.inside.job import alone

from tests.patience import PATIENCE

TEST = """
import unittest

class Test(unittest.TestCase):
    def test_values(self):
        self.check([1, 2], {"b": 3})

    def check(self, first, second):
        self.assertEqual(first, second)

    def test_regex(self):
        with self.assertRaisesRegex(ValueError, "no such"):
            raise ValueError("other")

    def test_other(self):
        raise AssertionError("by torch")
"""


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it travels, which finds the kit under the name that it has in a rank."""
    monkeypatch.setitem(sys.modules, "torchskew_kit", kit)
    return importlib.reload(importlib.import_module("torchskew.inside.suite"))


def raised(folder: Path, name: str) -> BaseException:
    """What a test raises that lies where PyTorch's own tests do."""
    path = folder / "torch" / "testing" / "_internal" / "distributed" / "some_test.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEST)
    spec = importlib.util.spec_from_file_location("some_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(AssertionError) as told:
        getattr(module.Test(name), name)()
    return told.value


def test_an_assertion_tells_its_line_and_both_values(suite: ModuleType, tmp_path: Path) -> None:
    error = raised(tmp_path, "test_values")
    assert suite.is_assertion(error)
    found = suite.failure(error)
    assert (found["at"], found["line"]) == ("some_test.py:9", "self.assertEqual(first, second)")
    assert found["values"] == {"first": "[1, 2]", "second": "{'b': 3}"}
    assert "[1, 2] != {'b': 3}" in found["text"]


def test_an_assertion_without_two_values_tells_its_text(suite: ModuleType, tmp_path: Path) -> None:
    found = suite.failure(raised(tmp_path, "test_regex"))
    assert found["text"] == '"no such" does not match "other"'


def elsewhere() -> None:
    """As a function of torch does that is no test."""
    assert sys.argv is None, "by torch itself"


def test_an_assertion_of_torch_is_an_error_and_no_finding_of_the_suite(suite: ModuleType, tmp_path: Path) -> None:
    assert suite.is_assertion(raised(tmp_path, "test_other"))  # raised by a test
    with pytest.raises(AssertionError) as told:
        elsewhere()
    assert not suite.is_assertion(told.value)
    assert not suite.is_assertion(RuntimeError("connection closed"))


def test_a_value_that_can_not_be_shown_harms_nothing(suite: ModuleType) -> None:
    class Hidden:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert suite._shown(Hidden()) == "<no repr: RuntimeError>"
    assert len(suite._shown("x" * 5000)) == suite.SHOWN + 1


def test_a_traceback_larger_than_a_pipe_stops_no_rank(suite: ModuleType) -> None:
    messages = suite.Messages()
    try:
        sender = threading.Thread(target=messages.send, args=("x" * (1 << 24),), daemon=True)
        sender.start()
        sender.join(PATIENCE)
        assert not sender.is_alive()
        assert connection.wait([messages], timeout=0) == []
    finally:
        messages.close()
        messages.parent.close()


@pytest.mark.parametrize("bridge", [True, False])
def test_at_a_bridge_ranks_of_a_test_meet_there_and_not_over_the_suites_file(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bridge: bool
) -> None:
    met: list[str] = []

    class Kind:
        init_method = "file://"

        @classmethod
        def _run(cls, *_: object) -> None:
            met.append(cls().init_method)
            raise SystemExit(0)

    for name in ("MASTER_ADDR", "MASTER_PORT", *kit.AT_A_BRIDGE):
        monkeypatch.setenv(name, "")
    job = kit.Job(replace(alone(10.0), bridge=bridge, variant="test_x", port=29500), "provision", lambda **_: None)
    monkeypatch.setattr(suite, "load", lambda *_: ModuleType("suite"))
    monkeypatch.setattr(suite, "_test", lambda *_: (Kind, "test_x"))
    monkeypatch.setattr(suite, "_with_settings", lambda *_: 1)
    monkeypatch.setattr(job, "path", lambda name: str(tmp_path / name))
    assert suite.run(job, "distributed") == {"failed": None}
    assert met == ["env://" if bridge else "file://"]


def test_settings_of_an_import_leave_no_trace(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND", "nccl")
    before = dict(suite.os.environ)
    with suite._environment(BACKEND="gloo", WORLD_SIZE="8"):
        assert (suite.os.environ["BACKEND"], suite.os.environ["WORLD_SIZE"]) == ("nccl", "8")
    assert dict(suite.os.environ) == before


def test_a_skip_is_told_with_the_suites_reason(suite: ModuleType) -> None:
    class Job:
        def unsupported(self, text: str) -> None:
            raise kit.Unsupported(text)

    end = SystemExit(86)
    end.__context__ = unittest.SkipTest("no GPU")
    with pytest.raises(kit.Unsupported, match="the suite skips it: no GPU"):
        suite._ended(Job(), end)
    assert suite._ended(Job(), SystemExit(0)) == {"failed": None}
