"""Faults: one injected event each, with its heal and a probe for both; one class, one file, one row in FAULTS."""

from __future__ import annotations

from torchskew.faults.base import Fault
from torchskew.faults.delay import Delay
from torchskew.faults.kill import Kill
from torchskew.faults.loss import Loss
from torchskew.faults.partition import Partition
from torchskew.faults.pause import Pause
from torchskew.faults.slow import Slow

FAULTS: dict[str, Fault] = {
    "kill": Kill(),
    "pause": Pause(),
    "partition": Partition(),
    "slow": Slow(),
    "loss": Loss(),
    "delay": Delay(),
}


def unsupported(runtime: str) -> dict[str, str]:
    """Fault -> why it can't be injected with this runtime on this machine."""
    whys = {name: fault.available(runtime) for name, fault in FAULTS.items()}
    return {name: why for name, why in whys.items() if why is not None}
