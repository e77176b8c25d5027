"""`torchskew explain` and `advise` as a user calls them: texts, logs, standard input, JSON, bad input."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import pytest
from torchskew import cli
from torchskew.releases.diagnosis import Material
from torchskew.workflows import log_scan, proof
from torchskew.workflows.rehearsal import workflow

TEXT = "AttributeError: '_RendezvousState' object has no attribute 'redundancy_list'"


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    code = cli.main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_text_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """The entry, its cause and remedy, and what it was found by."""
    code, out, _ = called(capsys, "explain", TEXT)
    assert code == 0
    assert out.startswith("This is SKEW-008: torchrun")
    assert "certain: nothing else produces this text" in out
    assert "Upgrade all agents together." in out


def test_logs_of_ranks_name_line_and_releases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each quoted line says where it is."""
    (tmp_path / "rank0.log").write_text("step 1\nPyTorch version: 2.4.1+cu121\nstep 2\n")
    (tmp_path / "rank1.log").write_text("using torch==2.6.0\nstep 3\nRuntimeError: Connection reset by peer\n")
    code, out, _ = called(capsys, "explain", str(tmp_path / "rank0.log"), str(tmp_path / "rank1.log"))
    assert code == 0
    assert "most likely SKEW-002" in out
    assert "2.4.1+cu121 (rank0.log:2), 2.6.0 (rank1.log:1)" in out
    assert "rank1.log:3: RuntimeError: Connection reset by peer" in out


@pytest.mark.parametrize("size", [7, 64, 4096])
def test_the_place_of_a_line_does_not_depend_on_how_much_is_read_at_once(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines across the end of a piece are whole, and counted once."""
    monkeypatch.setattr(log_scan, "CHUNK", size)
    lines = [f"step {number} loss 0.{number}" for number in range(300)]
    lines[211] = TEXT
    lines[250] = "torch 2.13.0 here"
    (tmp_path / "job.log").write_text("\n".join(lines))
    material = log_scan.scan([str(tmp_path / "job.log")], io.BytesIO()).material()
    assert [line.where for line in material.lines if line.text == TEXT] == ["job.log:212"]
    assert [(each.release, each.where) for each in material.named] == [("2.13.0", "job.log:251")]
    assert len([line for line in material.lines if line.text.startswith("step")]) == 1


@pytest.mark.parametrize("size", [64, 65536])
def test_lines_that_differ_in_a_hash_only_do_not_crowd_out_the_error(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of many hashes stays small, and the error at its end is found where it is."""
    monkeypatch.setattr(log_scan, "CHUNK", size)
    monkeypatch.setattr(log_scan, "FINE", 10)
    monkeypatch.setattr(log_scan, "KEPT", 50)
    lines = [f"saved shard {hashlib.sha256(bytes([number])).hexdigest()} in time" for number in range(200)]
    (tmp_path / "job.log").write_text("\n".join([*lines, TEXT, "torch 2.13.0 here"]))
    material = log_scan.scan([str(tmp_path / "job.log")], io.BytesIO()).material()
    assert [line.where for line in material.lines if line.text == TEXT] == ["job.log:201"]
    assert [(each.release, each.where) for each in material.named] == [("2.13.0", "job.log:202")]
    assert len(material.lines) < 30


@pytest.mark.parametrize("size", [7, 64, 65536])
def test_a_progress_bar_is_not_one_line_that_hides_the_error(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns the carriage instead of ending a line. The place is the one that an editor shows."""
    monkeypatch.setattr(log_scan, "CHUNK", size)
    bar = "".join(f"\r{number}%|{'#' * number}| {number}/100 [00:{number:02}, 3.1it/s]" for number in range(100))
    (tmp_path / "job.log").write_text(f"begin\r\n{bar}\r{TEXT}\nend\ntorch 2.13.0 here\n", newline="")
    material = log_scan.scan([str(tmp_path / "job.log")], io.BytesIO()).material()
    assert [line.where for line in material.lines if line.text == TEXT] == ["job.log:2"]
    assert [line.where for line in material.lines if line.text == "end"] == ["job.log:3"]
    assert [(each.release, each.where) for each in material.named] == [("2.13.0", "job.log:4")]


class Endless(io.RawIOBase):
    """A log that is made while it is read, and counts what was asked of it at most at once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self.largest = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all of them at once would not fit."""
        assert 0 < size < 2**20
        self.largest = max(self.largest, size)
        while len(self._held) < size and (more := next(self._pieces, b"")):
            self._held += more
        piece, self._held = self._held[:size], self._held[size:]
        return piece


def peak_of(pieces: Iterable[bytes]) -> tuple[Material, int]:
    """What a log says, and the most memory that reading it held."""
    result = log_scan.Scan()
    tracemalloc.start()
    try:
        result.read(cast("IO[bytes]", Endless(pieces)), "job.log")
        return result.material(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def of_ranks(lines: int) -> Iterator[bytes]:
    """A log of four ranks that fails in its middle."""
    for number in range(lines):
        yield f"[rank{number % 4}] step {number} loss 0.{number:06} of shard {'ab' * 12}\n".encode()
        if number == lines // 2:
            yield f"[rank2]: {TEXT}\n".encode()


def test_a_log_is_read_in_pieces_so_that_memory_does_not_grow_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the log, and not a half more memory; the one error in the middle is found in both."""
    monkeypatch.setattr(log_scan, "CHUNK", 2**16)
    short, little = peak_of(of_ranks(10_000))
    long, much = peak_of(of_ranks(80_000))
    assert [[line.where for line in each.lines if TEXT in line.text] for each in (short, long)] == [
        ["job.log:5002"],
        ["job.log:40002"],
    ]
    assert much < little * 1.5


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_line_without_an_end_does_not_fill_the_memory(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four megabytes of one line; what follows it is found."""
    monkeypatch.setattr(log_scan, "CHUNK", 2**16)
    material, most = peak_of([*(b"x" * 2**16 for _ in range(64)), end, TEXT.encode(), b"\n"])
    assert TEXT in {line.text for line in material.lines}
    assert most < 2**20


def test_an_error_after_more_distinct_lines_than_are_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that prints samples of its data has no two lines alike."""
    monkeypatch.setattr(log_scan, "KEPT", 50)
    lines = [f"sample {'uvwxyz'[number % 6] * (number + 1)}\n" for number in range(200)]
    scan = log_scan.Scan()
    scan.read(io.BytesIO("".join([*lines, TEXT, "\n"]).encode()), "job.log")
    assert [line.where for line in scan.material().lines if line.text == TEXT] == ["job.log:201"]
    assert len(scan.material().lines) == 51


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("PyTorch version: 2.4.1+cu121", "2.4.1+cu121"),
        ("torch==2.6.0", "2.6.0"),
        ("torch.__version__ = '2.2.2+cpu'", "2.2.2+cpu"),
        ("running with torch 2.13.0 on host a", "2.13.0"),
        ("Version 2.5.1+rocm6.2", "2.5.1+rocm6.2"),
        ("torchvision==0.16.0", None),
        ("torchaudio 2.1.0", None),
        ("NCCL version 2.20.5+cuda12.4", None),
        ("python 3.11.7", None),
    ],
)
def test_only_torchs_own_release_is_read(line: str, release: str | None) -> None:
    """Other packages' versions are no releases of torch."""
    scan = log_scan.Scan()
    scan.read(io.BytesIO(line.encode()), "")
    assert [each.release for each in scan.material().named] == ([release] if release else [])


def test_lines_keep_their_order_so_that_one_broken_in_two_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "rank0.log"
    log.write_text(
        "step 1\nfrom torch.fx import wrap\nImportError: cannot import name 'wrap'\nstep 2\n", encoding="utf-8"
    )
    material = log_scan.scan([str(log)], io.BytesIO()).material()
    assert [line.where for line in material.lines] == ["rank0.log:1", "rank0.log:2", "rank0.log:3"]
    assert called(capsys, "explain", str(log))[1].startswith("This is SKEW-048")


def test_standard_input_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For a program: one object."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    code, out, _ = called(capsys, "explain", "-", "--json")
    answer = json.loads(out)
    assert (code, answer["fault"], answer["breaks"][0]["id"]) == (0, "releases", "SKEW-008")


def test_an_entry_is_shown_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    """In any case."""
    code, out, _ = called(capsys, "explain", "skew-002")
    assert (code, out.partition("  ")[0]) == (0, "SKEW-002")


def test_what_is_open_or_unknown_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a script can tell."""
    assert called(capsys, "explain", "Connection reset by peer")[0] == 1
    assert called(capsys, "explain", "nothing of the kind")[0] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["explain", "nosuch.log"], "explain: nosuch.log does not exist"),
        (["explain", "."], "explain: . is a folder"),
        (["explain", "--from", "abc", "--to", "2.6.0", "x"], "--from 'abc' is no release"),
        (["explain", "--from", "2.6.0", "x"], "Add --to"),
        (["advise", "--from", "1.2", "--to", "2.6.0"], "--from '1.2' is no release since 1.7"),
        (["advise", "--from", "2.2.2", "--to", "2.6.0", "--uses", "dpp"], "Did you mean ddp?"),
        (["advise", "--from", "2.2.2"], "--to"),
        (["advise", "--from", "2.2.2", "--to", "2.6.0", "--json", "--check"], "Run one after the other"),
        (["advise", "--from", "2.2.2", "--to", "2.6.0", "--runtime", "venv"], "--runtime is for --check"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 4, with the fix."""
    code, out, err = called(capsys, *words)
    assert (code, out) == (4, "")
    assert says in err


def test_advice_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same answer in both."""
    words = ["advise", "--from", "2.2.2", "--to", "2.15.0", "--uses", "ddp", "--ranks", "64"]
    code, out, _ = called(capsys, *words)
    assert code == 0
    assert "only where rank 0 runs 2.15.0" in out
    answer = json.loads(called(capsys, *words, "--json")[1])
    assert (answer["order"], answer["proof"]) == ("new hosts", out.splitlines()[-1].partition("proof")[2].strip())


def test_check_runs_the_rehearsal_that_it_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the words that it printed, and the runtime that was asked for."""
    seen: list[workflow.Options] = []
    monkeypatch.setattr(proof, "prove", lambda advice, options, watch: seen.append(options) or 7)
    words = ["advise", "--from", "2.4.1", "--to", "2.14.1", "--uses", "ddp", "--check", "--runtime", "venv"]
    code, out, _ = called(capsys, *words)
    assert code == 7
    assert out.splitlines()[-1] == (
        "proof      torchskew rehearse --from 2.4.1 --to 2.14.1 --checkpoint plain --strategy host-first --rollback"
    )
    assert seen[0].fields == {
        "from": "2.4.1", "to": "2.14.1", "checkpoint": ["plain"], "strategy": ["host-first"], "rollback": "true",
        "runtime": "venv",
    }  # fmt: skip
