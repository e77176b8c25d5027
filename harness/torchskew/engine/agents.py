"""Warm agents from the engine's side: a thread reads each, and every event goes to the group of its rank."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from torchskew.engine.events import (
    AgentEvent,
    AgentLine,
    Gone,
    Imported,
    ImportFailed,
    Line,
    Loaded,
    RankEvent,
    Ready,
    read_line,
)
from torchskew.engine.waiting import results
from torchskew.errors import AgentError, MachineError
from torchskew.inside import job as jobs
from torchskew.inside.protocol import PROTOCOL, boot_line
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.base import NO_FOLDERS, Channel, Folders

# Importing CUDA wheels from a cold disk took 7 s here; ten at once on a slow disk take long.
READY_SECONDS = 180.0
# Importing torch is work for a processor; more at once would only share it.
WARM_AT_ONCE = 4
# lacks() runs for at most 10 s inside the agent, while other versions may still be importing.
LOAD_SECONDS = 60.0
IMPORT_SECONDS = 120.0


Answer = TypeVar("Answer", Ready, Loaded, Imported)


class Sink(Protocol):
    """Where a rank's events go."""

    def put(self, item: tuple[str, RankEvent]) -> None:
        """Take the event of the rank with that id."""


class Agent:
    """One started version. dead: how it ended, once it has."""

    def __init__(self, channel: Channel, name: str, imports: tuple[str, ...] = ()) -> None:
        """Take over a started channel; `wait_ready` before anything else. imports: modules to import before that."""
        self.channel = channel
        self.name = name
        self.dead: str | None = None
        self._sinks: dict[str, Sink] = {}
        self._lock = threading.Lock()
        self._loads: dict[str, Mapping[str, str]] = {}
        self._load_lock = threading.Lock()
        self._imported = set(imports)
        self._inbox: queue.SimpleQueue[AgentEvent] = queue.SimpleQueue()
        self._ready: Ready | None = None
        self._thread = threading.Thread(target=self._read, name=f"agent {name}", daemon=True)
        channel.send(boot_line(imports))
        self._thread.start()

    def wait_ready(self, seconds: float = READY_SECONDS) -> Ready:
        """Block until torch is imported.

        Raises:
            AgentError: it can't be, or took longer than seconds.
        """
        with self._load_lock:
            if self._ready is None:
                ready = self._expect(Ready, seconds, "importing torch")
                if ready.protocol != PROTOCOL:
                    spoken = f"speaks protocol {ready.protocol}, this torchskew speaks {PROTOCOL}"
                    raise AgentError(f"{self.name}: {spoken}")
                self._ready = ready
            return self._ready

    def load(self, scenario: Scenario) -> Mapping[str, str]:
        """Give the agent a scenario, once; returns what this version lacks: case pattern -> why."""
        with self._load_lock:
            if scenario.name not in self._loads:
                env = dict(self.channel.rank_env)
                fields = {"source": scenario.source, "file": scenario.path, "paths": list(scenario.place.paths)}
                self._send(op="load", scenario=scenario.name, env=env, **fields)
                loaded = self._expect(Loaded, LOAD_SECONDS, f"loading scenario {scenario.name}")
                if loaded.error is not None:
                    raise AgentError(f"{self.name}: scenario {scenario.name} can't be loaded: {loaded.error}")
                self._loads[scenario.name] = loaded.lacks
            return self._loads[scenario.name]

    def import_ahead(self, modules: Iterable[str]) -> None:
        """Import modules once, for every later rank; those that the version lacks are left to the rank that needs them.

        Raises:
            AgentError: the agent is gone.
        """
        with self._load_lock:
            new = tuple(name for name in dict.fromkeys(modules) if name not in self._imported)
            if new:
                self._send(op="import", modules=list(new))
                self._expect(Imported, IMPORT_SECONDS, f"importing {', '.join(new)}")
                self._imported.update(new)

    def run(self, rank_id: str, scenario: str, job: jobs.JobRecord, sink: Sink) -> None:
        """Fork a rank; its events come to the sink as (rank_id, event). The job's settings win over the channel's.

        Raises:
            AgentError: the agent is gone.
        """
        with self._lock:
            if self.dead is None:
                self._sinks[rank_id] = sink
        if self.dead is not None:
            raise AgentError(self.dead)
        job = replace(job, env={**self.channel.rank_env, **job.env})
        self._send(op="run", id=rank_id, scenario=scenario, job=jobs.encode(job))

    def hold(self, rank_id: str) -> None:
        """Ask for the report of a rank as it is now, and leave it alive until the agent ends."""
        self._send(op="hold", id=rank_id)

    def stacks(self, rank_id: str) -> None:
        """Ask a rank to write the stacks of all its threads."""
        self._send(op="stacks", id=rank_id)

    def signal(self, rank_id: str, name: str) -> None:
        """Send KILL, STOP, CONT or TERM to a rank."""
        self._send(op="signal", id=rank_id, signal=name)

    def forget(self, share: str) -> None:
        """Remove the folder that a cell's ranks shared; an agent that is gone has nothing to remove."""
        with suppress(AgentError):
            self._send(op="forget", share=share)

    def forget_made(self) -> None:
        """Remove what ranks made once for the others: the next ones make it anew."""
        with suppress(AgentError):
            self._send(op="forget_made")

    def close(self) -> None:
        """End the version; ranks die with it."""
        self.channel.close()
        self._thread.join(timeout=5.0)

    def give_up(self, why: str) -> None:
        """End an agent that does not do what it is asked: its ranks are lost, and the next cell gets another agent."""
        with self._lock:
            self.dead = self.dead or why
        with suppress(MachineError):  # closed again, and then reported, when it is replaced or the run ends
            self.close()

    def _send(self, **message: object) -> None:
        try:
            self.channel.send(json.dumps(message).encode() + b"\n")
        except MachineError as error:
            raise AgentError(self.dead or f"{self.name}: {error}") from error

    def _expect(self, wanted: type[Answer], seconds: float, doing: str) -> Answer:
        until = time.monotonic() + seconds
        while True:
            try:
                event = self._inbox.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                text = f"{self.name}: no answer in {seconds:.0f} s while {doing}. {self._standard_error()}"
                self.give_up(text)
                raise AgentError(text) from None
            if isinstance(event, Gone):
                self._inbox.put(event)
                raise AgentError(f"{self.dead} (while {doing})")
            if isinstance(event, ImportFailed):
                cause = f"{event.type}: {event.text} at {event.where}"
                raise AgentError(f"{self.name}: torch can't be imported: {cause}")
            if isinstance(event, wanted):
                return event

    def _read(self) -> None:
        why = "it closed its output"
        try:
            for text in self.channel.lines():
                if line := read_line(json.loads(text)):
                    self._dispatch(line)
        except (ValueError, RecursionError) as error:
            why = f"it broke the protocol ({error})"
        except MachineError as error:
            why = str(error)
        with self._lock:
            self.dead = self.dead or f"{self.name}: the agent is gone: {why}. {self._standard_error()}"
            orphans, self._sinks = self._sinks, {}
        gone = Gone(why=self.dead)
        self._inbox.put(gone)
        for rank_id, sink in orphans.items():
            sink.put((rank_id, gone))

    def _dispatch(self, line: Line) -> None:
        if isinstance(line, AgentLine):
            self._inbox.put(line.event)
            return
        with self._lock:
            sink = self._sinks.pop(line.rank_id, None) if line.last else self._sinks.get(line.rank_id)
        if sink is not None:
            sink.put((line.rank_id, line.event))

    def _standard_error(self) -> str:
        tail = self.channel.errors().strip()
        return f"The end of its standard error:\n{tail}" if tail else "It wrote nothing to standard error."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which agent a rank needs. replica: counts its version's ranks in a cell, where each needs an address of its own.

    agent: the scenario's AGENT, empty for the agent that most scenarios share. folders: those of this machine that it
    sees although its runtime would not show them. alone: the cell that has the agent for itself; empty: no cell.
    """

    version: str
    replica: int
    agent: str = ""
    folders: Folders = NO_FOLDERS
    alone: str = ""


def place_of(scenario: Scenario, version: str, replica: int) -> Place:
    """Where a rank of a scenario runs."""
    seen = Folders(data=scenario.place.data, code=scenario.place.code)
    return Place(version=version, replica=replica, agent=scenario.agent, folders=seen)


class Starter(Protocol):
    """What agents need of a runtime; see `Runtime`."""

    @property
    def replicas(self) -> bool:
        """Whether two ranks of one version get two agents."""

    @property
    def sees_files(self) -> bool:
        """Whether ranks see the files of the machine that starts them."""

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> Channel:
        """Start a version and return at once."""


class Agents:
    """The warm agents of a run: started at first need, replaced when they die, closed together."""

    def __init__(self, runtime: Starter) -> None:
        """Start nothing yet."""
        self._runtime = runtime
        self._environments: Mapping[str, Environment] = {}
        self._agents: dict[Place, Agent] = {}
        self._locks: dict[Place, threading.Lock] = {}
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._imports: Mapping[str, tuple[str, ...]] = {}
        self._ahead: tuple[str, ...] = ()
        self._closed = False
        self.replaced = 0

    @property
    def see_files(self) -> bool:
        """Whether ranks see this machine's files, so that they make their data read-only themselves."""
        return self._runtime.sees_files

    def of(self, rank: int) -> Self:
        """The agents of the machine on which this rank of a cell runs: here, those of all its ranks."""
        del rank
        return self

    def provide(self, environments: Mapping[str, Environment]) -> None:
        """Set the environment of each version; agents that run already keep theirs."""
        self._environments = environments

    def get(self, place: Place) -> Agent:
        """The live agent of a place; where the runtime needs no replicas, all of them share one."""
        key = self._key(place)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if self._closed:
                raise MachineError(f"agent of {key.version}: the run has ended")
            agent = self._agents.get(key)
            if agent is not None and agent.dead is not None:
                agent.close()
                self.replaced += 1
                agent = None
            if agent is None:
                channel = self._runtime.start(self._environments[key.version], key.replica, key.folders)
                agent = Agent(channel, f"agent of {key.version}", self._modules(key.agent))
                self._agents[key] = agent
        agent.wait_ready()
        agent.import_ahead(self._modules(key.agent))
        return agent

    def end(self, place: Place) -> None:
        """End the agent of a place that nobody needs any more; `close` reports one that does not end."""
        with self._lock:
            agent = self._agents.get(self._key(place))
        if agent is not None:
            with suppress(MachineError):
                agent.close()
                with self._lock:
                    self._agents.pop(self._key(place), None)

    def _key(self, place: Place) -> Place:
        key = place if self._runtime.replicas else replace(place, replica=0)
        return replace(key, folders=NO_FOLDERS) if self._runtime.sees_files else key

    def import_ahead(self, modules: Iterable[str]) -> None:
        """From now on an agent has imported these before it forks a rank; a running one does it at its next use."""
        self._ahead = tuple(dict.fromkeys((*self._ahead, *modules)))

    def _modules(self, agent: str) -> tuple[str, ...]:
        """What an agent of this kind imports ahead; only those that most scenarios share import what a user names."""
        return tuple(dict.fromkeys((*self._imports.get(agent, ()), *(() if agent else self._ahead))))

    def forget_made(self) -> None:
        """Let no later rank find what an earlier one made for all of a run: a repetition makes it anew."""
        with self._lock:
            agents = tuple(self._agents.values())
        for agent in agents:
            agent.forget_made()

    def warm(self, places: Iterable[Place], imports: Mapping[str, Iterable[str]]) -> None:
        """Start agents side by side before cells need them, as `start` does.

        imports: by kind of agent, modules of torch that take seconds to import and that ranks will need, so that
        agents do it once.
        """
        self._imports = {agent: tuple(dict.fromkeys(names)) for agent, names in imports.items()}
        self.start(places)

    def start(self, places: Iterable[Place]) -> None:
        """Start agents side by side and wait for them; the cells of one that can't start report it."""

        def start(place: Place) -> None:
            with suppress(MachineError):  # the first cell that needs it tries again and records the attempt
                self.get(place)

        pool = ThreadPoolExecutor(WARM_AT_ONCE, "warm")
        try:
            results([pool.submit(start, place) for place in places])
        except BaseException:
            # Ctrl-C: what has not begun must not begin; `close` ends what is importing.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def new_id(self) -> str:
        """An id no other rank of this run has."""
        return str(next(self._ids))

    def close(self) -> None:
        """Close every agent at once; problems are collected and raised together. None can be started any more."""
        self._closed = True
        with self._lock:
            locks = tuple(self._locks.values())
        for lock in locks:  # one that is being started has come to be known once its lock is free
            with lock:
                pass
        problems: list[str] = []

        def close(agent: Agent) -> None:
            try:
                agent.close()
            except MachineError as error:
                problems.append(str(error))

        threads = [threading.Thread(target=close, args=(agent,)) for agent in tuple(self._agents.values())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise MachineError("\n".join(problems))
