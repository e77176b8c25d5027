"""State-dict keys of a release as a file, and a scenario that compares a version with such files; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torchskew.errors import ConfigError
from torchskew.model.cells import Variant
from torchskew.model.outcomes import Json, Kind
from torchskew.planning.scenario import Report, Scenario, World

SCHEMA = "1.0"
KEYS = "state_dict_keys"  # the scenario whose report a snapshot is
NAME = "state_dict_snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a release reported. keys: module -> key -> shape and dtype; refused: module -> why it was not built."""

    torch: str
    keys: Mapping[str, Json]
    refused: Mapping[str, Json]

    @property
    def release(self) -> str:
        """The release without what its build adds."""
        return self.torch.split("+", 1)[0]


def to_text(report: Mapping[str, Json]) -> str:
    """A report of the scenario as the text of a file whose lines a person can compare."""
    fields = {"schema": SCHEMA, "torch": report["torch"], "keys": report["built"], "refused": report["refused"]}
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def from_text(text: str, name: str) -> Snapshot:
    """The snapshot in a file's text. name: of the file, for messages.

    Raises:
        ConfigError: it is none, or of another schema.
    """
    fix = "`torchskew gate --candidate pip:torch==X.Y.Z --snapshot FILE` writes one."
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: is not a snapshot of keys: {error}. {fix}") from None
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise ConfigError(f"{name}: has schema {schema!r}, this torchskew reads {SCHEMA!r}. Write it again: {fix}")
    problems = [f"{key} must be {kind.__name__}" for key, kind in (("torch", str), ("keys", dict), ("refused", dict))
                if not isinstance(fields.get(key), kind)]  # fmt: skip
    if problems:
        raise ConfigError(f"{name}: is not a snapshot of keys: {', '.join(problems)}. Write it again: {fix}")
    return Snapshot(torch=fields["torch"], keys=fields["keys"], refused=fields["refused"])


def held_against(scenario: Scenario, snapshots: Sequence[Snapshot]) -> Scenario:
    """The scenario of keys for one version alone, compared with each snapshot; needs no release of them.

    The rank reports its keys as ever; the judge gets the snapshot in the place of another release's report.
    """
    known = {snapshot.release: snapshot for snapshot in snapshots}

    def judge(reports: Sequence[Report], world: World) -> dict[int, str]:
        snapshot = known[str(world.params["snapshot"])]
        report: Report = {"torch": snapshot.torch, "built": dict(snapshot.keys), "refused": dict(snapshot.refused)}
        found = scenario.judge([report, *reports], replace(world, size=2))
        wrong = found if isinstance(found, Mapping) else found.wrong
        return dict.fromkeys([0], "; ".join(wrong.values())) if wrong else {}

    variants = tuple(Variant(name=release, params={"snapshot": release}) for release in known)
    # The content is part of the source, so that a result is reused only for the same keys.
    content = json.dumps({release: [each.torch, each.keys, each.refused] for release, each in known.items()})
    return replace(
        scenario,
        name=NAME,
        promise="Every state-dict key of the release in a snapshot exists in this version.",
        source=f"{scenario.source}\n_SNAPSHOTS = {content!r}\n",
        kind=Kind.SOLO,
        world=(1, 1),
        variants=variants,
        judge=judge,
    )
