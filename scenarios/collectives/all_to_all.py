"""all_to_all sends a different part from every rank to every other, and none arrives at the wrong place.

Variant `list` exchanges lists of tensors, `even` one tensor in equal parts, `uneven` one tensor in parts whose lengths
differ by sender and receiver. The element number k that rank s sends to rank r is 100 * s + 10 * r + k, so a part that
went astray shows where it came from. The oracle is that formula. gloo learnt the list form late: a version that
refuses is UNSUPPORTED, in its own words.
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
