"""Strategy `bridged` at planning: where it can't be, where it is proposed, and what a bridge does not cover; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchskew.model.rehearsal import MixedPolicy, RehearsalSpec
from torchskew.releases import bridged, eras
from torchskew.workflows.rehearsal.planned import BridgeProposal, Expect, GroupPrediction, Prediction

_CANT_BIND = ("EADDRINUSE", "Address already in use", "address already in use")


def problems(spec: RehearsalSpec) -> Iterator[str]:
    """Why a spec can't be rehearsed at a bridge; nothing where it can, or where it does not ask for one."""
    if not spec.strategy.bridged:
        return
    if spec.policy is MixedPolicy.REFUSE:
        yield "policy must not be refuse with strategy bridged: at a bridge, mixed groups train."
    for name, torch in ((each.name, each.torch) for each in (spec.old, spec.new)):
        release = eras.release(torch) if torch else None
        if release is not None and not eras.bridgeable(release):
            fix = "Use stop-the-world."
            yield f"strategy bridged needs 1.13 or newer on both sides, got {name}: nothing older was tried. {fix}"


def proposals(spec: RehearsalSpec, predictions: Sequence[Prediction]) -> list[BridgeProposal]:
    """That the refusals which policy `auto` expects of a plan can be avoided, where a bridge can do it."""
    refusing = [each for each in predictions if isinstance(each, GroupPrediction) and each.expect is Expect.REFUSE]
    able = bridged.brought_together(spec.old.torch, spec.new.torch)
    return [BridgeProposal(groups=len(refusing))] if refusing and able else []


def proposal_text(proposal: BridgeProposal) -> str:
    """A proposal, for an operator who reads a plan."""
    groups = "that group" if proposal.groups == 1 else f"those {proposal.groups} groups"
    return f"--strategy bridged is expected to let {groups} train, at a bridge, so that the job need not stop"


def scope(spec: RehearsalSpec) -> str:
    """Until when the job meets at bridges, and what that does not make possible."""
    return f"every start until finalise has a bridge of its own beside rank 0; {uncovered(spec)}"


def uncovered(spec: RehearsalSpec) -> str:
    """What ranks of these releases may not do together although they meet at a bridge."""
    old, new = (str(each.torch or each.name) for each in (spec.old, spec.new))
    return f"not known to be right at a bridge between these releases: {', '.join(bridged.uncovered(old, new))}"


def hosts_a_store(error: str) -> str:
    """The remedy where a script's rank 0 could not host a store because the bridge listens there; else empty."""
    if not any(text in error for text in _CANT_BIND):
        return ""
    what = 'a bridge listens at MASTER_PORT, where this script hosts a store itself. Use init_method="env://"'
    return f"; with strategy bridged {what} (docs/rehearsal.md)."
