"""Versions as local virtual environments: made by uv from a lock, kept in the store, run on loopback."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement

from torchskew.errors import AgentError, HarnessError, MachineError, ProvisionError
from torchskew.inside.protocol import agent_command
from torchskew.model.runtimes import RUNTIMES, providers
from torchskew.model.sizes import readable
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.runtimes.base import NO_FOLDERS, Channel, Folders, Progress, Scope
from torchskew.runtimes.digest import digest
from torchskew.runtimes.ownership import OWNER_VARIABLE, RUN_VARIABLE, cache_folder, dead_folders, owner, remove
from torchskew.runtimes.reservations import NoSpaceError
from torchskew.runtimes.venv import indexes, launch, process
from torchskew.runtimes.venv.cached import link_cached
from torchskew.runtimes.venv.downloads import Downloads, measured
from torchskew.runtimes.venv.probe import Depth, facts_from, probed
from torchskew.runtimes.venv.projects import imported_content, installed_content
from torchskew.runtimes.venv.resolve import Lock, Resolver, asked_for, is_pinned
from torchskew.runtimes.venv.room import UNPACKED, Room, Size
from torchskew.runtimes.venv.store import Store, StoredEnvironment, size_of
from torchskew.runtimes.venv.tree import NO_TORCH, Tree, installed_beside, python_version, read_tree, settings
from torchskew.runtimes.venv.uv import Uv, UvError, binary

_LARGE = 100 * 10**6  # bytes of download that are worth a sentence beforehand


class VenvRuntime:
    """A `Runtime` of local processes. store: where environments are kept, by default the user's cache."""

    name = "venv"
    replicas = False
    sees_files = True

    def __init__(self, store: Path | None = None) -> None:
        self._store = Store(store or cache_folder())
        self._uv = Uv(self._store.folder / "uv")
        self._resolver = Resolver(self._uv)
        self._room = Room(self._store, self._uv, self._resolver)
        self._downloads = Downloads(self._store, self._uv)
        self._scope: Scope | None = None
        self._spawner: process.Spawner | None = None
        self._channels: list[process.LocalChannel] = []
        self._guard = threading.Lock()

    def answers(self) -> str | None:
        """None when environments can be made here, else why not."""
        if os.name != "posix":
            return "local versions need Linux or macOS."
        try:
            binary()
        except (ImportError, FileNotFoundError) as error:
            return f"uv is not installed beside torchskew ({error}). Install it: pip install uv"
        return None

    def describe(self) -> str:
        """The version of uv and where the environments are."""
        return f"uv {metadata.version('uv')}, environments in {_short(self._store.folder)}"

    def provision(self, version: Version, progress: Progress) -> Environment:
        """The version's environment, made or reused; ProvisionError says what failed, why, and the fix."""
        source = _usable(version)
        what = f'versions."{version.name}" ({source.value})'
        try:
            if source.kind is SourceKind.INTERPRETER:
                made = self._found(source, what)
            elif source.kind is SourceKind.SOURCE:
                made = self._beside(read_tree(source, what), version, source, progress)
            else:
                made = self._known(source, what) or self._make(version, source, what, progress)
        except InvalidRequirement as error:
            why = str(error).partition("\n")[0]
            raise ProvisionError(f'{what}: it is not a requirement: {why}. Write it like "torch==2.6.0".') from error
        except UvError as error:
            raise error.explained(what, self._store.folder, source.python) from error
        except OSError as error:
            fix = f"Check space and permissions of {self._store.folder}, or set XDG_CACHE_HOME to another folder."
            raise ProvisionError(f"{what}: {error}. {fix}") from error
        _check_release(version, made, what)
        return _environment(version, made, source)

    def index_answers(self) -> str | None:
        """None when torch can be resolved from this machine's indexes, else why not."""
        try:
            self._resolver.resolve(Source(kind=SourceKind.PIP, value="torch"))
        except UvError as error:
            return str(error.explained("torch", self._store.folder, None))
        return None

    def open(self, scope: Scope) -> None:
        """Make the folders that all ranks of the run share."""
        folder = Path(scope.folder)
        for name in ("share", "tmp", "empty", "etc"):
            (folder / name).mkdir(exist_ok=True)
        launch.write_etc(folder / "etc")
        self._scope = scope
        self._spawner = process.Spawner()

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> Channel:
        """A process that waits for the boot line; on one machine, which sees every folder, the rest is the same."""
        del replica, folders
        if self._scope is None or self._spawner is None:
            raise MachineError("the venv runtime is not open")
        folder = Path(self._scope.folder)
        env = launch.environ(environment.handle, environment.env) | {
            "TMPDIR": str(folder / "tmp"),
            # Names of other machines can only be looked up with the host's own settings.
            "TORCHSKEW_ETC": str(folder / ("empty" if environment.grants.network else "etc")),
            "TORCHSKEW_PARENT": str(os.getpid()),
            RUN_VARIABLE: self._scope.run_id,
            OWNER_VARIABLE: owner(),
        }
        try:
            command = agent_command(environment.handle, environment.version)
            started = self._spawner.spawn(command, env, folder / "empty")
        except OSError as error:
            raise AgentError(f"{environment.version}: {environment.handle} does not start: {error}") from error
        channel = process.LocalChannel(started, str(folder / "share"))
        with self._guard:
            self._channels.append(channel)
        channel.send(launch.preparation())
        return channel

    def close(self) -> None:
        """End every process of the run; problems are raised together as one MachineError."""
        problems = []
        for channel in self._channels:
            try:
                channel.close()
            except HarnessError as error:
                problems.append(str(error))
        self._channels.clear()
        if self._spawner is not None:
            self._spawner.close()
            self._spawner = None
        if self._scope is not None:
            left = process.ended(process.of_run(self._scope.run_id))
            problems += [f"process {pid} does not end" for pid in left]
            self._scope = None
        self._store.release()
        if problems:
            raise MachineError("; ".join(problems))

    def sweep(self) -> tuple[str, ...]:
        """End processes and remove folders of runs whose owner is dead; a line for each."""
        lines = []
        for pid, run_id in process.orphans():
            left = process.ended([pid])
            lines.append(f"process {pid} of run {run_id}" + (" does not end" if left else ""))
        for folder in dead_folders():
            remove(folder)
            lines.append(f"folder {folder.name}")
        return tuple(lines)

    def room(self, versions: Sequence[Version]) -> Room:
        """The space that these versions need on the disk; they count as in use from now on."""
        sizes = {}
        for version in versions:
            source = installed_beside(_usable(version))
            made = self._known(source, f'versions."{version.name}"')
            sizes[version.name] = Size(made.size, there=True) if made else self._room.estimate(source)
        return self._room.holding(sizes)

    def evict(self, keep_bytes: int) -> tuple[str, ...]:
        """Remove environments, longest unused first, until `keep_bytes` hold the rest; a line for each."""
        return self._room.evict(keep_bytes)

    def clear(self) -> tuple[str, ...]:
        """Remove every environment that no running torchskew uses; a line for each."""
        lines = self.evict(0)
        if self._uv.owns_cache and self._uv.cache.is_dir():
            self._uv.call("cache", "clean", "--quiet")
        return lines

    def _known(self, source: Source, what: str) -> StoredEnvironment | None:
        identity = self._store.answer(_request(source, what), pinned=is_pinned(source))
        return self._store.take(identity) if identity else None

    def _beside(self, tree: Tree, version: Version, source: Source, progress: Progress) -> StoredEnvironment:
        """The packages that a tree needs beside it; nothing of the tree is imported."""
        what, source = f'versions."{version.name}"', installed_beside(source)
        made = self._known(source, what) or self._make(version, source, what, progress)
        return replace(made, identity=digest(made.identity, tree.content), reports=tree.release)

    def _make(self, version: Version, source: Source, what: str, progress: Progress) -> StoredEnvironment:
        progress.step(version.name, "resolving")
        with self._downloads.tidied(asked_for(source)):  # resolving unpacks the wheels that are files here
            lock = self._resolver.resolve(source)
        with self._store.making(lock.identity) as place:
            if place is not None:
                self._fill(place, lock, version, progress)
                if version.built:
                    progress.step(version.name, "importing torch once")
                self._store.finish(_proved(place, lock, what) if version.built else _without_torch(place, lock))
        self._store.remember(_request(source, what), lock.identity)
        made = self._store.take(lock.identity)
        if made is None:
            raise ProvisionError(f"{what}: its environment was removed in the meantime. Run again.")
        return made

    def _fill(self, place: Path, lock: Lock, version: Version, progress: Progress) -> None:
        """Download, unpack and link what the lock lists."""
        name, python = version.name, str(place / "bin" / "python")
        self._uv.call("venv", "--quiet", "--no-project", "--python", lock.python, str(place))
        path = place / "pylock.toml"
        path.write_text(lock.text)
        link_cached(self._uv, lock, place)
        # uv takes a project that it built before for unchanged while its pyproject.toml is: its sources count as well.
        anew = [option for project in lock.projects for option in ("--refresh-package", project)]
        sync = ("pip", "sync", "--python", python, *anew, *indexes.flags(os.environ), str(path))
        _, planned = self._uv.call(*sync, "--dry-run")
        missing = re.search(r"Would download (\d+) package", planned)
        bundle = self._uv.environ().get("SSL_CERT_FILE")
        size = measured(lock, int(missing[1]) if missing else 0, bundle)
        try:
            with self._downloads.running(lock, size.on_disk) as reservation:
                if size.most >= _LARGE:
                    progress.say(f"{name}: downloading {size} once, into {_short(self._store.folder)}")

                def tell(written: int) -> None:
                    # uv unpacks as it downloads and says nothing; what it wrote tells how far it is.
                    reservation.written(written)
                    done = min(size.most, round(written / UNPACKED)) if size.most else written
                    progress.step(name, "downloading" if size.most else "unpacking", done, size.most)

                tell(0)
                self._uv.call(*sync, "--quiet", limit=3600.0, written=tell)
        except NoSpaceError as error:
            raise ProvisionError(f'versions."{name}": {size.refused(self._store.folder, error)}') from error

    def _found(self, source: Source, what: str) -> StoredEnvironment:
        """An interpreter that exists already; torch is imported only when it changed."""
        path = Path(source.value).expanduser().absolute()
        if not os.access(path, os.X_OK) or path.is_dir():
            fix = "Write the absolute path of a bin/python."
            raise ProvisionError(f"{what}: there is no interpreter at that path. {fix}")
        seen = probed(str(path), Depth.LOOK, what)
        content = {"python_version": seen.python_version, "content": seen.content}
        identity = digest("interpreter", str(path), json.dumps(content))
        facts = facts_from(self._store.answer(identity) or "", Depth.IMPORT)
        if facts is None:
            facts = probed(str(path), Depth.IMPORT, what)
            self._store.remember(identity, json.dumps(asdict(facts)))
        return StoredEnvironment(
            identity=identity, python=str(path), reports=facts.reports, git_version=facts.git_version,
            python_version=facts.python_version, packages=(), size=0,
        )  # fmt: skip


def _usable(version: Version) -> Source:
    kinds = RUNTIMES[VenvRuntime.name].sources
    for source in version.sources:
        if source.kind in kinds:
            return source
    have = ", ".join(source.kind for source in version.sources)
    others = " or ".join(f"--runtime {name}" for name in providers(version))
    fix = f"Use {others}, or add one of {', '.join(kinds)}."
    raise ProvisionError(f'versions."{version.name}" comes from {have}, which the venv runtime can\'t use. {fix}')


def _request(source: Source, what: str) -> str:
    """A name for the request, by which its answer is found again without uv or a network."""
    stamp = ""
    if source.kind is SourceKind.WHEEL:
        try:
            stat = Path(source.value).stat()
        except OSError as error:
            raise ProvisionError(f"{what}: {error.strerror}. Build the wheel, or correct its path.") from error
        stamp = f"{Path(source.value).absolute()} {stat.st_size} {stat.st_mtime_ns}"
    python = source.python or f"{sys.base_prefix} {sys.version}"
    content = installed_content(source.requires, what)
    more = filter(None, [content, source.until and f"until {source.until}"])
    return digest(source.kind, source.value, stamp, python, source.index or "", *source.requires, *more)


def _proved(place: Path, lock: Lock, what: str) -> StoredEnvironment:
    """Import torch once: what it reports, and that it works here."""
    python = str(place / "bin" / "python")
    facts = probed(python, Depth.IMPORT, what)
    return StoredEnvironment(
        identity=lock.identity, python=python, reports=facts.reports, git_version=facts.git_version,
        python_version=facts.python_version, packages=lock.packages, size=size_of(place),
    )  # fmt: skip


def _without_torch(place: Path, lock: Lock) -> StoredEnvironment:
    """What stands beside a tree of Python files: there is no torch in it."""
    python = str(place / "bin" / "python")
    return StoredEnvironment(
        identity=lock.identity, python=python, reports=NO_TORCH, git_version=None,
        python_version=python_version(python), packages=lock.packages, size=size_of(place),
    )  # fmt: skip


def _check_release(version: Version, made: StoredEnvironment, what: str) -> None:
    if version.reports and version.reports.partition("+")[0] != made.reports.partition("+")[0]:
        fix = "Correct `reports`, or the source."
        raise ProvisionError(f"{what} reports torch {made.reports}, but {version.reports} is declared. {fix}")


def _environment(version: Version, made: StoredEnvironment, source: Source) -> Environment:
    """The environment; what is imported from editable projects is part of its identity, though not of its place."""
    editable = imported_content(source.requires)
    packages = f", {len(made.packages)} packages, {readable(made.size)}" if made.packages else ""
    return Environment(
        version=version.name,
        runtime="venv",
        identity=digest(made.identity, editable) if editable else made.identity,
        handle=made.python,
        env={**version.env, **settings(source, made.reports)},
        reports=made.reports,
        python=made.python_version,
        numpy=next((each.partition("==")[2] for each in made.packages if each.startswith("numpy==")), ""),
        note=f"torch {made.reports}, Python {made.python_version}{packages}",
    )


def _short(path: Path) -> str:
    home = os.path.expanduser("~")
    return f"~{str(path)[len(home) :]}" if str(path).startswith(f"{home}/") else str(path)
