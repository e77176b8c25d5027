"""Two ranks of a node by Lightning's Trainer, which runs this script again for the second."""

import os

import torch
from lightning.pytorch import LightningModule, Trainer
from plain import report


class Model(LightningModule):
    """A line."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        """One step, after which each rank says that it trained."""
        total = torch.ones(1) * (self.global_rank + 1)
        torch.distributed.all_reduce(total)
        report(float(total))
        return self.line(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The plainest."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=2, num_nodes=int(os.environ["NODES"]), strategy="ddp", max_steps=1,
                      max_epochs=1, **quiet)  # fmt: skip
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(16, 1)))
