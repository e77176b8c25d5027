"""The mean of every rank's gradients, in buckets, so that small parameters share a message."""

import torch
import torch.distributed as dist

BUCKET = 1 << 16  # elements of one message
# Messages by size, used again and never freed. Up to 2.6, destroy_process_group deadlocks with a worker of gloo that
# frees the last message, which it may hold for a moment after all_reduce has returned.
_messages = {}


def average_gradients(parameters, group=None):
    """Replace each parameter's gradient by its mean over the group."""
    size = dist.get_world_size(group)
    bucket, count = [], 0
    for parameter in parameters:
        if parameter.grad is not None:
            bucket.append(parameter.grad)
            count += parameter.grad.numel()
        if count >= BUCKET:
            _average(bucket, size, group)
            bucket, count = [], 0
    if bucket:
        _average(bucket, size, group)


def _average(gradients, size, group):
    count = sum(gradient.numel() for gradient in gradients)
    message = _messages.setdefault((count, gradients[0].dtype), gradients[0].new_empty(count))
    torch.cat([gradient.reshape(-1) for gradient in gradients], out=message)
    dist.all_reduce(message, group=group)
    message /= size
    for gradient, part in zip(gradients, message.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))
