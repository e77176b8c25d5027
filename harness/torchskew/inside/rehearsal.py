"""What a rehearsal does inside a rank: run the training script under its contract, or answer one question.

Travels as a scenario does: standard library and torch only, Python 3.8 syntax.
"""

import ast
import base64
import hashlib
import importlib
import json
import os
import resource
import socket
import sys
import threading
import time
import traceback
import types
import uuid

KIND = "group"
LOOK_SECONDS = 0.02  # seconds between two looks at the step log
ANSWER_BYTES = 1 << 20  # of step logs in one answer; a payload may have twice that, and base64 adds a third


def rank(job):
    """Do what the harness asks; the answer is the payload."""
    return TASKS[job.params["do"]](job)


def train(job):
    """Run the script as `__main__`; its log lines go to the harness as they come."""
    params = job.params
    apply_settings(job)
    job.meeting_place()  # at a bridge, this sets what makes a rank its client
    job.phase("rendezvous")
    if job.guard:
        importlib.import_module("torchskew_guard").install()
    relay = Relay(params["log"], job)
    try:
        run_script(params["script"], params["name"])
    finally:
        relay.end()
    job.phase("run")
    return {"left": True, "kilobytes": kilobytes()}


def apply_settings(job):
    """Give the script what docs/rehearsal.md states that it finds, whether it trains or only reads."""
    params = job.params
    for place in (os.path.dirname(params["log"]), params["settings"]["TORCHSKEW_CHECKPOINTS"]):
        os.makedirs(place, exist_ok=True)
    os.environ.update(params["settings"])
    os.environ.update(RANK=str(job.rank), LOCAL_RANK="0", WORLD_SIZE=str(job.world_size))
    os.environ.update(MASTER_ADDR=job.host, MASTER_PORT=str(job.port), TORCHSKEW_LOG=params["log"])
    write(os.environ["TORCHSKEW_HOLD"], params["hold"])


def kilobytes():
    """Return what a node takes: the peak of this rank, and what the agent that it was forked from holds alone."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with open("/proc/{}/smaps_rollup".format(os.getppid())) as file:
            return peak + sum(int(row.split()[1]) for row in file if row.startswith(("Private_Clean", "Private_Dirty")))
    except OSError:  # a kernel that does not say
        return peak


def hold(job):
    """Let a waiting job go on, through another step."""
    write(job.params["path"], job.params["hold"])
    return {}


def write(path, text):
    """Whole or not at all; ranks in several containers write the same file, and process ids repeat among those."""
    part = "{}.{}".format(path, uuid.uuid4().hex)
    with open(part, "w") as file:
        file.write(text)
    os.replace(part, path)


def run_script(source, name):
    """Execute the text as Python runs a script; an exit with a code is an error."""
    module = types.ModuleType("__main__")
    module.__file__ = name
    sys.modules["__main__"] = module
    sys.argv = [name]
    try:
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's own script
    except SystemExit as end:
        if end.code not in (None, 0):
            why = "the script left with {!r}".format(end.code)
            raise RuntimeError(why) from end


class Relay:
    """Reports each new line of the step log to the harness, so that it knows how far the training is."""

    def __init__(self, path, job):
        """Begin to watch; the file need not exist yet."""
        self.path, self.job, self.done, self.rest = path, job, 0, b""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        """Look until the script has ended, and once more then."""
        while not self.over.wait(LOOK_SECONDS):
            self.look()
        self.look()

    def look(self):
        """Report what was added since."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.done)
                data = file.read()
        except OSError:
            return
        self.done += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.job.report_progress(*progress_of(line))

    def end(self):
        """Stop watching."""
        self.over.set()
        self.thread.join()


def progress_of(line):
    """Return what the harness needs while the training goes on: the event and the step."""
    try:
        event = json.loads(line.decode())
        return str(event["event"])[:40], int(event.get("step", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "junk", 0


def collect(job):
    """Return the next bytes of a generation's step logs, as base64 by file, and the names of committed checkpoints.

    `done` says how many bytes of each file were read before, `most` how many may be read of each in all. What one
    answer can't hold comes with the next one: `more` says so.
    """
    params, logs, left = job.params, {}, ANSWER_BYTES
    folder = params["logs"]
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        done = params["done"].get(name, 0)
        with open(os.path.join(folder, name), "rb") as file:
            file.seek(done)
            data = file.read(max(0, min(left, params["most"] - done)))
        if data:
            logs[name] = base64.b64encode(data).decode()
            left -= len(data)
    return {"logs": logs, "more": left == 0, "checkpoints": committed(params["checkpoints"])}


def committed(folder):
    """Return the name of each committed checkpoint."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [name for name in names if name[0] != "." and os.path.exists(os.path.join(folder, name, "meta.json"))]


def read(job):
    """Read a checkpoint alone with this release, by the script's own reader. What that fails with is an answer."""
    params, settings = job.params, job.params["settings"]
    no_reader = lacks_reader(params["script"], params["name"])
    if no_reader:
        return {"no_reader": no_reader}
    apply_settings(job)
    module = types.ModuleType("rehearsal_job")
    module.__file__ = params["name"]
    sys.modules[module.__name__] = module
    sys.argv = [params["name"]]
    formats = settings["TORCHSKEW_FORMATS"].split(",")
    try:
        exec(compile(params["script"], params["name"], "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        answer = module.read_checkpoint(
            settings["TORCHSKEW_CHECKPOINTS"], settings["TORCHSKEW_RESUME"], formats, job.seed, params["world"]
        )
    except BaseException as error:  # torch.distributed.checkpoint's own error is no Exception
        traceback.print_exc()
        return {"error": "{}: {}".format(type(error).__name__, error)}
    if not isinstance(answer, dict):
        return {"error": "read_checkpoint returned {!r}; docs/rehearsal.md states what it returns".format(answer)}
    return answer


def lacks_reader(source, name):
    """Return why the script's `read_checkpoint` is not called; empty where it is. Nothing of the script is run."""
    try:
        tree = ast.parse(source, name)
    except SyntaxError as error:
        return "this Python can't read {}: SyntaxError: {}".format(name, error)
    if not any(binds(statement, "read_checkpoint") for statement in tree.body):
        return "{} has no function read_checkpoint".format(name)
    tests = [node.test for node in tree.body if isinstance(node, ast.If)]
    if not any(isinstance(part, ast.Name) and part.id == "__name__" for test in tests for part in ast.walk(test)):
        return '{} has read_checkpoint, but no `if __name__ == "__main__":`: calling it would train'.format(name)
    return ""


def binds(statement, name):
    """Whether a top-level statement may bind a name: a function, an import or an assignment, also under `if`."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return statement.name == name
    for part in ast.walk(statement):
        bound = getattr(part, "name", None) if isinstance(part, ast.FunctionDef) else None
        if isinstance(part, ast.alias):
            bound = part.asname or part.name
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            bound = part.id
        if bound == name:
            return True
    return False


OPS = {"SUM": sum, "MAX": max, "MIN": min}
DTYPES = ("float32", "float64", "int32", "int64", "uint8")
SIZES = (1, 17, 4097)


def all_reduce(job):
    """Every dtype, operation and size against values computed without torch; small whole numbers are exact."""
    import torch
    import torch.distributed as dist

    job.rendezvous()
    wrong, count = [], 0
    for dtype in DTYPES:
        for name, rule in sorted(OPS.items()):
            for size in SIZES:
                own = [[(number * 7 + index) % 11 for index in range(size)] for number in range(job.world_size)]
                tensor = torch.tensor(own[job.rank], dtype=getattr(torch, dtype))
                dist.all_reduce(tensor, op=getattr(dist.ReduceOp, name))
                right = [rule(column) for column in zip(*own)]
                count += 1
                if [int(value) for value in tensor.tolist()] != right:
                    wrong.append("{}/{}/{}".format(dtype, name, size))
    return {"cases": count, "wrong": wrong[:20]}


def serve(job):
    """Listen and count bytes of one connection, for at most `seconds`."""
    params, received = job.params, 0
    job.phase("run")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", job.port))
        server.listen(4)
        server.settimeout(params["seconds"])
        job.report_progress("listening")
        try:
            conn, _ = server.accept()
        except OSError:
            return {"bytes": 0}
        with conn:
            conn.settimeout(params["seconds"])
            try:
                while True:
                    piece = conn.recv(1 << 16)
                    if not piece:
                        break
                    received += len(piece)
                conn.sendall(b"k")
            except OSError:
                return {"bytes": received}
    return {"bytes": received}


def send(job):
    """Connect and send bytes; returns whether they arrived within `seconds`, and how long it took."""
    params, began = job.params, time.monotonic()

    def left():
        return max(0.01, params["seconds"] - (time.monotonic() - began))

    job.phase("run")
    try:
        with socket.create_connection((params["to"], job.port), timeout=left()) as conn:
            conn.settimeout(left())
            conn.sendall(b"." * params["bytes"])
            conn.shutdown(socket.SHUT_WR)
            conn.settimeout(left())
            arrived = conn.recv(1) == b"k"
    except OSError as error:
        return {"arrived": False, "seconds": time.monotonic() - began, "why": str(error)}
    return {"arrived": arrived, "seconds": time.monotonic() - began}


def draws(job):
    """Return a digest of what one seed gives, for each kind of random numbers that samplers and layers draw."""
    import torch
    from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler
    from torch.utils.data.distributed import DistributedSampler

    layers, ones, many = torch.nn.functional, torch.ones(64), list(range(64))
    weights = [1.0 + each % 5 for each in many]
    job.phase("run")
    kinds = {
        "sampler": {
            "RandomSampler": lambda: list(RandomSampler(many)),
            "SubsetRandomSampler": lambda: list(SubsetRandomSampler(many)),
            "WeightedRandomSampler": lambda: list(WeightedRandomSampler(weights, 64)),
            "WeightedRandomSampler without replacement": lambda: list(WeightedRandomSampler(weights, 64, False)),
            "DistributedSampler": lambda: list(DistributedSampler(many, num_replicas=2, rank=0)),
        },
        "layer": {
            "dropout": lambda: layers.dropout(ones, 0.5).tolist(),
            "rrelu": lambda: layers.rrelu(-ones, training=True).tolist(),
            "gumbel_softmax": lambda: layers.gumbel_softmax(ones).tolist(),
            "rand": lambda: torch.rand(64).tolist(),
            "randn": lambda: torch.randn(64).tolist(),
            "initial weights": lambda: torch.nn.Linear(8, 8).weight.flatten().tolist(),
        },
    }
    return {kind: _digests(torch, each) for kind, each in kinds.items()}


def _digests(torch, draws):
    """Name -> digest of what each draws from one seed; what this release lacks is left out."""
    digests = {}
    for name, draw in draws.items():
        torch.manual_seed(20)
        try:
            digests[name] = hashlib.sha256(repr(draw()).encode()).hexdigest()
        except (AttributeError, TypeError, RuntimeError) as error:
            print("{}: {}".format(name, error), file=sys.stderr)
    return digests


def clock(job):
    """Return this node's time of day."""
    job.phase("run")
    return {"at": time.time()}


TASKS = {
    "clock": clock,
    "draws": draws,
    "train": train,
    "collect": collect,
    "hold": hold,
    "read": read,
    "all_reduce": all_reduce,
    "serve": serve,
    "send": send,
}


def judge(reports, world):
    """workflows/rehearsal/judge.py judges a rehearsal; as a scenario this file promises nothing."""
    del reports, world
    return {}
