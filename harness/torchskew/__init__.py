"""torchskew: run process groups whose ranks use different PyTorch releases, and judge every rank."""

__version__ = "0.2.0"
