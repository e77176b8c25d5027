"""Ranks in Docker containers on a network of their own; the only file that imports docker-py."""

from __future__ import annotations

import itertools
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from torchskew.errors import HarnessError, MachineError
from torchskew.inside.protocol import agent_command
from torchskew.model.versions import Environment, Version
from torchskew.runtimes import ownership
from torchskew.runtimes.base import NO_FOLDERS, Channel, Folders, Progress, Scope
from torchskew.runtimes.docker import wheels
from torchskew.runtimes.docker.connection import Connection
from torchskew.runtimes.docker.container import Container
from torchskew.runtimes.docker.container_api import ContainerApi
from torchskew.runtimes.docker.daemon import Limits, Spec
from torchskew.runtimes.docker.image_api import ImageApi
from torchskew.runtimes.docker.images import RECIPE, Images

_DEFAULT_URL = "unix:///var/run/docker.sock"
_PATIENCE = 60  # seconds for one answer of the daemon
_GLANCE = 1  # seconds in which a daemon answers, when there is one
_OWNER, _HOST, _RUN = "torchskew.owner", "torchskew.host", "torchskew.run"
_WITH_A_WAY_OUT, _NOWHERE = "bridge", "none"  # the engine's own networks
# An internal network has one interface; gloo and tensorpipe would ask the host's name instead.
_RANK_ENV = {"GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0"}
_ALONE_ENV = {"GLOO_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo"}


class Daemon(ImageApi, ContainerApi):
    """Everything asked of the Docker daemon."""


@dataclass(slots=True)
class _Open:
    """What a run shares, and the containers it started."""

    name: str
    labels: Mapping[str, str]
    containers: list[Container]


class DockerRuntime:
    """The docker runtime. limits: of each container."""

    name = "docker"
    replicas = True
    sees_files = False

    def __init__(self, limits: Limits | None = None) -> None:
        self.daemon = Daemon(_connect, _url())
        self._limits = limits or Limits()
        self._open: _Open | None = None
        self._numbers = itertools.count()
        self._guard = threading.Lock()

    def describe(self) -> str:
        """One line: `docker 27.1 at unix:///var/run/docker.sock`; MachineError when nothing answers."""
        return f"docker {self.daemon.engine().version} at {self.daemon.url}"

    def answers(self) -> str | None:
        """None when a usable daemon answers, else why not; within a second, never raises."""
        probe = Daemon(lambda: _connect(_GLANCE), self.daemon.url)
        try:
            engine = probe.engine()
        except HarnessError as error:
            return str(error)
        finally:
            probe.close()
        if engine.system != "linux":
            return f"the daemon at {self.daemon.url} runs {engine.system} containers. Switch it to Linux containers."
        return None

    def provision(self, version: Version, progress: Progress) -> Environment:
        """The version's image, reused, pulled, built or bootstrapped.

        Raises:
            ProvisionError: what failed, why, and the fix.
        """
        return Images(self.daemon).provide(version, progress)

    def open(self, scope: Scope) -> None:
        """Make the run's network and the folder its containers share; MachineError when the daemon refuses."""
        owner = ownership.owner()
        labels = {_RUN: scope.run_id, _OWNER: owner, _HOST: scope.host}
        run_id = re.sub(r"[^a-zA-Z0-9_.-]", "-", scope.run_id)[:32]
        name = f"torchskew-{run_id}-{scope.owner_pid}"  # a resumed run has the id of a dead one
        self._open = _Open(name=name, labels=labels, containers=[])
        self.daemon.make_network(name, labels)
        self.daemon.make_volume(name, self._limits.share, labels)

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> Channel:
        """Start an agent in a container of the version's image, into which these folders are mounted.

        Raises:
            MachineError: the daemon refuses or is gone.
        """
        run = self._opened()
        label = re.sub(r"[^a-z0-9]+", "-", environment.version.lower()).strip("-")
        grants = environment.grants
        network = _WITH_A_WAY_OUT if grants.network else _NOWHERE if grants.root else run.name
        limits = replace(
            self._limits,
            memory=grants.memory or self._limits.memory,
            pids=max(grants.processes, self._limits.pids),  # threads count as well
        )
        spec = Spec(
            image=environment.handle,
            name=f"{run.name}-{next(self._numbers)}",
            hostname=f"{label[:32]}-{replica}",
            command=agent_command("python3", environment.version),
            network=network,
            volume=run.name,
            labels=run.labels,
            env=environment.env,
            limits=limits,
            # A person's own folders are often closed to everybody else, as pytest's tmp_path is.
            user=f"{os.getuid()}:{os.getgid()}" if folders.data or folders.code or _closed(grants.root) else "",
            folders=(*folders.data, *folders.code, *([grants.root] if grants.root else [])),
        )
        container = self._started(spec)
        container.rank_env = (_ALONE_ENV if network == _NOWHERE else _RANK_ENV) | dict(environment.env)
        with self._guard:
            run.containers.append(container)
        return container

    def close(self) -> None:
        """Remove the run's containers, network and folder.

        Raises:
            MachineError: everything that is left, and why.
        """
        run, self._open = self._open, None
        if run is None:
            self.daemon.close()
            return
        with ThreadPoolExecutor(8, "close") as pool:
            problems = [text for text in pool.map(_problem, [each.close for each in run.containers]) if text]
        for remove in (self.daemon.remove_network, self.daemon.remove_volume):
            text = _problem(lambda remove=remove: remove(run.name))  # type: ignore[misc]
            problems += [text] if text else []
        self.daemon.close()
        if problems:
            raise MachineError("\n".join(problems))

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead owners of this host left, in the daemon and on disk; a line for each thing removed.

        Raises:
            MachineError: what could not be removed.
        """
        removers = {
            "container": self.daemon.remove,
            "network": self.daemon.remove_network,
            "volume": self.daemon.remove_volume,
            "image": self.daemon.remove_image,
        }
        removed, problems = [], []
        for what, ident, name, labels in list(self._orphans()):
            text = _problem(lambda what=what, ident=ident: removers[what](ident))  # type: ignore[misc]
            if text:
                problems.append(f"the {what} {name} can't be removed: {text}")
            else:
                removed.append(f"{what} {name} of {labels.get(_RUN, 'a build')}")
        try:
            removed += ownership.sweep(wheels.sites())
        except MachineError as error:
            problems.append(str(error))
        if problems:
            raise MachineError("\n".join(problems))
        return tuple(removed)

    def clear(self) -> tuple[str, ...]:
        """Remove every image that was made here and that no container uses; a line for each."""
        removed = []
        for image, name in self.daemon.made_here(RECIPE):
            if not _problem(lambda image=image: self.daemon.remove_image(image)):  # type: ignore[misc]
                removed.append(f"image {name}")
        return tuple(removed)

    def room(self, versions: Sequence[Version]) -> None:
        """None: images share their layers, and the engine keeps them."""
        del versions

    def _orphans(self) -> Iterator[tuple[str, str, str, Mapping[str, str]]]:
        host = socket.gethostname()
        for what, ident, name, labels in self.daemon.labelled(_OWNER):
            if labels.get(_HOST) == host and not ownership.alive(labels[_OWNER]):
                yield what, ident, name, labels

    def _started(self, spec: Spec) -> Container:
        ident = self.daemon.create(spec)
        container = None
        try:
            container = Container(self.daemon, ident, self.daemon.attach(ident))
            container.host = self.daemon.start(ident, spec.network)
        except BaseException:
            _problem(container.close if container else lambda: self.daemon.remove(ident))
            raise
        return container

    def _opened(self) -> _Open:
        if self._open is None:
            raise MachineError("the docker runtime is not open.")
        return self._open


def _problem(action: Callable[[], None]) -> str:
    """Why it failed, or nothing."""
    try:
        action()
    except HarnessError as error:
        return str(error)
    return ""


def _closed(folder: str) -> bool:
    """Whether others can't read a folder, because of its own mode or of one above it."""
    if not folder:
        return False
    reached = all(each.stat().st_mode & stat.S_IXOTH for each in (Path(folder), *Path(folder).parents))
    return not (reached and Path(folder).stat().st_mode & stat.S_IROTH)


def _url() -> str:
    return os.environ.get("DOCKER_HOST") or _DEFAULT_URL


def _connect(seconds: int = _PATIENCE) -> Connection:
    """Connect as the environment says (DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH)."""
    import docker
    import requests
    from docker.utils import kwargs_from_env

    settings = kwargs_from_env()
    settings.setdefault("base_url", _DEFAULT_URL)
    if _url().startswith("unix://"):
        # Its reason is plain, and docker-py would leave the socket open.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(seconds)
            probe.connect(_url().removeprefix("unix://"))
    api = docker.APIClient(version="auto", timeout=seconds, **settings)
    silences = (docker.errors.DockerException, requests.RequestException, OSError)
    return Connection(api=api, refusal=docker.errors.APIError, silences=silences)
