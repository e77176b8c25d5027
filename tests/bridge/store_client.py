"""Inside one release: serves a stock store, or asks a store everything that this release's client can ask.

Reads one JSON request a line, forks a process for each, which answers with one JSON line; Python 3.8, no harness.
"""

import datetime as dt
import json
import os
import re
import signal
import sys
import threading
import time
import warnings

warnings.filterwarnings("ignore")
import torch.distributed as dist  # noqa: E402

WAIT = 0.4  # seconds until a wait for what never comes is given up
LONG = float(os.environ.get("STORE_CLIENT_LONG", "6"))  # seconds until a wait for what must come is called a hang
BIG = "x" * 300_000


class Clients:
    """Two connections to one store, and threads for what blocks."""

    def __init__(self, port):
        self.port = port
        self.reset()

    def reset(self):
        """New connections, after an operation that broke one."""
        self.a, self.b = self.connect(), self.connect()

    def connect(self):
        return dist.TCPStore("127.0.0.1", self.port, None, False, dt.timedelta(seconds=LONG), wait_for_workers=False)

    def impatient(self, act, store=None):
        """What an operation gives or raises whose answer may never come."""
        store = store or self.a
        store.set_timeout(dt.timedelta(seconds=WAIT))
        began = time.monotonic()
        try:
            return act(store)
        except Exception as problem:  # noqa: BLE001 - whatever it raises is the answer
            waited = time.monotonic() - began >= WAIT * 0.9
            return [said(problem), "after its timeout" if waited else "at once"]
        finally:
            store.set_timeout(dt.timedelta(seconds=LONG))

    def meanwhile(self, blocked, act):
        """What `blocked` gives on one connection when `act` happens on the other while it waits."""
        result = []
        thread = threading.Thread(target=lambda: result.append(outcome(lambda: blocked(self.a))))
        thread.start()
        time.sleep(0.1)
        waited = thread.is_alive()
        act(self.b)
        thread.join(LONG)
        return ["waited" if waited else "did not wait", *result]


def said(problem):
    """An error without addresses, numbers and stack traces."""
    text = re.split(r"Exception raised from|\n", str(problem))[0]
    return type(problem).__name__ + ": " + re.sub(r"0x[0-9a-f]+|[0-9]+", "N", text).strip()


def outcome(act):
    """The answer of an operation as JSON has it, or its error."""
    try:
        value = act()
    except Exception as problem:  # noqa: BLE001 - whatever it raises is the answer
        return said(problem)
    if isinstance(value, bytes):
        return value.decode("latin-1") if len(value) < 100 else f"{len(value)} bytes"
    return value


def then(*acts):
    """The last of several acts."""
    for act in acts[:-1]:
        act()
    return acts[-1]()


def _texts(values):
    return [value.decode("latin-1") for value in values]


# name -> what it needs, what it does
OPERATIONS = {
    "number of keys at first": ("num_keys", lambda c: c.a.num_keys()),
    "set, get": ("set", lambda c: then(lambda: c.a.set("k/1", "v\0w"), lambda: c.b.get("k/1"))),
    "set again, get": ("set", lambda c: then(lambda: c.b.set("k/1", "other"), lambda: c.a.get("k/1"))),
    "an empty value": ("set", lambda c: then(lambda: c.a.set("empty", ""), lambda: c.b.get("empty"))),
    "an empty key": ("set", lambda c: then(lambda: c.a.set("", "nameless"), lambda: c.b.get(""))),
    "a value of 300,000 bytes": ("set", lambda c: then(lambda: c.a.set("big", BIG), lambda: c.b.get("big"))),
    "get a missing key": ("get", lambda c: c.impatient(lambda s: s.get("none"))),
    "get after it": ("get", lambda c: c.a.get("k/1")),
    "get, set by another meanwhile": ("get", lambda c: c.meanwhile(lambda s: s.get("w1"), lambda s: s.set("w1", "x"))),
    "add to nothing": ("add", lambda c: c.a.add("n", 5)),
    "add again": ("add", lambda c: c.b.add("n", -7)),
    "get a number": ("add", lambda c: c.b.get("n")),
    "add 0": ("add", lambda c: c.b.add("zero", 0)),
    "add to a text of digits": ("add", lambda c: then(lambda: c.a.set("d", " 12abc"), lambda: c.a.add("d", 3))),
    "add beyond 64 bits": ("add", lambda c: then(lambda: c.a.add("m", 2**62), lambda: c.a.add("m", 2**62))),
    "get, added by another meanwhile": ("add", lambda c: c.meanwhile(lambda s: s.get("w2"), lambda s: s.add("w2", 1))),
    "check nothing": ("check", lambda c: c.a.check([])),
    "check what is there": ("check", lambda c: c.a.check(["k/1", "n"])),
    "check what is there in part": ("check", lambda c: c.a.check(["k/1", "none"])),
    "wait for what is there": ("wait", lambda c: c.a.wait(["k/1", "n"])),
    "wait for nothing": ("wait", lambda c: c.a.wait([])),
    "wait for what never comes": ("wait", lambda c: c.impatient(lambda s: s.wait(["k/1", "none"]))),
    "wait again": ("wait", lambda c: c.impatient(lambda s: s.wait(["none"], dt.timedelta(seconds=WAIT)))),
    "it comes after the wait": ("wait", lambda c: then(lambda: c.b.set("none", "late"), lambda: c.a.get("none"))),
    "wait, set by another meanwhile": (
        "wait",
        lambda c: c.meanwhile(
            lambda s: s.wait(["w3", "w4"]), lambda s: then(lambda: s.set("w3", ""), lambda: s.add("w4", 1))
        ),
    ),
    "wait for one key twice": ("wait", lambda c: c.meanwhile(lambda s: s.wait(["w5"] * 2), lambda s: s.set("w5", ""))),
    "delete": ("delete_key", lambda c: c.a.delete_key("k/1")),
    "delete again": ("delete_key", lambda c: c.b.delete_key("k/1")),
    "get what was deleted": ("delete_key", lambda c: c.impatient(lambda s: s.get("k/1"))),
    "number of keys after": ("num_keys", lambda c: c.a.num_keys()),
    "compare_set nothing with nothing": ("compare_set", lambda c: c.a.compare_set("c", "", "first")),
    "compare_set nothing with something": ("compare_set", lambda c: c.a.compare_set("c2", "x", "first")),
    "it was not set": ("compare_set", lambda c: c.impatient(lambda s: s.get("c2"))),
    "compare_set with what is there": ("compare_set", lambda c: c.b.compare_set("c", "first", "second")),
    "compare_set with something else": ("compare_set", lambda c: c.b.compare_set("c", "first", "third")),
    "wait, compare_set by another": (
        "compare_set",
        lambda c: c.meanwhile(lambda s: s.get("w6"), lambda s: s.compare_set("w6", "", "x")),
    ),
    "append to nothing": ("append", lambda c: then(lambda: c.a.append("ap", "12"), lambda: c.b.get("ap"))),
    "append": ("append", lambda c: then(lambda: c.b.append("ap", "3"), lambda: c.a.get("ap"))),
    "wait, append by another": ("append", lambda c: c.meanwhile(lambda s: s.get("w7"), lambda s: s.append("w7", "x"))),
    "multi_set": ("multi_set", lambda c: c.a.multi_set(["ma", "mb"], ["1", ""])),
    "multi_get": ("multi_get", lambda c: _texts(c.b.multi_get(["mb", "ma", "ma"]))),
    "multi_get nothing": ("multi_get", lambda c: _texts(c.b.multi_get([]))),
    "multi_get what is there in part": ("multi_get", lambda c: c.impatient(lambda s: _texts(s.multi_get(["ma", "z"])))),
    "wait, multi_set by another": (
        "multi_set",
        lambda c: c.meanwhile(lambda s: s.get("w8"), lambda s: s.multi_set(["w7", "w8"], ["x", "y"])),
    ),
    "queue: length of none": ("queue_len", lambda c: c.a.queue_len("q")),
    "queue: pop from none": ("queue_pop", lambda c: c.a.queue_pop("q", False)),
    "queue: pop, waiting": ("queue_pop", lambda c: c.impatient(lambda s: s.queue_pop("q"))),
    "queue: push, length": (
        "queue_push",
        lambda c: then(lambda: c.a.queue_push("q", "1"), lambda: c.a.queue_push("q", "2"), lambda: c.b.queue_len("q")),
    ),
    "queue: check": ("queue_push", lambda c: c.a.check(["q"])),
    "queue: pop": ("queue_pop", lambda c: outcome(lambda: c.b.queue_pop("q"))),
    "queue: pop the last": ("queue_pop", lambda c: outcome(lambda: c.a.queue_pop("q", False))),
    "queue: check when empty": ("queue_push", lambda c: c.a.check(["q"])),
    "queue: pop, pushed meanwhile": (
        "queue_pop",
        lambda c: c.meanwhile(lambda s: s.queue_pop("q2"), lambda s: s.queue_push("q2", "x")),
    ),
    "queue: get of a queue": ("queue_push", lambda c: then(lambda: c.a.queue_push("q3", "x"), lambda: c.a.get("q3"))),
    "list_keys": ("list_keys", lambda c: sorted(c.a.list_keys())),
    "barrier of one": ("barrier", lambda c: c.a.barrier("b1", 1)),
    "barrier of two, one missing": ("barrier", lambda c: c.impatient(lambda s: s.barrier("b2", 2))),
    "barrier of two": ("barrier", lambda c: c.meanwhile(lambda s: s.barrier("b3", 2), lambda s: s.barrier("b3", 2))),
    "barrier that is over": ("barrier", lambda c: c.a.barrier("b3", 2)),
    "what a barrier leaves": ("barrier", lambda c: sorted(k for k in c.a.list_keys() if "b" in k)),
    "number of keys at the end": ("num_keys", lambda c: c.a.num_keys()),
    "a client that joins late": ("get", lambda c: c.connect().get("n")),
    "add to a text": ("add", lambda c: then(lambda: c.b.set("t", "text"), lambda: c.b.add("t", 1))),
    "the other client after it": ("get", lambda c: c.a.get("n")),
}


def bounded(act):
    """What an operation gives; some stores never answer some operations, and some clients then wait for ever."""
    result = []
    thread = threading.Thread(target=lambda: result.append(outcome(act)), daemon=True)
    thread.start()
    thread.join(LONG * 5)
    return result[0] if result else "hangs"


def ask(port, only):
    """Every operation that this release's client has, in order, with its answer; or only those named."""
    clients, answers = Clients(port), {}
    for name, (needs, act) in OPERATIONS.items():
        if hasattr(dist.TCPStore, needs) and (not only or name in only):
            answers[name] = bounded(lambda act=act: act(clients))
            text = json.dumps(answers[name])
            if text == '"hangs"' or ("Error" in text and "after its timeout" not in text):
                clients.reset()
    return answers


def serve(port, libuv):
    """A stock store in this process until it is killed."""
    settings = {} if libuv is None else {"use_libuv": libuv}
    wait = dt.timedelta(seconds=LONG)
    store = dist.TCPStore("127.0.0.1", port, None, True, wait, wait_for_workers=False, **settings)
    say({"serves": True})
    signal.pause()
    del store


def say(value):
    """One JSON line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main():
    """Answer requests until the end of input; the processes that they started end with it."""
    children = []
    both = hasattr(dist.TCPStore, "libuvBackend")  # what else would take use_libuv
    say({"backends": {"legacy": False, "libuv": True} if both else {"legacy": None}})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            while children:
                child = children.pop()
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            say({"stopped": True})
            continue
        children.append(os.fork())
        if not children[-1]:
            try:
                say(ask(request["port"], request["only"])) if request["do"] == "ask" else serve(
                    request["port"], request["libuv"]
                )
            except Exception as problem:  # noqa: BLE001 - the other side says which store could not be joined
                say({"error": said(problem)})
            os._exit(0)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
