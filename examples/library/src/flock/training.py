"""A training loop over ranks: the same start everywhere, averaged gradients, a state in a file."""

import torch
import torch.distributed as dist

from flock import average, files


class Trainer:
    """Trains a model on what batch(step) gives this rank."""

    def __init__(self, model, batch, rate=0.1):
        """Every rank starts from the parameters of rank 0."""
        self.model, self.batch, self.step = model, batch, 0
        self.optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for parameter in model.parameters():
            dist.broadcast(parameter.data, src=0)

    def train(self, steps):
        """Take this many steps; returns the last loss of this rank."""
        loss = torch.zeros(())
        for _ in range(steps):
            inputs, targets = self.batch(self.step)
            self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(inputs), targets)
            loss.backward()
            average.average_gradients(self.model.parameters())
            self.optimizer.step()
            self.step += 1
        return float(loss)

    def save(self, path):
        """Write the state, on rank 0."""
        if dist.get_rank() == 0:
            files.save(path, self.model, self.step)
        dist.barrier()

    def resume(self, path):
        """Go on from a state."""
        self.step = files.load(path, self.model)
