"""What the ranks of flock's tests and scenarios train: imported inside each rank, from the tests' own folder."""

import json

import torch
from flock.training import Trainer


def start(path):
    """A model that starts where a file of numbers says."""
    model = torch.nn.Linear(2, 1)
    with open(path) as file:
        numbers = json.load(file)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(numbers["weight"]))
        model.bias.copy_(torch.tensor(numbers["bias"]))
    return model


def batch_of(rank):
    """Each rank has other points of the same plane."""

    def batch(step):
        generator = torch.Generator().manual_seed(1000 * rank + step)
        inputs = torch.rand(8, 2, generator=generator)
        return inputs, inputs.sum(dim=1, keepdim=True) * 2 - 1

    return batch


def trained(rank, steps):
    """A trainer that has taken some steps."""
    torch.manual_seed(rank)
    trainer = Trainer(torch.nn.Linear(2, 1), batch_of(rank))
    trainer.train(steps)
    return trainer


def numbers(model):
    """A model's parameters, rounded to what every release agrees on."""
    return [round(float(value), 4) for parameter in model.parameters() for value in parameter.flatten()]
