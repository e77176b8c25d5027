"""What a screen reader is told of a page: the accessibility tree of a real Chromium, over its DevTools pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.conftest import browser
from tests.patience import PATIENCE, happens

CONTROLS = frozenset({"button", "link", "combobox", "textbox", "searchbox", "checkbox", "DisclosureTriangle", "option"})
PARTS = frozenset({"banner", "navigation", "main", "region", "complementary", "contentinfo", "form", "dialog"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One thing that a reader speaks. properties: its states and relations, such as level, pressed and live."""

    role: str
    name: str
    description: str
    properties: Mapping[str, Any]

    @property
    def level(self) -> int:
        """Of a heading."""
        return int(self.properties["level"])


class Page:
    """A page that is open in a Chromium. Its protocol is JSON with a NUL after each message."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out, self._held, self._numbers = into, out, b"", count(1)
        self._session = ""

    def open(self, address: str) -> None:
        """Go there, and wait until it has loaded."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Accessibility.enable")
        self._ask("Page.enable")
        self._ask("Page.navigate", url=address)
        loaded = 'document.readyState === "complete" && location.href !== "about:blank"'
        assert happens(lambda: self.run(loaded))

    def run(self, script: str) -> Any:
        """The value of an expression."""
        done = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str, *, code: int = 0, modifiers: int = 0) -> None:
        """A key, as a person presses it."""
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": "\r"} if key == "Enter" else {}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **fields, **text)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **fields)

    def spoken(self) -> list[Spoken]:
        """Everything that is not ignored, in reading order."""
        nodes = {each["nodeId"]: each for each in self._ask("Accessibility.getFullAXTree")["nodes"]}
        roots = [each for each in nodes.values() if "parentId" not in each]
        return [_spoken(each) for root in roots for each in _in_order(root, nodes) if not each["ignored"]]

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = self._next(until)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
        raise TimeoutError(method)

    def _next(self, until: float) -> Any:
        while b"\0" not in self._held:
            ready = select.select([self._out], [], [], max(0.0, until - time.monotonic()))[0]
            more = os.read(self._out, 2**20) if ready else b""
            if not more:
                raise TimeoutError("Chromium says nothing")
            self._held += more
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)


def _in_order(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("childIds", ()):
        if child in nodes:
            yield from _in_order(nodes[child], nodes)


def _spoken(node: Mapping[str, Any]) -> Spoken:
    def said(field: str) -> str:
        return str(node.get(field, {}).get("value", "") or "")

    properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
    return Spoken(role=said("role"), name=said("name").strip(), description=said("description"), properties=properties)


@contextmanager
def opened(page: Path, fragment: str = "") -> Iterator[Page]:
    """A page in a Chromium of its own, which ends with the block."""
    to_read, into = os.pipe()
    out, to_write = os.pipe()
    short = tempfile.mkdtemp(prefix="c", dir="/tmp")
    try:
        command = [str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={short}/p", "--window-size=1400,1000"]
        environment = {**os.environ, "TMPDIR": short, "XDG_CONFIG_HOME": short, "XDG_CACHE_HOME": short}
        inherited = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", inherited, "chromium", *command],
            env=environment,
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (to_read, to_write):
            os.close(end)
        try:
            driven = Page(into, out)
            driven.open(f"{page.as_uri()}{fragment}")
            yield driven
        finally:
            for end in (into, out):
                os.close(end)
            process.terminate()
            process.wait(timeout=PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its helpers end later, and write there until they do
    finally:
        assert happens(lambda: _removed(short))


def _removed(folder: str) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)
