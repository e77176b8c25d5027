"""The training job of a rehearsal: DDP on gloo, resumable to the bit; follows the contract of docs/rehearsal.md.

It is a script like anybody's own. It saves and loads what a training run has, as PyTorch's documentation shows: a plain
file by torch.save of state dicts, a distributed checkpoint by get_state_dict, dcp.save, dcp.load and set_state_dict.
Standard library and torch only, Python 3.8 syntax, torch 1.7 to 2.15.
"""

import ctypes
import datetime as dt
import hashlib
import importlib
import json
import os
import random
import signal
import time

import torch
import torch.distributed as dist
from torch.utils.data.distributed import DistributedSampler

WIDTH, BATCH, SAMPLES = 16, 4, 512
# What a checkpoint holds, in the words of docs/rehearsal.md.
HOLDS = ["model", "optimizer", "scheduler", "step", "loader", "generators"]
ADAM = ("step", "exp_avg", "exp_avg_sq")
NO_NUMPY = "no NumPy"
DOCUMENTED = "torch.distributed.checkpoint.state_dict"


def setting(name, default=""):
    """One of the contract's settings."""
    return os.environ.get("TORCHSKEW_" + name, default)


class Log:
    """The step log of this rank: one JSON object a line, each written whole."""

    def __init__(self, path):
        """Append to the path."""
        self.file = open(path, "a", buffering=1)  # noqa: SIM115 - lives as long as the process

    def say(self, event, **fields):
        """Write one line."""
        self.file.write(json.dumps(dict(fields, event=event, at=time.time())) + "\n")
        self.file.flush()


class Loader:
    """A DistributedSampler and the position in its epoch: which samples come next is a part of the run's state."""

    def __init__(self, seed, rank, world):
        """Begin the first epoch."""
        self.sampler = DistributedSampler(list(range(SAMPLES)), num_replicas=world, rank=rank, seed=seed)
        self.begin(0)

    def begin(self, epoch, seen=0):
        """Draw the order of an epoch; seen: how many of this rank's samples are behind us."""
        self.sampler.set_epoch(epoch)
        self.epoch, self.seen, self.ids = epoch, seen, list(self.sampler)

    def batch(self):
        """Return the next sample ids with their inputs and targets."""
        if self.seen >= len(self.ids):
            self.begin(self.epoch + 1)
        ids = self.ids[self.seen : self.seen + BATCH]
        self.seen += BATCH
        rows = [[((sample * 31 + column * 17) % 97) / 97.0 - 0.5 for column in range(WIDTH)] for sample in ids]
        x = torch.tensor(rows)
        return ids, x, (x * x).sum(1, keepdim=True)

    def state_dict(self):
        """Return the position."""
        return {"epoch": self.epoch, "seen": self.seen}

    def load_state_dict(self, state):
        """Go on from a position."""
        self.begin(state["epoch"], state["seen"])


class Trainer:
    """Model, optimizer, scheduler, step, loader and generators: everything that a checkpoint has to bring back."""

    def __init__(self, seed, rank, world):
        """Weights come from the seed; each rank draws its noise from generators of its own."""
        self.rank, self.world, self.done = rank, world, 0
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=8, gamma=0.9)
        self.loader = Loader(seed, rank, world)
        self.wrapped = self.model
        torch.manual_seed(seed * 1000 + rank)
        random.seed(seed * 1000 + rank)

    def wrap(self):
        """Make it distributed; needs the process group."""
        self.wrapped = torch.nn.parallel.DistributedDataParallel(self.model)

    def step(self):
        """Return the sample ids and the loss of one training step.

        The noise makes the generators' states matter. Dropout would do, but one seed gives it other masks in other
        releases, and then no loss could be held against the control's.
        """
        ids, x, y = self.loader.batch()
        self.optimizer.zero_grad()
        noise = (torch.rand(x.shape) - 0.5) * random.random()
        loss = ((self.wrapped(x + 0.2 * noise) - y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.done += 1
        return ids, float(loss.detach())

    def rest(self, generators):
        """Return all state but the model's and the optimizer's. generators: of all ranks, as `own_generators`."""
        return {
            "scheduler": self.scheduler.state_dict(),
            "step": self.done,
            "loader": self.loader.state_dict(),
            "generators": generators,
        }

    def restore_rest(self, state):
        """Take it over; a rank that was not there when it was saved keeps generators of its own."""
        self.scheduler.load_state_dict(state["scheduler"])
        self.done, rows = state["step"], state["generators"]
        self.loader.load_state_dict(state["loader"])
        if self.rank < len(rows["torch"]):
            torch.set_rng_state(rows["torch"][self.rank].clone())
            random.setstate((3, tuple(int(number) for number in rows["python"][self.rank]), None))

    def digest(self):
        """Return sha256 over everything that all ranks share, and the sum of squares of its tensors for a near look."""
        tensors = tensors_of(self)
        whole, norm = hashlib.sha256(repr(self.numbers()).encode()), 0.0
        for name in sorted(tensors):
            value = tensors[name].detach().contiguous()
            whole.update(name.encode())
            whole.update(ctypes.string_at(value.data_ptr(), value.numel() * value.element_size()))
            norm += float((value.double() ** 2).sum())
        return whole.hexdigest(), norm

    def numbers(self):
        """Return the numbers of the state, alike in every release: step, position, and each group's settings."""
        groups = [[group["lr"], group["weight_decay"], *group["betas"]] for group in self.optimizer.param_groups]
        return [self.done, self.loader.epoch, self.loader.seen, self.scheduler.last_epoch, groups]


def tensors_of(trainer):
    """Return name -> tensor of the model's parameters and the optimizer's state."""
    state = {"model." + name: value for name, value in trainer.model.state_dict().items()}
    for index, slots in trainer.optimizer.state_dict()["state"].items():
        for name in ADAM:
            value = slots[name]
            state["optim.%s.%s" % (index, name)] = value if torch.is_tensor(value) else torch.tensor(float(value))
    return state


def own_generators():
    """Return this rank's generators as tensors: torch's bytes, and the numbers of Python's."""
    return {"torch": torch.get_rng_state(), "python": torch.tensor(random.getstate()[1], dtype=torch.int64)}


def all_generators(world):
    """Return those of all ranks, a row each. Every rank calls it."""
    gathered = {}
    for name, mine in sorted(own_generators().items()):
        rows = [torch.zeros_like(mine) for _ in range(world)]
        dist.all_gather(rows, mine)
        gathered[name] = torch.stack(rows)
    return gathered


# -- Distributed checkpoints -------------------------------------------------------------------------------
def module_or_none(name):
    """Return a module of this release, or None."""
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError):
        return None


def lacks_dcp():
    """Return why torch.distributed.checkpoint can't be used here, or nothing.

    Among several ranks it moves its plans by object collectives, which need NumPy.
    """
    if module_or_none(DOCUMENTED) is None:
        return "this release has no %s, which came with 2.2" % DOCUMENTED
    return "" if module_or_none("numpy") else NO_NUMPY


def agreed_formats(asked):
    """Return the formats that every rank can write: one rank alone in a collective save would wait for ever."""
    able = torch.tensor([0.0 if lacks_dcp() else 1.0])
    dist.all_reduce(able, op=dist.ReduceOp.MIN)
    return [each for each in asked if each == "plain" or float(able) > 0]


def documented(trainer, generators):
    """Return the state as the documentation has it saved.

    The scheduler is one text: as a dict its keys depend on the release (2.13 dropped `verbose`), and to load a key that
    a checkpoint lacks is an error.
    """
    model, optim = importlib.import_module(DOCUMENTED).get_state_dict(trainer.model, trainer.optimizer)
    rest = trainer.rest(generators)
    return dict(rest, model=model, optim=optim, scheduler=json.dumps(rest["scheduler"]))


def dcp_save(folder, trainer, generators):
    """Every rank writes its part."""
    module = importlib.import_module("torch.distributed.checkpoint")
    module.save(documented(trainer, generators), storage_writer=module.FileSystemWriter(folder))


def dcp_load(folder, trainer, partial=False):
    """Restore the trainer from a folder. partial: what the checkpoint lacks keeps the value that it has."""
    module = importlib.import_module("torch.distributed.checkpoint")
    rows = {name: torch.stack([torch.zeros_like(one)] * trainer.world) for name, one in own_generators().items()}
    state = documented(trainer, rows)
    planner = module.DefaultLoadPlanner(allow_partial_load=True) if partial else None
    module.load(state, storage_reader=module.FileSystemReader(folder), planner=planner)
    importlib.import_module(DOCUMENTED).set_state_dict(
        trainer.model, trainer.optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"]
    )
    trainer.restore_rest(dict(state, scheduler=json.loads(state["scheduler"])))


# -- Checkpoints -------------------------------------------------------------------------------------------
class Checkpoints:
    """Committed checkpoints in a shared folder; a name without a leading dot is whole, because it was renamed."""

    def __init__(self, folder, formats, generation):
        """Formats: plain, dcp, or dcp-partial, which is written as dcp and loaded without what it lacks."""
        self.folder, self.formats, self.generation = folder, formats, generation
        self.dcp = [each for each in formats if each != "plain"]

    def save(self, trainer):
        """Write, then commit by one rename; returns the name. Every rank calls it."""
        name = "step-%05d-g%d" % (trainer.done, self.generation)
        part = os.path.join(self.folder, "." + name)
        if trainer.rank == 0:
            os.makedirs(part)
        generators = all_generators(trainer.world)  # nobody goes on before the folder is there
        if self.dcp:
            dcp_save(os.path.join(part, "dcp"), trainer, generators)
        dist.barrier()
        if trainer.rank == 0:
            self.commit(part, name, trainer, generators)
        dist.barrier()
        return name

    def commit(self, part, name, trainer, generators):
        """Rank 0 writes the plain file and the description, and renames."""
        if "plain" in self.formats:
            state = {"model": trainer.model.state_dict(), "optim": trainer.optimizer.state_dict()}
            torch.save(dict(state, **trainer.rest(generators)), os.path.join(part, "plain.pt"))
        meta = {"step": trainer.done, "generation": self.generation, "hash": trainer.digest()[0]}
        meta.update(torch=str(torch.__version__), files=files_of(part), at=time.time())
        with open(os.path.join(part, "meta.json"), "w") as file:
            json.dump(meta, file)
        os.rename(part, os.path.join(self.folder, name))

    def load(self, trainer, name):
        """Restore from a checkpoint, in the first of the formats that it has."""
        folder = os.path.join(self.folder, name)
        if self.dcp and os.path.isdir(os.path.join(folder, "dcp")):
            dcp_load(os.path.join(folder, "dcp"), trainer, partial="dcp-partial" in self.dcp)
            return
        state = torch.load(os.path.join(folder, "plain.pt"))
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optim"])
        trainer.restore_rest(state)


def files_of(folder):
    """Return path -> sha256 of every file of a checkpoint but its description."""
    digests = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if name != "meta.json":
                with open(path, "rb") as file:
                    digests[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return digests


def read_checkpoint(folder, name, formats, seed, world):
    """Read a checkpoint alone, as a look whether this release can; returns what it found, per format."""
    readings = {}
    before = files_of(os.path.join(folder, name))
    for each in formats:
        place = "plain.pt" if each == "plain" else "dcp"
        if not os.path.exists(os.path.join(folder, name, place)):
            continue
        readings[each] = {"lacks": lacks_dcp()} if place == "dcp" and lacks_dcp() else {}
        if not readings[each]:
            readings[each] = read_alone(folder, name, each, Trainer(seed, 0, world))
        if each == "dcp" and "error" in readings[each]:
            remedy = read_alone(folder, name, "dcp-partial", Trainer(seed, 0, world))
            readings[each]["partial"] = remedy.get("hash")
    return {"formats": readings, "unchanged": before == files_of(os.path.join(folder, name))}


def read_alone(folder, name, each, trainer):
    """Return the hash of what was read in one format, or the error."""
    try:
        Checkpoints(folder, (each,), 0).load(trainer, name)
    except BaseException as error:  # torch.distributed.checkpoint's own error is no Exception
        return {"error": "%s: %s" % (type(error).__name__, error)}
    return {"hash": trainer.digest()[0]}


# -- Training ----------------------------------------------------------------------------------------------
class Stop:
    """Whether SIGTERM came."""

    def __init__(self):
        """Listen from now on."""
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_):
        """Note it; the training looks between two steps."""
        self.asked = True

    def agreed(self):
        """Whether any rank was asked: all of them answer alike, at the same step."""
        votes = torch.tensor([1.0 if self.asked else 0.0])
        dist.all_reduce(votes)
        return float(votes) > 0


class Hold:
    """The step to wait at, as a file says; the harness writes another number there when it is ready."""

    def __init__(self, path):
        """No path: never wait."""
        self.path, self.limit = path, None

    def reached(self, done):
        """Whether the job is to wait here; the file is read only where the last number is reached."""
        if self.path and (self.limit is None or done >= self.limit):
            with open(self.path) as file:
                self.limit = float(file.read().strip() or "inf")
        return self.limit is not None and done >= self.limit


def main():
    """Join, resume, train, and leave in good order at the last step or when asked."""
    stop = Stop()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    log = Log(setting("LOG"))
    log.say("start", rank=rank, torch=str(torch.__version__), generation=int(setting("GENERATION", "0")))
    limit = dt.timedelta(seconds=float(setting("TIMEOUT", "10")))
    dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=world, timeout=limit)
    trainer = Trainer(int(setting("SEED", "0")), rank, world)
    asked = setting("FORMATS", "plain").split(",")
    formats = agreed_formats(asked)
    log.say("formats", formats=formats, lacks=lacks_dcp() if asked != ["plain"] else "")
    if not formats:
        raise RuntimeError("%s can't be written here: %s" % (", ".join(asked), lacks_dcp() or "a peer lacks it"))
    checkpoints = Checkpoints(setting("CHECKPOINTS"), formats, int(setting("GENERATION", "0")))
    if setting("RESUME"):
        checkpoints.load(trainer, setting("RESUME"))
        log.say("loaded", checkpoint=setting("RESUME"), step=trainer.done, hash=trainer.digest()[0])
    trainer.wrap()
    train(trainer, log, stop, checkpoints)
    # The group outlives the model that holds it: its destructor, run by the model's, joins a thread that may want
    # the interpreter's lock (a rank in thirty hung there, on 2.6 and on 2.13).
    del trainer


def train(trainer, log, stop, checkpoints):
    """Step after step; a checkpoint each TORCHSKEW_EVERY steps, at the last step and before leaving."""
    last, every, pace = int(setting("STEPS", "10")), int(setting("EVERY", "5")), float(setting("PACE", "0"))
    hold, saved = Hold(setting("HOLD")), trainer.done
    while True:
        while hold.reached(trainer.done) and not stop.asked:
            time.sleep(0.01)
        leaving = trainer.done >= last or stop.agreed()
        if saved != trainer.done and (leaving or trainer.done % every == 0):
            name, saved = checkpoints.save(trainer), trainer.done
            if trainer.rank == 0:
                log.say("committed", step=saved, checkpoint=name, hash=trainer.digest()[0], holds=HOLDS)
        if leaving:
            log.say("left", step=trainer.done)
            return
        began = time.time()
        ids, loss = trainer.step()
        whole, norm = trainer.digest()
        log.say("step", step=trainer.done, samples=ids, loss=loss.hex(), hash=whole, norm=norm.hex())
        time.sleep(max(0.0, pace - (time.time() - began)))


if __name__ == "__main__":
    main()
