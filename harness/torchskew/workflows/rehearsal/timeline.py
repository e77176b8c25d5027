"""The timeline as SVG: a lane per node with versions, steps, faults and restarts; the loss with its controls; pure."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from torchskew.workflows.rehearsal.history import training_history
from torchskew.workflows.rehearsal.observed import (
    PLANNED_ENDS,
    ControlKind,
    EndKind,
    FaultEvidence,
    Generation,
    Line,
    Observation,
    State,
)
from torchskew.workflows.rehearsal.planned import InjectFault

OLD, NEW = "#3d6ea5", "#c2681c"
BAD, REFUSED, FAULT, TICK = "#b3261e", "#7a5195", "#d9a400", "#ffffff"
WIDTH, LEFT, LANE, GAP = 1100, 70, 30, 8


def lanes(observation: Observation) -> str:
    """A lane per node over time."""
    span = _Span(observation)
    names = range(observation.plan.spec.nodes)
    height = 24 + len(names) * (LANE + GAP) + 26
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline of the nodes">']
    parts += _axis(span, height)
    for node in names:
        top = 24 + node * (LANE + GAP)
        parts.append(f'<text x="{LEFT - 8}" y="{top + 20}" text-anchor="end">node {node}</text>')
        parts.append(f'<rect class="idle" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{LANE}"/>')
        for generation in observation.generations:
            parts += _bar(generation, node, top, span, observation)
    parts += _faults(observation, span)
    parts += _restarts(observation, span, height)
    return "\n".join([*parts, "</svg>"])


class _Span:
    """Wall clock seconds to pixels."""

    def __init__(self, observation: Observation) -> None:
        times = [result.begun for result in observation.results] + [
            generation.ended for generation in observation.generations
        ]
        self.first = min(times, default=0.0)
        self.last = max(times, default=1.0)

    def x(self, at: float) -> float:
        """Pixels of an instant."""
        share = float((at - self.first) / max(0.001, self.last - self.first))
        return LEFT + max(0.0, min(1.0, share)) * (WIDTH - LEFT - 4)


def _axis(span: _Span, height: int) -> list[str]:
    total = span.last - span.first
    every = _round(total / 10)
    marks = [every * count for count in range(int(total / every) + 1)]
    parts = []
    for at in marks:
        x = f"{span.x(span.first + at):.1f}"
        anchor = "end" if float(x) > WIDTH - 20 else "middle"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="18" y2="{height - 18}"/>')
        parts.append(f'<text x="{x}" y="{height - 4}" text-anchor="{anchor}">{at:g} s</text>')
    return parts


def _round(value: float) -> float:
    """The next of 1, 2, 5, 10, … above a value."""
    base: float = 10 ** math.floor(math.log10(max(value, 0.01)))
    return next(base * factor for factor in (1, 2, 5, 10) if base * factor >= value)


def _bar(generation: Generation, node: int, top: int, span: _Span, observation: Observation) -> list[str]:
    """A generation on one node: its version's colour, an outline where it ended badly, a tick a step."""
    version = generation.versions[node]
    colour = OLD if version == observation.plan.spec.old.name else NEW
    left, right = span.x(generation.begun), span.x(generation.ended)
    kind = generation.end.kind
    colour_of_end = REFUSED if kind is EndKind.REFUSED else BAD
    edge = "" if kind in PLANNED_ENDS else f' stroke="{colour_of_end}" stroke-width="3"'
    outcome = generation.outcomes[node] if node < len(generation.outcomes) else ""
    title = _escape(f"generation {generation.number}, node {node}: {version}, {outcome}; {generation.end}")
    box = f'x="{left:.1f}" y="{top}" width="{max(2.0, right - left):.1f}" height="{LANE}"'
    parts = [f'<rect {box} fill="{colour}"{edge}><title>{title}</title></rect>']
    for line in generation.lines:
        if line.rank == node:
            x = span.x(line.at)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 6}" y2="{top + LANE - 6}" stroke="{TICK}"/>')
    return parts


def _faults(observation: Observation, span: _Span) -> list[str]:
    parts = []
    results = {result.number: result for result in observation.results}
    for step in observation.plan.steps:
        result, fault = results.get(step.number), step.action
        if not isinstance(fault, InjectFault) or result is None or result.state is State.SKIPPED:
            continue
        observed = result.evidence.observed if isinstance(result.evidence, FaultEvidence) else None
        left, right = span.x(result.begun), span.x(result.begun + result.seconds)
        title = _escape(f"{fault.fault} at step {fault.at}: {observed or 'not observed'}")
        for name, node in fault.hits(observation.plan.spec.nodes):
            top = 24 + node * (LANE + GAP)
            parts.append(
                f'<rect x="{left:.1f}" y="{top - 3}" width="{max(3.0, right - left):.1f}" height="{LANE + 6}" '
                f'fill="none" stroke="{FAULT}" stroke-width="3"><title>{title}</title></rect>'
                f'<text x="{left:.1f}" y="{top - 5}" class="fault">{_escape(name)}</text>'
            )
    return parts


def _restarts(observation: Observation, span: _Span, height: int) -> list[str]:
    return [
        f'<line class="restart" x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{height - 20}">'
        f"<title>start of generation {generation.number}</title></line>"
        for generation in observation.generations
        for x in (span.x(generation.begun),)
    ]


def curve(observation: Observation) -> str:
    """The loss over training steps: the rehearsal's surviving steps and the controls, mean over ranks."""
    ours = _mean(
        line for step in training_history(observation.generations).steps.values() for line in step.lines.values()
    )
    series: list[tuple[str, str, Mapping[int, float]]] = []
    for control in observation.controls:
        if control.name is not ControlKind.OLD:
            colour = OLD if control.version == observation.plan.spec.old.name else NEW
            series.append((f"control {control.name}", colour, _mean(control.generation.lines)))
    series.append(("rehearsal", "#1b1b1b", ours))
    values = [value for _, _, points in series for value in points.values()]
    if not values:
        return "<p>No training step was logged.</p>"
    return _plot(series, (min(values), max(values)), observation.plan.spec.training_steps)


def _mean(lines: Iterable[Line]) -> dict[int, float]:
    losses: dict[int, list[float]] = {}
    for line in lines:
        if math.isfinite(line.loss):
            losses.setdefault(line.step, []).append(line.loss)
    return {step: sum(values) / len(values) for step, values in sorted(losses.items())}


def _plot(series: Sequence[tuple[str, str, Mapping[int, float]]], ends: tuple[float, float], steps: int) -> str:
    height, (low, high) = 260, ends
    scale = (height - 50) / max(1e-12, high - low)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="loss over training steps">']
    for value in (low, (low + high) / 2, high):
        y = height - 30 - (value - low) * scale
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for index, (name, colour, points) in enumerate(series):
        path = " ".join(
            f"{LEFT + (WIDTH - LEFT - 10) * step / steps:.1f},{height - 30 - (value - low) * scale:.1f}"
            for step, value in points.items()
        )
        wide = "1.5" if name == "rehearsal" else "5"
        faint = "1" if name == "rehearsal" else "0.45"
        style = f'fill="none" stroke="{colour}" stroke-width="{wide}" opacity="{faint}"'
        parts.append(f'<polyline points="{path}" {style}/>')
        x = LEFT + 10 + index * 200
        parts.append(f'<rect x="{x}" y="6" width="14" height="6" fill="{colour}" opacity="{faint}"/>')
        parts.append(f'<text x="{x + 20}" y="13">{_escape(name)}</text>')
    parts.append(f'<text x="{WIDTH - 10}" y="{height - 8}" text-anchor="end">training step {steps}</text>')
    return "\n".join([*parts, "</svg>"])


def _escape(value: object) -> str:
    return html.escape(str(value), quote=True)
