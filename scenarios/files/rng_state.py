"""A generator's saved state continues with the same numbers in another release.

Rank 0 seeds, draws a few numbers, saves torch.get_rng_state() and then draws a thousand of each kind. The next rank
restores the state and draws the same. The oracle is the digest of rank 0's own draw. PyTorch promises this within a
release only, so a difference is an observation about the pair, reported by kind.
"""

KIND = "handover"
NEEDS = ("torch.save",)
TIERS = ("full",)

MANY = 1000
KINDS = ("random", "rand", "rand float64", "randn", "randn few", "randperm", "bernoulli", "multinomial", "exponential")


def draws():
    """A digest of each kind, in order, from the present state."""
    import torch
    import torchskew_kit as kit

    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    drawn = {
        "random": torch.empty(MANY, dtype=torch.int64).random_(0, 1 << 40),
        "rand": torch.rand(MANY),
        "rand float64": torch.rand(MANY, dtype=torch.float64),
        "randn": torch.randn(MANY),
        "randn few": torch.randn(7),
        "randperm": torch.randperm(MANY),
        "bernoulli": torch.full((MANY,), 0.3).bernoulli_(),
        "multinomial": torch.multinomial(weights, MANY, replacement=True),
        "exponential": torch.empty(MANY).exponential_(),
    }
    return {kind: kit.digest(kit.raw(drawn[kind])) for kind in KINDS}


def rank(job):
    import torch

    path = job.path("state.pt")
    if job.rank == 0:
        torch.manual_seed(job.seed + 20)
        torch.randn(3)
        torch.save(torch.get_rng_state(), path)
    else:
        torch.manual_seed(job.seed + 21)
        torch.set_rng_state(torch.load(path))
    return {"cases": draws()}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    first = reports[0]
    if first is None:
        return {}
    lacking = [kind for kind in KINDS if kind not in first["cases"]]
    if lacking or len(set(first["cases"].values())) < len(KINDS):
        return {0: "rank 0 did not draw %s" % (", ".join(lacking) or "different numbers for each kind")}
    return compare(reports, world, lambda rank: first["cases"])
