"""What provisioning asks of a Docker daemon: find, pull, import, build and inspect images."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchskew.runtimes.docker.connection import ENVIRON, UNPRIVILEGED, DockerConnection
from torchskew.runtimes.docker.daemon import DaemonError, Report, is_transient

_ASK_SECONDS = 120


class ImageApi(DockerConnection):
    """The `ImageDaemon` of a real Docker daemon."""

    def find(self, label: str) -> str | None:
        """Id of the newest image that carries `name=value`, or None."""
        with self.asked("list images") as api:
            images = api.images(filters={"label": [label]})
        newest = max(images, key=lambda image: image["Created"], default=None)
        return str(newest["Id"]) if newest else None

    def local(self, reference: str) -> str | None:
        """Id of an image that the engine has already, or None."""
        with self.asked(f"look for {reference}") as api:
            try:
                return str(api.inspect_image(reference)["Id"])
            except self.connected().refusal as error:
                if getattr(error, "status_code", None) == 404:
                    return None
                raise

    def pull(self, reference: str, report: Report) -> str:
        """Id of an image fetched from its registry."""
        layers: dict[str, tuple[int, int]] = {}
        # Without a tag docker-py would ask for every tag that the registry has.
        named = reference if "@" in reference or ":" in reference.rpartition("/")[2] else f"{reference}:latest"
        with self.asked(f"pull {reference}") as api:
            for event in _checked(api.pull(named, stream=True, decode=True)):
                detail = event.get("progressDetail") or {}
                if event.get("status") == "Downloading" and detail.get("total"):
                    layers[event["id"]] = (detail["current"], detail["total"])
                    done, total = (sum(column) for column in zip(*layers.values(), strict=True))
                    report(f"pulling {reference}", done, total)
            return str(api.inspect_image(named)["Id"])

    def load_root(self, tar: Iterable[bytes], tag: str, labels: Mapping[str, str]) -> str:
        """Id of an image made from the tar of a root file system."""
        repository, _, name = tag.rpartition(":")
        changes = [f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()]
        with self.asked(f"import {tag}") as api:
            answer = api.import_image_from_data(tar, repository=repository, tag=name, changes=changes)
            for _ in _checked(json.loads(line) for line in answer.splitlines() if line.strip()):
                pass
            return str(api.inspect_image(tag)["Id"])

    def build(self, context: Iterable[bytes], tag: str, labels: Mapping[str, str], args: Mapping[str, str]) -> str:
        """Id of an image built from a tar with a Dockerfile in it; the host's network is the build's."""
        with self.asked(f"build {tag}") as api:
            events = api.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                labels=dict(labels),
                buildargs=dict(args),
                network_mode="host",
                rm=True,
                forcerm=True,
                nocache=True,
                decode=True,
            )
            try:
                for _ in _checked(events):
                    pass
            finally:
                self._forget_stages(api, args.get("OWNER"))
            return str(api.inspect_image(tag)["Id"])

    def ask(self, image: str, command: Sequence[str]) -> str:
        """Standard output of one command in a container without network; at most 120 s."""
        with self.asked("run a container") as api:
            settings = api.create_host_config(
                network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges"], read_only=True,
                tmpfs={"/tmp": ""}, log_config={"Type": "json-file"},  # noqa: S108 - inside the container
            )  # fmt: skip
            container = api.create_container(
                image, list(command), entrypoint=[], user=UNPRIVILEGED, host_config=settings, environment=ENVIRON
            )
            try:
                api.start(container)
                api.wait(container, timeout=_ASK_SECONDS)
                return str(api.logs(container, stdout=True, stderr=False).decode(errors="replace"))
            finally:
                api.remove_container(container, force=True)

    def machine(self) -> str:
        """The engine's architecture, as `x86_64`."""
        return self.engine().machine

    def folder(self) -> Path | None:
        """Where the engine keeps images, None where that is not a folder of this machine."""
        if not self.url.startswith("unix://"):
            return None
        with self.asked("say where it keeps images") as api:
            folder = Path(api.info()["DockerRootDir"])
        return folder if folder.is_dir() else None

    def made_here(self, label: str) -> list[tuple[str, str]]:
        """(id, name) of every image with that label, those built on others first."""
        with self.asked("list images") as api:
            images = api.images(filters={"label": [label]})
        images.sort(key=lambda image: image["Created"], reverse=True)
        return [(image["Id"], (image["RepoTags"] or [image["Id"][7:19]])[0]) for image in images]

    def remove_image(self, image: str) -> None:
        """Remove an image that no container uses."""
        with self.asked("remove an image", missing=(404,)) as api:
            api.remove_image(image)

    def _forget_stages(self, api: Any, owner: str | None) -> None:
        """Remove the layers of our build that the image does not need and that may hold the mirror's address."""
        if owner:
            for image in api.images(filters={"label": [f"torchskew.owner={owner}"], "dangling": True}):
                api.remove_image(image["Id"])


def _checked(events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The events, until one is an error; the last words before it say more than the error itself."""
    words: deque[str] = deque(maxlen=6)
    for event in events:
        words.extend(line.strip() for line in str(event.get("stream", "")).splitlines() if line.strip())
        if "error" in event:
            text = str(event["error"]).rstrip(".")
            last = [word for word in words if word.startswith(("E:", "ERROR", "error"))] or list(words)[-1:]
            raise DaemonError("; ".join([text, *last]), transient=is_transient(text))
        yield event
