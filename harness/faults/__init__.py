"""Faults: one injected event each, with its heal and a probe for both; one class, one file, one row in FAULTS."""

from __future__ import annotations

from harness.faults.base import Fault
from harness.faults.delay import Delay
from harness.faults.kill import Kill
from harness.faults.loss import Loss
from harness.faults.partition import Partition
from harness.faults.pause import Pause
from harness.faults.slow import Slow

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
