"""The state that torchrun keeps of a rendezvous is readable by another release.

torchrun's agents meet by writing a pickle of private classes into the store, and each agent reads what another
release wrote. Rank 0 fills a state (a round, two participants, a waiting node, a deadline), pickles it as the c10d
backend does and leaves it in a file. The next rank unpickles it and reads the fields that decide a round. No store
and no agent takes part, so only the format is tested. The oracle is what rank 0 put in.
"""

KIND = "handover"
NEEDS = ("torch.distributed.elastic",)
APPLIES = ">=1.9"
TIERS = ("critical", "full")
WARM = ("torch.distributed.elastic.rendezvous.dynamic_rendezvous",)

ROUND = 3
RANKS = {"one.example": 0, "two.example": 1}
WAITING = "three.example"


def parts():
    """The private classes and how this release makes a node."""
    from torch.distributed.elastic.rendezvous import dynamic_rendezvous as dynamic

    node = dynamic._NodeDesc if hasattr(dynamic, "_NodeDesc") else dynamic._RendezvousNode
    return node, dynamic._RendezvousState


def filled():
    """A state in the middle of a round."""
    import datetime as dt

    node, state_class = parts()
    state = state_class()
    nodes = {name: node(name, 100 + number, 0) for number, name in enumerate([*RANKS, WAITING])}
    state.round, state.complete = ROUND, True
    state.participants = {nodes[name]: rank for name, rank in RANKS.items()}
    state.wait_list = {nodes[WAITING]}
    state.last_heartbeats = {one: dt.datetime(2026, 1, 2, 3, 4, 5) for one in nodes.values()}
    return state


def told(state):
    """The fields that a round is decided by."""
    address = "addr" if any(hasattr(node, "addr") for node in state.participants) else "fqdn"
    return {
        "round": state.round,
        "complete": state.complete,
        "closed": state.closed,
        "participants": {getattr(node, address): rank for node, rank in state.participants.items()},
        "pids": sorted(node.pid for node in state.participants),
        "waiting": [getattr(node, address) for node in state.wait_list],
        "heartbeats": sorted(str(one) for one in state.last_heartbeats.values()),
        "redundant": len(state.redundancy_list) if hasattr(parts()[1](), "redundancy_list") else 0,
    }


def lacks(job):
    from torchskew_kit import refusal

    why = refusal(lambda: told(filled()))
    return {"*": why} if why else {}


def rank(job):
    import pickle

    if job.rank == 0:
        with open(job.path("state"), "wb") as file:
            pickle.dump(filled(), file)
        return {"cases": told(filled())}
    with open(job.path("state"), "rb") as file:
        return {"cases": told(pickle.load(file))}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    right = {
        "round": ROUND,
        "complete": True,
        "closed": False,
        "participants": RANKS,
        "pids": [100, 101],
        "waiting": [WAITING],
        "heartbeats": ["2026-01-02 03:04:05"] * (len(RANKS) + 1),
        "redundant": 0,
    }
    return compare(reports, world, lambda rank: right)
