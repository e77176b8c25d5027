"""all_to_all delivers a different part from every rank to every other rank.

Variant `list` exchanges lists of tensors, `even` one tensor in equal parts, and `uneven` one tensor in parts whose
lengths depend on sender and receiver. Element k that rank s sends to rank r is 100 * s + 10 * r + k, so a
misdelivered part shows its origin. The oracle is that formula. gloo gained the list form late: a version that refuses
it is UNSUPPORTED, with its own text.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("full",)
FORMS = ("list", "even", "uneven")
VARIANTS = {form: {"params": {"form": form}} for form in FORMS}


def part(form, sender, receiver):
    """What one rank sends to another."""
    length = 1 + (sender + 2 * receiver) % 3 if form == "uneven" else 2
    return [100 * sender + 10 * receiver + k for k in range(length)]


def exchanged(form, rank, size):
    """What one rank got, in the order of the senders."""
    import torch
    import torch.distributed as dist

    sent = [part(form, rank, other) for other in range(size)]
    lengths = [len(part(form, other, rank)) for other in range(size)]
    if form == "list":
        out = [torch.full((length,), -1) for length in lengths]
        dist.all_to_all(out, [torch.tensor(one) for one in sent])
        return torch.cat(out).tolist()
    out = torch.full((sum(lengths),), -1)
    splits = {"output_split_sizes": lengths, "input_split_sizes": [len(one) for one in sent]}
    dist.all_to_all_single(
        out, torch.tensor([one for given in sent for one in given]), **(splits if form == "uneven" else {})
    )
    return out.tolist()


def lacks(job):
    from torchskew_kit import refusal

    job.rendezvous()
    found = {form: refusal(lambda form=form: exchanged(form, 0, 1)) for form in FORMS}
    return {form: why for form, why in found.items() if why}


def rank(job):
    job.need(job.variant)
    job.rendezvous()
    return {"cases": {job.variant: exchanged(job.variant, job.rank, job.world_size)}}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    form = world.params["form"]

    def expected(rank):
        return {form: [one for sender in range(world.size) for one in part(form, sender, rank)]}

    return compare(reports, world, expected)
