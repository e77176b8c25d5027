"""Makes an image of a Debian suite in one of three ways; where all fail, the error gives the reason of each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchskew.errors import HarnessError, ProvisionError
from torchskew.model.versions import Suite
from torchskew.runtimes import ownership
from torchskew.runtimes.docker import bootstrap, pulling, tar_stream
from torchskew.runtimes.docker.daemon import DaemonGoneError, ImageDaemon
from torchskew.runtimes.docker.mirror import FIX, Mirror, apt_environ, certificates, find_mirror
from torchskew.runtimes.docker.pulling import Say

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The image to make: packages of a suite, its tag and labels, and the template for building on a base."""

    suite: Suite
    packages: tuple[str, ...]
    tag: str
    labels: Mapping[str, str]
    template: str

    @property
    def base(self) -> str:
        """The base image that registries have."""
        return f"debian:{self.suite.name}-slim"

    @property
    def size(self) -> str:
        """The size of the download, where it is large."""
        return f", about {self.suite.download} MB" if "python3-torch" in self.packages else ""


def least_size(wanted: Wanted) -> int:
    """Bytes that the image takes at least: one with torch is 3.3 to 4.8 times its download, one without is 163 MB.

    Measured on the images of the four suites.
    """
    return (3 * wanted.suite.download if "python3-torch" in wanted.packages else 150) * 1_000_000


def make(daemon: ImageDaemon, wanted: Wanted, say: Say) -> tuple[str, str]:
    """The image's id and the way it was made.

    Raises:
        ProvisionError: every way with its reason, then the fix.
        DaemonGoneError: the daemon went away, so that no way can work.
    """
    failed: list[str] = []
    for name, way in (("base here", _on_local), ("registry", _on_pulled), ("bootstrap", _bootstrapped)):
        try:
            return way(daemon, wanted, say)
        except DaemonGoneError:
            raise
        except HarnessError as error:
            failed.append(f"{name}: {error}")
    ways = "; ".join(f"({number}) {text.rstrip('.')}" for number, text in enumerate(failed, 1))
    raise ProvisionError(
        f"no image of Debian {wanted.suite.name} could be made: {ways}. Fix any one of these: put {wanted.base} into "
        f"the daemon (`docker load`), let it reach a registry, or install mmdebstrap here with a mirror that answers."
    )


def _on_local(daemon: ImageDaemon, wanted: Wanted, say: Say) -> tuple[str, str]:
    if daemon.local(wanted.base) is None:
        raise ProvisionError(f"no {wanted.base} in the daemon")
    return _built(daemon, wanted, wanted.base, say), f"built on {wanted.base}, already here"


def _on_pulled(daemon: ImageDaemon, wanted: Wanted, say: Say) -> tuple[str, str]:
    if daemon.local(wanted.base) is not None:
        raise ProvisionError("not asked, the base is here")
    pulling.pull(daemon, wanted.base, say)
    return _built(daemon, wanted, wanted.base, say), f"built on {wanted.base}, pulled"


def _bootstrapped(daemon: ImageDaemon, wanted: Wanted, say: Say) -> tuple[str, str]:
    tools = bootstrap.available()
    mirror = find_mirror(os.environ)
    if not tools:
        raise ProvisionError("neither mmdebstrap nor debootstrap is installed")
    if mirror is None:
        raise ProvisionError(f"this host's apt names no Debian mirror. {FIX}")
    ways: dict[str, Callable[[], str]] = {
        "mmdebstrap": lambda: _by_mmdebstrap(daemon, wanted, mirror, say),
        "debootstrap": lambda: _by_debootstrap(daemon, wanted, mirror, say),
    }
    failed: list[str] = []
    for tool in tools:
        say(f"bootstrapping Debian {wanted.suite.name} with {tool}{wanted.size}")
        try:
            return ways[tool](), f"bootstrapped with {tool}"
        except DaemonGoneError:
            raise
        except HarnessError as error:
            failed.append(f"{error} (mirror {mirror.shown})")
    raise ProvisionError("; ".join(failed))


def _by_mmdebstrap(daemon: ImageDaemon, wanted: Wanted, mirror: Mirror, say: Say) -> str:
    tar = bootstrap.root_tar(wanted.suite, wanted.packages, mirror, say)
    return daemon.load_root(tar, wanted.tag, wanted.labels)


def _by_debootstrap(daemon: ImageDaemon, wanted: Wanted, mirror: Mirror, say: Say) -> str:
    tag = f"torchskew/bootstrap:{wanted.suite.name}"
    daemon.load_root(bootstrap.debootstrap_tar(wanted.suite, mirror, say), tag, {})
    try:
        return _built(daemon, wanted, tag, say)
    finally:
        daemon.remove_image(tag)


def _built(daemon: ImageDaemon, wanted: Wanted, base: str, say: Say) -> str:
    say(f"installing {' '.join(wanted.packages)}{wanted.size}")
    args = {
        "BASE": base,
        "PACKAGES": " ".join(wanted.packages),
        "OWNER": ownership.owner(),
        "HOST": socket.gethostname(),
    }
    # The engine keeps these names out of an image's history.
    environ = os.environ | apt_environ(os.environ)
    args |= {name: environ[name] for name in _PROXIES if environ.get(name)}
    return daemon.build(tar_stream.streamed(_context(wanted)), wanted.tag, wanted.labels, args)


def _context(wanted: Wanted) -> tar_stream.Writer:
    settings = []
    if not wanted.suite.check_valid_until:
        settings.append('Acquire::Check-Valid-Until "false";')
    bundle = certificates(os.environ)
    files = [tar_stream.text("Dockerfile", wanted.template)]
    if bundle:
        files.append(tar_stream.text("apt/certificates.pem", Path(bundle).read_bytes()))
        settings.append('Acquire::https::CaInfo "/etc/apt/certificates.pem";')
    mirror = find_mirror(os.environ)
    if mirror:
        # A keyring of this host's would not be there in the build; the base trusts Debian's.
        line = Mirror(uri=mirror.uri).line(wanted.suite.name)
        files.append(tar_stream.text("apt/sources.list", f"{line}\n"))
    files.append(tar_stream.text("apt/apt.conf.d/99torchskew", "\n".join([*settings, ""])))
    return tar_stream.together(*files)
