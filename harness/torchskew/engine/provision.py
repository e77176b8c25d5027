"""Provision: every version's environment, several at once; what can't be made is an answer, not an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from torchskew.errors import HarnessError, ProvisionError
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.base import Progress, Runtime

WORKERS = 4  # more would only share the same network and disk


def provision_all(
    runtime: Runtime, versions: Sequence[Version], progress: Progress, workers: int = WORKERS
) -> Mapping[str, Environment | ProvisionError]:
    """Name -> environment, or the error that says what, why and the fix; in the order of `versions`."""

    def provision(version: Version) -> Environment | ProvisionError:
        try:
            return runtime.provision(version, progress)
        except ProvisionError as error:
            return error
        except HarnessError as error:
            return ProvisionError(f'versions."{version.name}": {error}')

    if not versions:
        return {}
    pool = ThreadPoolExecutor(min(workers, len(versions)), "provision")
    try:
        outcomes = list(pool.map(provision, versions))
    except BaseException:
        # Ctrl-C: what has not begun must not begin.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return dict(zip((version.name for version in versions), outcomes, strict=True))
