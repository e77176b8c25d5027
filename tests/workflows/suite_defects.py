"""Seeded defects of a copied release, and the test of PyTorch's own that must find each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """file: below site-packages, which gets `lines` at its end; test: of PyTorch's own, which must find it."""

    name: str
    file: str
    lines: str
    test: str


UNORDERED = Defect(
    name="unordered",
    file="torch/distributed/distributed_c10d.py",
    lines="""
_right_all_gather = all_gather


def all_gather(tensor_list, tensor, group=None, async_op=False):
    _right_all_gather(tensor_list, tensor, group)
    for place, value in zip(tensor_list, [one.clone() for one in reversed(tensor_list)]):
        place.copy_(value)
""",
    test="test_all_gather",
)
HASTY = Defect(
    name="hasty",
    file="torch/distributed/distributed_c10d.py",
    lines="""
def barrier(*arguments, **more):
    return None
""",
    test="test_barrier",
)
FORGETFUL = Defect(
    name="forgetful",
    file="torch/nn/parallel/distributed.py",
    lines="""
_right_init = DistributedDataParallel.__init__


def _forgetful_init(self, *arguments, **more):
    _right_init(self, *arguments, **more)

    def forget(state, bucket):
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future if bucket.index() == 0 else default_hooks.allreduce_hook(None, bucket)

    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    self.register_comm_hook(None, forget)


DistributedDataParallel.__init__ = _forgetful_init
""",
    test="test_DistributedDataParallelCPU",
)
DEFECTS = (UNORDERED, HASTY, FORGETFUL)
