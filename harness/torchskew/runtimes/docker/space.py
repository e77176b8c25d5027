"""Disk space for images: promised before one is made, refused with the figures where the disk can't hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torchskew.errors import ProvisionError
from torchskew.model.sizes import readable
from torchskew.runtimes.ownership import cache_folder
from torchskew.runtimes.reservations import EMPTYING, NoSpaceError, Reservations


class ImageSpace:
    """The space on the disk where an engine keeps its images, and on that of our cache; often they are one disk.

    A promise holds until the image is made: an engine does not say how much of it is written.
    """

    def __init__(self, engine: Path | None) -> None:
        """Make nothing yet. engine: the folder of its images; None where this machine doesn't have that."""
        self._engine = engine

    @contextmanager
    def reserved(self, name: str, *, image: int, cache: int = 0) -> Iterator[None]:
        """These bytes until the block ends, for an image and for what is fetched into the cache.

        Raises:
            ProvisionError: less is free and not promised to others.
        """
        with ExitStack() as stack:
            for reservations, folder, wanted in self._disks(image, cache):
                try:
                    stack.enter_context(reservations.reserved(name, wanted))
                except NoSpaceError as error:
                    raise ProvisionError(_refusal(folder, wanted, error)) from error
            yield

    def _disks(self, image: int, cache: int) -> Iterator[tuple[Reservations, Path, int]]:
        """The promises of each disk, a folder on it, and the bytes that it must have."""
        ours = cache_folder()
        ours.mkdir(parents=True, exist_ok=True)
        shared = self._engine is not None and self._engine.stat().st_dev == ours.stat().st_dev
        # Environments of the venv runtime are promised in the same folder.
        yield Reservations(ours), ours, cache + (image if shared else 0)
        if self._engine is not None and not shared:
            yield Reservations(ours / "images", self._engine), self._engine, image


def _refusal(folder: Path, wanted: int, error: NoSpaceError) -> str:
    return (
        f"the disk is full: the image needs about {readable(wanted)}, {error.figures(folder)}. "
        f"Free some: `docker image prune` removes images without a name, {EMPTYING}"
    )
