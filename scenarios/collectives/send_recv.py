"""Point-to-point messages arrive complete, in order and under their own tag.

Every rank sends to its right neighbour and receives from its left one, then the other way round. `blocking`: send and
recv, even ranks send first. `nonblocking`: isend and irecv, then wait. `batch`: batch_isend_irecv. `tags`: three
messages posted under tags 7, 8 and 9 and received in the order 9, 7, 8. `any_source`: rank 0 receives from any rank
and must learn which one it was. Oracle: a message is [sender, receiver, number], so every mix-up identifies itself.
"""

KIND = "group"
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo",)
TIERS = ("critical", "full")
WAYS = ("blocking", "nonblocking", "batch", "tags", "any_source")
VARIANTS = {way: {"params": {"way": way}} for way in WAYS}

TAGS = (7, 8, 9)
RECEIVED = (9, 7, 8)


def lacks(job):
    import torch.distributed as dist

    if not hasattr(dist, "batch_isend_irecv"):
        return {"batch": "torch.distributed has no batch_isend_irecv"}
    return {}


def ring(rank, size):
    """(receiver, sender) of both directions round the ring."""
    return [((rank + step) % size, (rank - step) % size) for step in (1, -1)]


def blocking(job, message, empty):
    import torch.distributed as dist

    got = []
    for number, (to, source) in enumerate(ring(job.rank, job.world_size)):
        buffer = empty()
        # An odd ring has two neighbours that both start with send: gloo keeps a small message in its buffer.
        steps = [lambda: dist.send(message(to, number), to), lambda: dist.recv(buffer, source)]
        for step in steps if job.rank % 2 == 0 else reversed(steps):
            step()
        got.append(buffer.tolist())
    return got


def nonblocking(job, message, empty):
    import torch.distributed as dist

    got = []
    for number, (to, source) in enumerate(ring(job.rank, job.world_size)):
        buffer, sent = empty(), message(to, number)
        for work in (dist.isend(sent, to), dist.irecv(buffer, source)):
            work.wait()
        got.append(buffer.tolist())
    return got


def batch(job, message, empty):
    import torch.distributed as dist

    got = []
    for number, (to, source) in enumerate(ring(job.rank, job.world_size)):
        buffer = empty()
        ops = [dist.P2POp(dist.isend, message(to, number), to), dist.P2POp(dist.irecv, buffer, source)]
        for work in dist.batch_isend_irecv(ops):
            work.wait()
        got.append(buffer.tolist())
    return got


def tags(job, message, empty):
    import torch.distributed as dist

    to, source = ring(job.rank, job.world_size)[0]
    messages = [message(to, tag) for tag in TAGS]
    sent = [dist.isend(one, to, tag=tag) for one, tag in zip(messages, TAGS)]
    got = []
    for tag in RECEIVED:
        buffer = empty()
        dist.recv(buffer, source, tag=tag)
        got.append(buffer.tolist())
    for work in sent:
        work.wait()
    return got


def any_source(job, message, empty):
    import torch.distributed as dist

    if job.rank:
        dist.send(message(0, 0), 0)
        return []
    got = []
    for _ in range(job.world_size - 1):
        buffer = empty()
        got.append([dist.recv(buffer), buffer.tolist()])
    return sorted(got)


def rank(job):
    import torch

    job.need(job.variant)
    job.rendezvous()
    got = globals()[job.variant](
        job, lambda to, number: torch.tensor([job.rank, to, number]), lambda: torch.full((3,), -1)
    )
    return {"cases": {job.variant: got}}


def right(way, rank, size):
    """What a rank has to receive."""
    (_, left), (_, other) = ring(rank, size)
    if way == "tags":
        return [[left, rank, tag] for tag in RECEIVED]
    if way == "any_source":
        return [] if rank else [[sender, [sender, 0, 0]] for sender in range(1, size)]
    return [[left, rank, 0], [other, rank, 1]]


def judge(reports, world):
    from torchskew.judging.oracle import compare

    way = world.params["way"]
    return compare(reports, world, lambda rank: {way: right(way, rank, world.size)})
