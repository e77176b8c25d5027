"""Provision: every version's environment, several at once; what can't be made is an answer, not an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from torchskew.engine.waiting import results
from torchskew.errors import HarnessError, ProvisionError
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.base import Progress, Runtime

WORKERS = 4  # more would only share the same network and disk


class _UntilInterrupted:
    """A progress that ends whoever reports to it, once the run is interrupted.

    Whoever makes an environment reports twice a second at least, and before each step: what a worker has under way, or
    was about to begin after its turn came, ends there. Python waits for its threads, so else the run would go on
    building for minutes after it said that it was interrupted.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.interrupted = False

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        self._go_on()
        self._progress.step(version, text, done, total)

    def say(self, text: str) -> None:
        self._go_on()
        self._progress.say(text)

    def _go_on(self) -> None:
        if self.interrupted:
            raise ProvisionError("the run was interrupted")


def provision_all(
    runtime: Runtime, versions: Sequence[Version], progress: Progress, workers: int = WORKERS
) -> Mapping[str, Environment | ProvisionError]:
    """Name -> environment, or the error that says what, why and the fix; in the order of `versions`."""
    until = _UntilInterrupted(progress)

    def provision(version: Version) -> Environment | ProvisionError:
        try:
            return runtime.provision(version, until)
        except ProvisionError as error:
            return error
        except HarnessError as error:
            return ProvisionError(f'versions."{version.name}": {error}')

    if not versions:
        return {}
    pool = ThreadPoolExecutor(min(workers, len(versions)), "provision")
    try:
        outcomes = results([pool.submit(provision, version) for version in versions])
    except BaseException:
        # Ctrl-C: what has not begun must not begin, and what has must end.
        until.interrupted = True
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return dict(zip((version.name for version in versions), outcomes, strict=True))
