"""Makes a Debian root file system from a mirror, with mmdebstrap or else debootstrap."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torchskew.errors import ProvisionError
from torchskew.model.versions import Suite
from torchskew.runtimes import ownership
from torchskew.runtimes.docker import tar_stream
from torchskew.runtimes.docker.mirror import Mirror, apt_environ, certificates
from torchskew.runtimes.processes import tied

TOOLS = ("mmdebstrap", "debootstrap")
# Nobody reads these in a container, and they are a tenth of it.
DROPPED = ("doc", "man", "locale", "info", "gtk-doc", "lintian", "bug")
_CHUNK = 1 << 20
_BEAT = 0.5  # seconds
# Left by mmdebstrap: the mirror's address may hold a password.
_FORGET = 'rm -f "$1/etc/apt/sources.list" "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"'
_APART = "--kill-child"
_GRACE = 30.0  # seconds for a tool to unmount and remove what it made
_SCRIPTS = Path("/usr/share/debootstrap/scripts")

Say = Callable[[str], None]


def available() -> tuple[str, ...]:
    """The tools that this host has."""
    return tuple(tool for tool in TOOLS if shutil.which(tool))


def root_tar(suite: Suite, packages: Sequence[str], mirror: Mirror, say: Say) -> Iterator[bytes]:
    """The tar of a minimal root with these packages, by mmdebstrap.

    Raises:
        ProvisionError: with the tool's last words, before the first byte or instead of the end.
    """
    command = [*_guarded("mmdebstrap"), "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in DROPPED]
    command += ["--dpkgopt=force-unsafe-io", f"--customize-hook={_FORGET}"]
    if not suite.check_valid_until:
        command.append('--aptopt=Acquire::Check-Valid-Until "false"')
    bundle = certificates(os.environ)
    if bundle and mirror.uri.startswith("https:"):
        command.append(f'--aptopt=Acquire::https::CaInfo "{bundle}"')
    with ownership.working() as folder:
        yield from _streamed([*command, suite.name, "-", mirror.line(suite.name)], say, folder)


def debootstrap_tar(suite: Suite, mirror: Mirror, say: Say) -> Iterator[bytes]:
    """The tar of a minimal root without packages of ours, by debootstrap, which can't resolve what torch needs.

    Raises:
        ProvisionError: with the tool's last words.
    """
    if os.geteuid() != 0:
        raise ProvisionError("debootstrap needs root. Install mmdebstrap, which does not.")
    with ownership.working() as place:
        folder = place / "root"
        command = [*_guarded("debootstrap"), "--variant=minbase"]
        command += [f"--keyring={mirror.signed_by}"] if mirror.signed_by else []
        command += [suite.name, str(folder), mirror.uri]
        if not (_SCRIPTS / suite.name).exists():
            command.append(str(_SCRIPTS / "sid"))  # a suite younger than the tool
        # It says everything on standard output, errors too.
        for _ in _streamed(["sh", "-c", 'exec "$@" >&2', "sh", *command], say, place):
            pass
        yield from tar_stream.streamed(tar_stream.folder(folder))


def _guarded(tool: str) -> list[str]:
    """The tool in namespaces of its own where we may make them, so that what it started and mounted ends with it.

    Elsewhere the kernel ends it when we are killed, where util-linux can ask for that.
    """
    unshare = shutil.which("unshare")
    if unshare and shutil.which("setpriv"):
        apart = [unshare, "--mount", "--pid", "--fork", _APART, "--mount-proc"]
        if os.geteuid() == 0 and subprocess.run([*apart, "true"], check=False, capture_output=True).returncode == 0:
            return tied([*apart, tool])
    return tied([tool], "TERM")


def _streamed(command: Sequence[str], say: Say, place: Path) -> Iterator[bytes]:
    """Its standard output. Its step is said anew twice a second, because that is where an interrupted run ends us."""
    with _running(command, os.environ | apt_environ(os.environ) | {"TMPDIR": str(place)}) as process:
        assert process.stdout is not None
        last: deque[str] = deque(maxlen=12)
        steps: deque[str] = deque(("",), maxlen=1)
        reader = threading.Thread(target=_read_words, args=(process, steps, last), daemon=True)
        reader.start()
        poll, said, due = select.poll(), "", 0.0
        poll.register(process.stdout, select.POLLIN)
        while True:
            ready = poll.poll(1000 * _BEAT)
            if steps[0] and (steps[0] != said or time.monotonic() >= due):
                said, due = steps[0], time.monotonic() + _BEAT
                say(said)
            chunk = os.read(process.stdout.fileno(), _CHUNK) if ready else None
            if chunk == b"":
                break
            if chunk:
                yield chunk
        process.wait()
        reader.join()
        if steps[0] != said:
            say(steps[0])
        if process.returncode != 0:
            raise ProvisionError(_last_words(command, process.returncode, last))


@contextmanager
def _running(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process, apart=_APART in command)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _end(process: subprocess.Popen[bytes], *, apart: bool) -> None:
    if not apart:  # then it has to clean up behind itself
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
    process.kill()
    process.wait()


def _read_words(process: subprocess.Popen[bytes], steps: deque[str], last: deque[str]) -> None:
    assert process.stderr is not None
    for raw in process.stderr:
        line = raw.decode(errors="replace").strip()
        if line:
            last.append(line)
        if line.startswith("I: ") and line.endswith("..."):
            steps.append(line.removeprefix("I: ").rstrip("."))


def _last_words(command: Sequence[str], code: int, last: Sequence[str]) -> str:
    tool = next(part for part in command if part in TOOLS)
    errors = [line for line in last if line.startswith(("E:", "Err:")) and "mmdebstrap failed" not in line]
    errors = errors or list(last)
    return f"{tool} ended with {code}: {'; '.join(errors[-3:]) or 'without output'}"
