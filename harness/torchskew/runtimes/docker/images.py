"""Provisions images: reuses, pulls, builds or bootstraps one, and notes what it was made from."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torchskew.errors import ConfigError, HarnessError, ProvisionError
from torchskew.model.runtimes import RUNTIMES
from torchskew.model.versions import Environment, Source, SourceKind, Suite, Version
from torchskew.runtimes.base import Progress
from torchskew.runtimes.digest import digest
from torchskew.runtimes.docker import image_facts, lock, pulling, suite_images, tar_stream, wheels
from torchskew.runtimes.docker.catalogue import images_folder, load_suites, suite
from torchskew.runtimes.docker.daemon import ImageDaemon
from torchskew.runtimes.docker.pulling import Say
from torchskew.runtimes.docker.space import ImageSpace

RECIPE = "torchskew.recipe"  # label: digest of everything an image of ours was made from
_FORMAT = "1"  # part of every recipe: raise it when templates or ways change what an image holds
_BEFORE = "built before"
_TORCH = ("python3-torch",)
_PYTHON = ("python3",)
# Unpacking is one core's work and the mirror's patience is finite.
_SLOTS = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidedImage:
    """An image, how it was made, and the digest of what it was made from (of its id when not made here)."""

    image: str
    way: str
    recipe: str = ""


class Images:
    """Finds or makes the image of a version with one engine."""

    def __init__(self, daemon: ImageDaemon, lock_file: Path | None = None) -> None:
        self._daemon = daemon
        self._lock = lock_file or lock.built_path()

    def provide(self, version: Version, progress: Progress) -> Environment:
        """The environment of a version from its first source that images can serve.

        Raises:
            ProvisionError: what failed, why, and the fix.
        """
        ways = {
            SourceKind.IMAGE: self._referenced,
            SourceKind.DEBIAN: self._from_suite,
            SourceKind.PIP: self._from_wheels,
            SourceKind.WHEEL: self._from_wheels,
        }
        source = next((source for source in version.sources if source.kind in ways), None)
        if source is None:
            raise ProvisionError(f"{version.name}: has no source that docker can use. Add pip, debian or image.")

        def say(text: str, done: int = 0, total: int = 0) -> None:
            progress.step(version.name, text, done, total)

        try:
            made = ways[source.kind](source, say)
            facts = self._facts(_name(source), made)
        except HarnessError as error:
            raise ProvisionError(f"{version.name}: {error}") from error
        return Environment(
            version=version.name,
            runtime="docker",
            identity=made.image,
            handle=made.image,
            env=version.env,
            reports=version.reports or facts.torch,
            python=facts.python,
            numpy=facts.packages.get("numpy", ""),
            note=made.way,
        )

    def _referenced(self, source: Source, say: Say) -> ProvidedImage:
        image = self._daemon.local(source.value)
        if image is not None:
            return ProvidedImage(image=image, way="already here")
        return ProvidedImage(image=pulling.pull(self._daemon, source.value, say), way="pulled")

    def _from_suite(self, source: Source, say: Say) -> ProvidedImage:
        return self._debian(suite(source.value), _TORCH, say)

    def _debian(self, of: Suite, packages: Sequence[str], say: Say) -> ProvidedImage:
        """An image of a suite with these packages, reused when the same recipe made it before."""
        template = (images_folder() / "debian.Dockerfile").read_text()
        recipe = digest(_FORMAT, "debian", of.name, *packages)
        tag = f"torchskew/{packages[0]}:{of.name}"

        def make() -> ProvidedImage:
            labels = _labels(recipe, f"debian {of.name} {packages[0]}")
            wanted = suite_images.Wanted(suite=of, packages=tuple(packages), tag=tag, labels=labels, template=template)
            with self._space().reserved(recipe, image=suite_images.least_size(wanted)):
                image, way = suite_images.make(self._daemon, wanted, say)
            return ProvidedImage(image=image, way=way, recipe=recipe)

        return self._once(recipe, make, say)

    def _from_wheels(self, source: Source, say: Say) -> ProvidedImage:
        python = source.python or RUNTIMES["docker"].python
        of = next((each for each in load_suites().values() if each.python == python), None)
        if of is None:
            known = ", ".join(each.python for each in load_suites().values())
            raise ConfigError(f"no Debian suite here has Python {python}. Write python = one of {known}.")
        template = (images_folder() / "pip.Dockerfile").read_text()
        base = self._debian(of, _PYTHON, say)
        recipe = digest(_FORMAT, "pip", base.image, *wheels.inputs(source))

        def make() -> ProvidedImage:
            args = {"BASE": base.image, "PYTHON": of.python}
            with wheels.unpacked(source, of, self._daemon.machine(), say, self._space()) as site:
                say("building the image")
                writer = tar_stream.together(
                    tar_stream.text("Dockerfile", template), tar_stream.folder(site, "site", owned_by_root=True)
                )
                labels, tag = _labels(recipe, f"pip {source.value}"), f"torchskew/{_name(source)}:{recipe[:12]}"
                image = self._daemon.build(tar_stream.streamed(writer), tag, labels, args)
            return ProvidedImage(image=image, way=f"built from wheels on Debian {of.name}", recipe=recipe)

        return self._once(recipe, make, say)

    def _once(self, recipe: str, make: Callable[[], ProvidedImage], say: Say) -> ProvidedImage:
        """The image that the recipe made before, else make it: one process per recipe, two recipes at a time."""
        with lock.held(recipe):
            image = self._daemon.find(f"{RECIPE}={recipe}")
            if image is not None:
                return ProvidedImage(image=image, way=_BEFORE, recipe=recipe)
            say("waiting for a turn")
            with _SLOTS:
                return make()

    def _space(self) -> ImageSpace:
        return ImageSpace(self._daemon.folder())

    def _facts(self, name: str, made: ProvidedImage) -> lock.Entry:
        """What the image reports, asked once for each image."""
        known = lock.read(self._lock).get(name)
        if known is not None and known.image == made.image:
            return known
        seen = image_facts.ask(self._daemon, made.image)
        same = known is not None and made.way == _BEFORE and known.recipe == made.recipe
        entry = lock.Entry(
            image=made.image,
            recipe=made.recipe,
            made=known.made if known and same else made.way,
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            torch=seen.torch,
            git_version=seen.git_version,
            python=seen.python,
            digest=seen.digest,
            packages=seen.packages,
        )
        lock.add(self._lock, name, entry)
        return entry


def _name(source: Source) -> str:
    """A name for tags and lock entries, like `debian-trixie`; other inputs give another name."""
    word = re.sub(r"[^a-z0-9]+", "-", f"{source.kind}-{source.value}".lower()).strip("-")[-50:].lstrip("-")
    more = [part for part in (source.python, source.index, *source.requires) if part and source.kind.installed]
    return f"{word}-{digest(*more)[:8]}" if more else word


def _labels(recipe: str, content: str) -> dict[str, str]:
    return {RECIPE: recipe, "torchskew.content": content}
