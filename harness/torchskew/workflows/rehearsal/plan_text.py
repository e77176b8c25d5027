"""A plan as a person reads it: a sentence for each step, the numbered tree, and what was predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torchskew.model.rehearsal import RehearsalSpec
from torchskew.workflows.rehearsal import bridging
from torchskew.workflows.rehearsal.planned import (
    CLOCK_SKEW,
    BridgeProposal,
    Collective,
    Drain,
    Expect,
    Finalise,
    Finish,
    GroupPrediction,
    InjectFault,
    Prediction,
    ReadCheckpoint,
    RehearsalPlan,
    Rejoin,
    ReplaceNodes,
    StartJob,
    Step,
    Train,
    at_a_bridge,
)

PREDICTED = {
    Expect.TRAIN: "the table of eras expects this group to train",
    Expect.REFUSE: "the table of eras says that this group can't form: the guard must refuse it",
    Expect.EITHER: "the table of eras does not know one of these releases: training and a clear refusal are both right",
}


def sentence(step: Step, spec: RehearsalSpec) -> str:  # noqa: C901, PLR0911 - one case per kind of step
    """What a step does, for an operator."""
    match step.action:
        case StartJob(expect=expect):
            return _start(expect, " at a bridge" if at_a_bridge(step, spec) else "")
        case Train(until=until):
            return f"train through step {until}"
        case InjectFault() as fault:
            hits = " and ".join(f"{name} node {node}" for name, node in fault.hits(spec.nodes))
            return f"fault at step {fault.at}: {hits} for {fault.seconds} s, then heal"
        case Drain():
            return "drain: ask every rank to take a checkpoint and leave"
        case ReplaceNodes(nodes=nodes):
            return f"replace {node_list(nodes)}: {_targets(step)}"
        case ReadCheckpoint(node=node):
            return f"node {node} ({_targets(step)}) reads the newest checkpoint alone"
        case Collective(order=order, expect=expect):
            refused = ", must be refused" if expect is Expect.REFUSE else ""
            host = "at a bridge, rank 0 on" if at_a_bridge(step, spec) else "hosted by"
            return f"all_reduce over all nodes, {host} node {order[0]}{refused}"
        case Finalise():
            return f"finalise: from here on only {spec.new.name} may join"
        case Rejoin(node=node):
            return f"all_reduce with node {node} back on {_targets(step)}, must be refused"
        case Finish(until=until):
            return f"train through step {until}, the last one"


def _start(expect: Expect, where: str) -> str:
    texts = {
        Expect.TRAIN: f"start the job{where} from its last checkpoint",
        Expect.REFUSE: "start the job: every rank must refuse clearly",
        Expect.EITHER: f"start the job{where}: it trains, or every rank refuses clearly",
    }
    return texts[expect]


def node_list(nodes: Iterable[int]) -> str:
    """`node 2` or `nodes 0, 1`."""
    numbers = [str(node) for node in nodes]
    return ("node " if len(numbers) == 1 else "nodes ") + ", ".join(numbers)


def group_text(versions: Sequence[str]) -> str:
    """`3 on 2.6.0, 1 on 2.14.1`."""
    return ", ".join(f"{count} on {name}" for name, count in Counter(versions).items())


def _targets(step: Step) -> str:
    return ", ".join(dict.fromkeys(step.versions[node] for node in step.nodes))


def prediction_text(prediction: Prediction) -> str:
    """What was predicted, for an operator."""
    if isinstance(prediction, GroupPrediction):
        return f"{prediction.stage} ({', '.join(prediction.versions)}): {PREDICTED[prediction.expect]}"
    if isinstance(prediction, BridgeProposal):
        return bridging.proposal_text(prediction)
    reader, writer = prediction.reader, prediction.writer
    return f"{reader} can't read what {writer} writes as dcp: rolling back needs a checkpoint that {reader} wrote"


def tree(plan: RehearsalPlan, marks: Mapping[int, str] | None = None) -> str:
    """The numbered plan. marks: step -> what to write in front of it, such as an arrow."""
    marks = marks or {}
    width = max((len(mark) for mark in marks.values()), default=0)
    lines = [headline(plan)]
    for stage in plan.stages:
        last_stage = stage == plan.stages[-1]
        lines.append(" " * width + ("└── " if last_stage else "├── ") + str(stage))
        steps = [step for step in plan.steps if step.stage == stage]
        for step in steps:
            trunk = "    " if last_stage else "│   "
            twig = "└── " if step is steps[-1] else "├── "
            mark = marks.get(step.number, "").ljust(width)
            text = f"{sentence(step, plan.spec)}   [{', '.join(step.versions)}]"
            lines.append(f"{mark}{trunk}{twig}{step.number:>3}  {text}")
    lines += [f"left out: {left_out(name)}: {why}" for name, why in sorted(plan.unsupported.items())]
    if offsets := plan.clock_offsets:
        lines.append("clocks: " + ", ".join(f"node {node} {off:+.1f} s" for node, off in enumerate(offsets)))
    lines += [f"bridge: {bridging.scope(plan.spec)}"] if plan.spec.strategy.bridged else []
    lines += [f"predicted: {prediction_text(prediction)}" for prediction in plan.predictions]
    lines.append(f"{len(plan.steps)} steps, about {plan.estimate:.0f} s once the nodes are up")
    return "\n".join(lines) + "\n"


def left_out(name: str) -> str:
    """What a plan can't do here, in words."""
    return name if name == CLOCK_SKEW else f"fault {name}"


def headline(plan: RehearsalPlan) -> str:
    """The plan in one line."""
    spec = plan.spec
    return (
        f"{spec.old.name} to {spec.new.name} · {spec.strategy} · {spec.nodes} nodes · {spec.training_steps} training "
        f"steps · policy {spec.policy} · checkpoints {'+'.join(spec.formats)} · seed {spec.seed} · plan {plan.digest}"
    )
