"""Archives are streamed, whole, and a failure on the way is the reader's."""

from __future__ import annotations

import io
import tarfile

import pytest
from torchskew.runtimes.docker import tar_stream


def unpack(chunks):
    return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))


def test_several_writers_fill_one_archive(tmp_path):
    (tmp_path / "a").write_text("one")
    writer = tar_stream.together(
        tar_stream.text("Dockerfile", "FROM x"), tar_stream.folder(tmp_path, "site", owned_by_root=True)
    )
    with unpack(tar_stream.streamed(writer)) as archive:
        assert archive.getnames() == ["Dockerfile", "site", "site/a"]
        assert archive.extractfile("Dockerfile").read() == b"FROM x"
        assert archive.getmember("site/a").uname == "root"


def test_a_failure_while_writing_reaches_the_reader():
    def broken(archive):
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        list(tar_stream.streamed(broken))


def test_a_reader_that_stops_early_ends_the_writer(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (4 << 20))
    chunks = tar_stream.streamed(tar_stream.folder(tmp_path))
    assert next(chunks)
    chunks.close()
