"""A run that was interrupted sees the same data and the same dropout in another release.

Rank 0 draws some, saves the generators' states with torch.save and goes on; the next rank restores them and goes on.
`outside`: Python's generator, NumPy's two. `samplers`: RandomSampler, WeightedRandomSampler, SubsetRandomSampler,
random_split and DistributedSampler (which has a seed and an epoch instead of a state). `loader`: the order of a
shuffling DataLoader and what its two workers draw with torch, each from a seed of its own. `dropout`: the mask of
Dropout, and of Dropout in a TransformerEncoderLayer. The oracle is rank 0's own continuation. PyTorch promises equal
numbers within a release only: a difference is an observation about the pair, as in `rng_state`.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("NumPy for `outside`",)
TIERS = ("full",)
WARM = ("torch._dynamo",)
VARIANTS = {"outside": {}, "samplers": {}, "loader": {}, "dropout": {}}
MANY = 50


class Noise:
    """A dataset whose items say their index and what a worker draws for them."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        import torch

        return index, torch.randint(1 << 20, ()).item()


def outside():
    import random

    import numpy as np

    early, modern = np.random.RandomState(3), np.random.Generator(np.random.PCG64())

    def state():
        return [random.getstate(), early.get_state(), modern.bit_generator.state]

    def restore(states):
        random.setstate(states[0])
        early.set_state(states[1])
        modern.bit_generator.state = states[2]

    def draw():
        return {
            "python": [random.random() for _ in range(MANY)] + random.sample(range(99), 9),
            "numpy": early.randn(MANY).tolist() + early.permutation(9).tolist(),
            "numpy generator": modern.normal(size=MANY).tolist() + modern.permutation(9).tolist(),
        }

    return state, restore, draw


def of_torch(draw):
    """The global generator of torch around a function that draws from it."""
    import torch

    return torch.get_rng_state, torch.set_rng_state, draw


def samplers():
    from torch.utils import data

    items = list(range(MANY))

    def spread(rank):
        sampler = data.distributed.DistributedSampler(items, num_replicas=2, rank=rank, seed=5)
        sampler.set_epoch(3)
        return list(sampler)

    def draw():
        return {
            "random": list(data.RandomSampler(items)),
            "replaced": list(data.RandomSampler(items, replacement=True, num_samples=MANY)),
            "weighted": list(data.WeightedRandomSampler([1.0 + k % 5 for k in items], MANY)),
            "subset": list(data.SubsetRandomSampler(items)),
            "split": list(data.random_split(items, [30, MANY - 30])[0].indices),
            "distributed": [spread(0), spread(1)],
        }

    return of_torch(draw)


def loader():
    from torch.utils import data

    def draw():
        loaded = data.DataLoader(Noise(), batch_size=3, shuffle=True, num_workers=2)
        rows = [[part.tolist() for part in batch] for batch in loaded]
        return {"order": [row[0] for row in rows], "workers": [row[1] for row in rows]}

    return of_torch(draw)


def dropout():
    import torch

    def draw():
        layer = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5).train()
        masked = torch.nn.functional.dropout(torch.ones(MANY), 0.5)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(0.5)
            rows = layer(torch.arange(24.0).reshape(3, 2, 4))
        return {"mask": masked.bool().tolist(), "layer": (rows.abs() > 1e-3).reshape(-1).tolist()}

    return of_torch(draw)


def lacks(job):
    from torchskew_kit import refusal

    del job
    why = refusal(outside)
    return {"outside": why} if why else {}


def rank(job):
    import torch

    job.need(job.variant)
    path = job.path("generators.pt")
    state, restore, draw = globals()[job.variant]()
    torch.manual_seed(job.seed + 11 + job.rank)
    if job.rank == 0:
        draw()
        torch.save(state(), path)
    else:
        restore(torch.load(path, weights_only=False))
    return {"cases": draw()}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    first = reports[0]
    if first is None:
        return {}
    cases = first.get("cases") or {}
    if not cases or not all(cases.values()):
        return {0: "rank 0 drew nothing for %s" % (", ".join(name for name in cases if not cases[name]) or "any case")}
    return compare([None, *reports[1:]], world, lambda rank: cases)
