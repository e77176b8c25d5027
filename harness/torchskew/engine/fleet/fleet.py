"""A fleet: the machines of a session that are the nodes of a cluster, each with a worker of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import cast

import torchskew
from torchskew.engine.fleet.cluster import Answer, Cluster, Lost, Refused
from torchskew.engine.fleet.messages import Briefing, Greeting, News, NodeFacts, Provided, Relayed
from torchskew.engine.fleet.nodes import Node
from torchskew.engine.fleet.schedule import FleetRun, OfCells
from torchskew.engine.fleet.spread import Spreading, SpreadOrder
from torchskew.engine.machines import Work
from torchskew.errors import ConfigError, MachineError, ProvisionError
from torchskew.model.declared import FleetSpec
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Version
from torchskew.record.code_digest import digest_of_code
from torchskew.runtimes.base import Progress

NEWS_SECONDS = 5.0  # a worker that has no news answers after so long, so that its lease stays
LOOK_SECONDS = 2.0  # between looks at which nodes the cluster has
HIRES = 3  # workers that one node may lose before it is left out
# So long after a node was lost, a new worker there, or another node, may still come.
HOPE_SECONDS = 20.0
SOON = 0.05  # between looks at attempts that threads of the driver make
SPREAD = Node(facts=NodeFacts(id="", name="several nodes"))  # where events of cells that several nodes have are from


class Fleet:
    """Nodes with workers. Only one thread may use it; `close` ends every worker."""

    def __init__(self, cluster: Cluster, spec: FleetSpec, progress: Progress, jobs: int | None = None) -> None:
        """Ask nobody yet. jobs: cells that work at once on each node, over what the declaration says."""
        self._cluster, self._spec, self._progress = cluster, spec, progress
        self._jobs = jobs or spec.jobs
        self._nodes: dict[str, Node] = {}
        self._joining: set[str] = set()
        self._hired: dict[str, int] = {}
        self._runtime = ""
        self._description = ""
        self._versions: dict[str, Version] = {}
        self._identities: dict[str, str] = {}
        self._briefing: Briefing | None = None
        self._asked: set[str] = set()
        self._greetings: dict[str, Greeting] = {}
        self._lost: list[Greeting] = []
        self._unheard: deque[Answer | Refused | Lost] = deque()
        self._looked = self._last_loss = 0.0
        self._spreading = Spreading(cluster.tell, spec.interface)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that have a worker, by id."""
        return self._nodes

    @property
    def _members(self) -> tuple[Node, ...]:
        """Those that have joined."""
        return tuple(node for name, node in self._nodes.items() if name not in self._joining)

    @property
    def hopeful(self) -> bool:
        """Whether another node may still come by itself."""
        return bool(self._joining) or time.monotonic() - self._last_loss < HOPE_SECONDS

    def gather(self) -> None:
        """A worker on every node that answers.

        Raises:
            ConfigError: a node has another torchskew; MachineError: no node has a worker.
        """
        for facts in self._cluster.nodes():
            self._hire(facts)
        for node, value in self._all("greet"):
            self._greetings[node.facts.id] = cast("Greeting", value)
        if problems := [text for node in self._nodes.values() if (text := self._mismatch(node))]:
            raise ConfigError(*problems)
        self._need_nodes()

    def silence(self, runtime: str) -> str | None:
        """Why this runtime can be used on no node; None where one of them can."""
        whys = [greeting.silent.get(runtime) for greeting in self._greetings.values()]
        return None if None in whys else f"on none of {len(whys)} nodes: {whys[0]}"

    def use(self, runtime: str) -> None:
        """Take this runtime, on every node where it answers; the others are left out."""
        self._runtime = runtime
        for node in list(self._nodes.values()):
            if why := self._greetings[node.facts.id].silent.get(runtime):
                self._leave_out(node, f"{runtime} does not answer there: {why}")
        self._need_nodes()
        for node, value in self._all("use", runtime):
            self._description = self._description or str(value)
            self._set_slots(node)
        self._need_nodes()

    def describe(self) -> str:
        """What the first node's runtime says, and how many nodes there are."""
        slots = ", ".join(str(count) for count in sorted({node.slots for node in self._nodes.values()}))
        return f"{len(self._nodes)} nodes of {self._cluster.describe()} with {slots} slots each · {self._description}"

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead owners left on every node."""
        swept = [(node.facts.name, cast("tuple[str, ...]", lines)) for node, lines in self._all("sweep")]
        return tuple(f"{name}: {line}" for name, lines in swept for line in lines)

    def provision(self, versions: Sequence[Version], progress: Progress) -> Mapping[str, Environment | ProvisionError]:
        """Each version on every node that has what it needs; a version that one node has can run."""
        del progress  # what a node downloads is not told while it does
        self._versions.update({version.name: version for version in versions})
        for node in self._members:
            self._cluster.ask(node.facts.id, "provide", self._fitting(node, versions))
        made: dict[str, Environment] = {}
        whys: dict[str, list[str]] = {version.name: [] for version in versions}
        for node, value in self._answers_of("provide"):
            provided = cast("Provided", value)
            made = {**self._accept(node, provided), **made}
            for name, failure in provided.failures.items():
                whys[name].append(f"{node.facts.name}: {failure.reason}")
        nobody = "no node of the fleet has the labels and resources that [fleet.needs] asks for"
        return {name: made.get(name) or ProvisionError("\n".join(whys[name]) or nobody) for name in whys}

    def run(self, work: Work, known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
        """Cells go to the nodes that have their versions; a lost node's cells go to the others."""
        self._briefing = briefing_of(work)
        self._spreading.brief(work.environments, self._briefing.imports)
        for node, _ in self._all("brief", self._briefing):
            self._open(node)
        self._need_nodes()
        try:
            yield from FleetRun(fleet=self, work=work).run(known)
        finally:
            self._spreading.abandon()
            for name in list(self._joining):  # between runs nobody hears of it; the next one hires it again
                self._leave(self._nodes[name], "the run has ended")
                self._hired[name] -= 1

    def start_ahead(self, run_id: str, names: Sequence[str], environments: Mapping[str, Environment]) -> None:
        """A node starts an agent when its first cell needs it."""

    def import_ahead(self, modules: Sequence[str]) -> None:
        """Only what scenarios name is imported ahead."""

    def release(self) -> None:
        """End every agent on every node; what can't be ended is raised together."""
        self._briefing = None
        self._spreading.close()
        problems: list[str] = []
        for node in self._nodes.values():
            node.ready = False
            node.open.clear()
            node.working = 0
        for _ in self._all("release", problems=problems):
            pass
        if self._lost:
            for node in self._members:
                here = self._greetings[node.facts.id].place
                self._cluster.ask(node.facts.id, "bury", tuple(each.owner for each in self._lost if each.place == here))
            for _ in self._answers_of("bury", problems):
                pass
            self._lost.clear()
        if problems:
            raise MachineError("\n".join(problems))

    def close(self) -> None:
        """End every worker, and leave the cluster."""
        self._cluster.close()

    def send(self, node: Node, orders: Sequence[object]) -> None:
        """Let a node begin these cells."""
        self._cluster.tell(node.facts.id, "begin", tuple(orders))

    def spread(self, asked: SpreadOrder) -> None:
        """Let several nodes run a cell."""
        self._spreading.begin(asked)

    def events(self) -> Iterator[tuple[Node, OfCells | Lost]]:
        """What happened on the nodes, within a second; nodes that come meanwhile are made ready.

        A run can be closed at any of these.
        """
        self._look()
        for event in self._spreading.events():
            yield SPREAD, event
        for answer in self._heard():
            node = self._nodes.get(answer.node)
            if node is None:
                continue
            if isinstance(answer, Lost | Refused):
                yield node, self._lose(node, answer)
            elif answer.question == "news":
                self._ask_news(node)
                for news in self._relay(answer):
                    yield node, news
            else:
                self._advance(node, answer)

    def lose(self, node: Node, why: str) -> Lost:
        """A node can't go on: end its worker. A new one is started, unless it has lost several."""
        return self._lose(node, Lost(node=node.facts.id, why=why))

    def _lose(self, node: Node, answer: Lost | Refused) -> Lost:
        self._leave(node, f"node {node.facts.name} was lost: {answer.why.splitlines()[0]}")
        self._last_loss = time.monotonic()
        self._progress.say(f"lost       {node.facts.name}: {answer.why.splitlines()[0]}")
        return Lost(node=answer.node, why=answer.why)

    def _hire(self, facts: NodeFacts) -> None:
        self._hired[facts.id] = self._hired.get(facts.id, 0) + 1
        self._cluster.hire(facts)  # first: a node without a worker can't be asked
        self._nodes[facts.id] = Node(facts=facts)

    def _look(self) -> None:
        """Start workers on nodes that have none."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for facts in self._cluster.nodes():
            if facts.id not in self._nodes and self._hired.get(facts.id, 0) < HIRES:
                self._hire(facts)
                self._joining.add(facts.id)
                self._cluster.ask(facts.id, "greet")

    def _advance(self, node: Node, answer: Answer) -> None:
        """The next step of a node that joins in the middle of a run."""
        if answer.question == "greet":
            self._greetings[node.facts.id] = cast("Greeting", answer.value)
            why = self._greetings[node.facts.id].silent.get(self._runtime) or self._mismatch(node)
            if why:
                self._hired[node.facts.id] = HIRES
                self._leave_out(node, why)
                return
            self._set_slots(node)
            self._cluster.ask(node.facts.id, "use", self._runtime)
        elif answer.question == "use":
            self._cluster.ask(node.facts.id, "provide", self._fitting(node, tuple(self._versions.values())))
        elif answer.question == "provide":
            self._accept(node, cast("Provided", answer.value))
            self._cluster.ask(node.facts.id, "brief", self._briefing)
        elif answer.question == "brief":
            self._progress.say(f"joined     {node.facts.name}")
            self._open(node)

    def _open(self, node: Node) -> None:
        """Cells may come to this node."""
        node.ready = True
        node.open.clear()
        node.working = 0
        self._joining.discard(node.facts.id)
        if node.facts.id not in self._asked:
            self._ask_news(node)

    def _heard(self) -> Iterator[Answer | Refused | Lost]:
        """What came in, within a second. A run can be closed at any of these, and the next one hears the rest."""
        self._unheard.extend(() if self._unheard else self._cluster.answers(SOON if self._spreading.open else 1.0))
        while self._unheard:
            yield self._unheard.popleft()

    def _relay(self, answer: Answer) -> Sequence[OfCells]:
        """Hand on what attempts over several nodes wait for, all of it; returns the other news."""
        news = cast("tuple[News, ...]", answer.value)
        for each in news:
            if isinstance(each, Relayed):
                self._spreading.hear(answer.node, each)
        return [each for each in news if not isinstance(each, Relayed)]

    def _ask_news(self, node: Node) -> None:
        self._cluster.ask(node.facts.id, "news", NEWS_SECONDS)
        self._asked.add(node.facts.id)  # last: whoever was not asked is asked by the next run

    def _all(self, question: str, *given: object, problems: list[str] | None = None) -> Iterator[tuple[Node, object]]:
        """Ask every node the same; each node that answers, in the order of nodes. Others are lost."""
        for node in self._members:
            self._cluster.ask(node.facts.id, question, *given)
        yield from self._answers_of(question, problems)

    def _answers_of(self, question: str, problems: list[str] | None = None) -> Iterator[tuple[Node, object]]:
        """What each node answers to a question that all were asked."""
        open_, answered = {node.facts.id for node in self._members}, dict[str, object]()
        while open_:
            for answer in self._heard():
                node = self._nodes.get(answer.node)
                if node is None:
                    continue
                if not isinstance(answer, Lost) and answer.question != question:
                    self._overheard(answer)
                    continue
                if isinstance(answer, Answer):
                    answered[answer.node] = answer.value
                elif problems is not None and isinstance(answer, Refused):
                    problems.append(f"{node.facts.name}: {answer.why}")
                else:
                    self._lose(node, answer)
                open_.discard(answer.node)
        for name in [name for name in self._nodes if name in answered]:
            yield self._nodes[name], answered[name]

    def _overheard(self, answer: Answer | Refused) -> None:
        """The answer to a question that another one of the node's follows: only news can be late."""
        if answer.question == "news":
            self._asked.discard(answer.node)
            if isinstance(answer, Answer):
                self._relay(answer)

    def _fitting(self, node: Node, versions: Sequence[Version]) -> tuple[Version, ...]:
        """The versions that the declaration lets this node run."""
        return tuple(
            version
            for version in versions
            if all(
                need.met_by(node.facts.labels, node.facts.resources)
                for need in self._spec.needs
                if fnmatchcase(version.name, need.versions)
            )
        )

    def _accept(self, node: Node, provided: Provided) -> Mapping[str, Environment]:
        """What this node may run: an environment that differs from the first one made is not the same version."""
        accepted = {}
        for name, environment in provided.environments.items():
            first = self._identities.setdefault(name, environment.identity)
            if environment.identity == first:
                accepted[name] = environment
            else:
                found = f"{environment.identity[:12]}, not {first[:12]} as elsewhere"
                self._progress.say(f"left out   {node.facts.name}: its {name} is {found}; other nodes run its cells")
        node.versions |= accepted.keys()
        return accepted

    def _mismatch(self, node: Node) -> str:
        """Why this node's torchskew is not the driver's; empty where it is."""
        greeting = self._greetings[node.facts.id]
        if greeting.torchskew != torchskew.__version__:
            return (
                f"{node.facts.name} has torchskew {greeting.torchskew}, this is {torchskew.__version__}. "
                f"Install torchskew[fleet]=={torchskew.__version__} there."
            )
        if greeting.code != digest_of_code():
            return f"{node.facts.name} has other code of torchskew {greeting.torchskew} than this machine. Install it."
        return ""

    def _leave_out(self, node: Node, why: str) -> None:
        self._progress.say(f"left out   {node.facts.name}: {why}")
        self._leave(node, why)

    def _leave(self, node: Node, why: str) -> None:
        """Its worker is ended without being asked; what that leaves, a later worker of its host removes."""
        if greeting := self._greetings.pop(node.facts.id, None):
            self._lost.append(greeting)
        self._cluster.dismiss(node.facts.id)
        # What it said last is not its successor's.
        self._unheard = deque(each for each in self._unheard if each.node != node.facts.id)
        self._spreading.lose(node.facts.id, why)
        self._nodes.pop(node.facts.id, None)
        self._joining.discard(node.facts.id)
        self._asked.discard(node.facts.id)

    def _set_slots(self, node: Node) -> None:
        node.cpus = int(node.facts.resources.get("CPU", 0)) or self._greetings[node.facts.id].cpus
        node.slots = self._jobs or max(4, 3 * node.cpus)

    def _need_nodes(self) -> None:
        if not self._nodes:
            raise MachineError(f"{self._cluster.describe()}: no node can run cells. The lines above say why.")


def briefing_of(work: Work) -> Briefing:
    """What every node needs to know of this work."""
    used = {name: work.scenarios[name] for name in dict.fromkeys(cell.scenario for cell in work.plan.cells)}
    imports: dict[str, list[str]] = {}
    for scenario in used.values():
        imports.setdefault(scenario.agent, []).extend(scenario.warm)
    return Briefing(
        run_id=work.run_id,
        seed=work.plan.seed,
        scenarios={name: scenario.without_judge() for name, scenario in used.items()},
        imports={agent: tuple(dict.fromkeys(names)) for agent, names in imports.items()},
    )
