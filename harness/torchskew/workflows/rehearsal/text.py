"""A rehearsal's plan and findings as JSON and back, byte for byte the same, and the plan as a tree to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from torchskew.errors import ConfigError
from torchskew.workflows.rehearsal.model import Do, Expect, Rehearsal, Release, Spec, Step

SCHEMA = "1.0"


def dump(plan: Rehearsal) -> str:
    """The plan as JSON text; the same plan gives the same bytes."""
    return json.dumps({"schema": SCHEMA, **_bare(asdict(plan))}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _bare(value: Any) -> Any:
    """A record's fields without those that are not given."""
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items() if one is not None}
    return [_bare(one) for one in value] if isinstance(value, tuple | list) else value


def load(text: str, where: str) -> Rehearsal:
    """The plan that `dump` wrote; ConfigError says what is wrong with another text."""
    try:
        found = json.loads(text)
        major = str(found.pop("schema")).partition(".")[0]
        _check_schema(major)
        spec = _record(Spec, found.pop("spec"), old=_release, new=_release)
        steps = tuple(_record(Step, step, do=Do, expect=Expect) for step in found.pop("steps"))
        plan: Rehearsal = _record(Rehearsal, {**found, "spec": spec, "steps": steps})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{where}: is not a plan of torchskew rehearse: {error}. Write one with --dry-run.") from None
    return plan


def _check_schema(major: str) -> None:
    if major != SCHEMA.partition(".")[0]:
        raise ValueError(f"its schema is {major}, this torchskew reads {SCHEMA}")


def _release(found: Mapping[str, Any]) -> Release:
    return Release(**found)


def _record(kind: type[Any], found: Mapping[str, Any], **makers: Any) -> Any:
    known = {one.name for one in fields(kind)}
    if unknown := sorted(set(found) - known):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    made = {name: makers[name](value) if name in makers else value for name, value in found.items()}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in made.items()})


def sentence(step: Step, spec: Spec) -> str:
    """What a step does, for an operator."""
    nodes = _nodes(step.nodes)
    texts = {
        Do.START: _start(step),
        Do.TRAIN: f"train through step {step.until}",
        Do.FAULT: f"fault at step {step.until}: {step.fault} {nodes} for {step.lasts} s, then heal",
        Do.DRAIN: "drain: ask every rank to take a checkpoint and leave",
        Do.CHANGE: f"replace {nodes}: {_targets(step)}",
        Do.READ: f"{nodes} ({_targets(step)}) reads the newest checkpoint alone",
        Do.PROBE: f"all_reduce over all nodes, hosted by node {step.order[0] if step.order else 0}{_probed(step)}",
        Do.FINALISE: f"finalise: from here on only {spec.new.name} may join",
        Do.FINISH: f"train through step {step.until}, the last one",
    }
    return texts[step.do]


def _nodes(nodes: tuple[int, ...]) -> str:
    return ("node " if len(nodes) == 1 else "nodes ") + ", ".join(str(node) for node in nodes)


def _targets(step: Step) -> str:
    return ", ".join(dict.fromkeys(step.versions[node] for node in step.nodes))


def _start(step: Step) -> str:
    what = {
        Expect.REFUSE: "start the job: every rank is to refuse clearly",
        Expect.EITHER: "start the job: to train, or to refuse clearly on every rank",
    }
    return what.get(step.expect or Expect.TRAIN, "start the job from its last checkpoint")


def _probed(step: Step) -> str:
    late = f"; {_nodes(step.nodes)} comes back with {_targets(step)}" if step.nodes else ""
    return late + (", to be refused" if step.expect is Expect.REFUSE else "")


def tree(plan: Rehearsal, marks: Mapping[int, str] | None = None) -> str:
    """The numbered plan. marks: step -> what to write in front of it, such as an arrow."""
    spec, lines, stage = plan.spec, [], None
    marks = marks or {}
    width = max((len(mark) for mark in marks.values()), default=0)
    lines.append(
        f"{spec.old.name} to {spec.new.name} · {spec.strategy} · {spec.nodes} nodes · {spec.steps} training steps · "
        f"policy {spec.policy} · checkpoints {'+'.join(spec.formats)} · seed {spec.seed} · plan {plan.digest}"
    )
    stages = [step.stage for step in plan.steps]
    ends = [at for at, name in enumerate(stages) if stages[at + 1 : at + 2] != [name]]
    for at, step in enumerate(plan.steps):
        if step.stage != stage:
            stage = step.stage
            last = step.stage == plan.steps[-1].stage
            lines.append(" " * width + ("└── " if last else "├── ") + stage)
        trunk = "    " if step.stage == plan.steps[-1].stage else "│   "
        twig = "└── " if at in ends else "├── "
        mark = marks.get(step.number, "").ljust(width)
        lines.append(f"{mark}{trunk}{twig}{step.number:>3}  {sentence(step, spec)}   [{', '.join(step.versions)}]")
    lines += [f"left out: fault {name}: {why}" for name, why in sorted(plan.unsupported.items())]
    lines += [f"predicted: {note}" for note in plan.notes]
    lines.append(f"{len(plan.steps)} steps, about {plan.estimate:.0f} s once the nodes are up")
    return "\n".join(lines) + "\n"
