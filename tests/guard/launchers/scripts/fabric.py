"""Two ranks of a node by Lightning Fabric, which runs this script again for the second."""

import os

import torch
from lightning.fabric import Fabric
from plain import report

if __name__ == "__main__":
    fabric = Fabric(accelerator="cpu", devices=2, num_nodes=int(os.environ["NODES"]), strategy="ddp")
    fabric.launch()
    total = fabric.all_reduce(torch.ones(1) * (fabric.global_rank + 1), reduce_op="sum")
    report(float(total))
