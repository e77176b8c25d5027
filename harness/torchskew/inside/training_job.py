"""The training job of a rehearsal: DDP on gloo, resumable to the bit; follows the contract of docs/rehearsal.md.

It is a script like anybody's own: environment variables in, JSON lines out, SIGTERM means checkpoint and leave.
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

WIDTH, BATCH, SAMPLES = 16, 4, 4096
ADAM = ("step", "exp_avg", "exp_avg_sq")
NO_NUMPY = "no NumPy"


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
    """Deterministic and resumable: which samples a rank sees at a step depends on the seed and the step alone."""

    def __init__(self, seed, rank, world):
        """Nothing is drawn yet."""
        self.seed, self.rank, self.world = seed, rank, world

    def samples(self, step):
        """Return this rank's sample ids of a step, counted from 1."""
        first = (step - 1) * BATCH * self.world
        epoch, start = divmod(first, SAMPLES)
        ids = list(range(SAMPLES))
        random.Random(self.seed * 1000 + epoch).shuffle(ids)
        ids += ids[: BATCH * self.world]
        mine = start + self.rank * BATCH
        return ids[mine : mine + BATCH]

    def batch(self, ids):
        """Return inputs and targets for sample ids."""
        rows = [[((sample * 31 + column * 17) % 97) / 97.0 - 0.5 for column in range(WIDTH)] for sample in ids]
        x = torch.tensor(rows)
        return x, (x * x).sum(1, keepdim=True)


class Trainer:
    """Model, optimizer and generators; everything that a checkpoint has to bring back."""

    def __init__(self, seed, rank, world):
        """Weights come from the seed; each rank draws its noise from a generator of its own."""
        self.rank, self.world = rank, world
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.wrapped = self.model
        torch.manual_seed(seed * 1000 + rank)

    def wrap(self):
        """Make it distributed; needs the process group."""
        self.wrapped = torch.nn.parallel.DistributedDataParallel(self.model)

    def step(self, x, y):
        """Return the loss of one training step.

        The noise makes the generator's state matter. Dropout would do, but its masks depend on the build's libraries.
        """
        self.optimizer.zero_grad()
        noise = torch.rand(x.shape) - 0.5
        loss = ((self.wrapped(x + 0.1 * noise) - y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def tensors(self, rng=None):
        """Return name -> tensor of everything; rng: all ranks' generators, one row each."""
        state = {"model." + name: value for name, value in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name in ADAM:
                value = slots[name]
                state["optim.%s.%s" % (index, name)] = value if torch.is_tensor(value) else torch.tensor(float(value))
        if rng is not None:
            state["rng"] = rng
        return state

    def blank(self):
        """Return tensors of the right names and shapes, to load into."""
        state = {"model." + name: torch.zeros_like(value) for name, value in self.model.state_dict().items()}
        for index, parameter in enumerate(self.model.parameters()):
            state["optim.%s.step" % index] = torch.tensor(0.0)
            for name in ADAM[1:]:
                state["optim.%s.%s" % (index, name)] = torch.zeros_like(parameter.data)
        state["rng"] = torch.zeros(self.world, len(torch.get_rng_state()), dtype=torch.uint8)
        return state

    def restore(self, state):
        """Take over what a checkpoint held."""
        self.model.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model.")})
        whole = self.optimizer.state_dict()
        whole["state"] = {}
        for index, _ in enumerate(self.model.parameters()):
            slots = {name: state["optim.%s.%s" % (index, name)].clone() for name in ADAM}
            if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (1, 12):
                slots["step"] = int(slots["step"])
            whole["state"][index] = slots
        self.optimizer.load_state_dict(whole)
        if self.rank < len(state["rng"]):
            torch.set_rng_state(state["rng"][self.rank].clone())

    def digest(self):
        """Return a hash over the bits of parameters and optimizer, and their sum of squares for a near look."""
        return digest(self.tensors())


def digest(state):
    """Return sha256 over names and bits, and the sum of squares as a float; generators stay out."""
    whole, norm = hashlib.sha256(), 0.0
    for name in sorted(state):
        if name == "rng":
            continue
        value = state[name].detach().contiguous()
        whole.update(name.encode())
        whole.update(ctypes.string_at(value.data_ptr(), value.numel() * value.element_size()))
        norm += float((value.double() ** 2).sum())
    return whole.hexdigest(), norm


# -- Checkpoints -------------------------------------------------------------------------------------------
def lacks_dcp():
    """Return why torch.distributed.checkpoint can't be used here, or nothing.

    Among several ranks it moves its plans by object collectives, which need NumPy.
    """
    try:
        module = importlib.import_module("torch.distributed.checkpoint")
    except (ImportError, AttributeError) as error:
        return "this release has no torch.distributed.checkpoint that loads: %s" % error
    if not hasattr(module, "FileSystemWriter"):
        return "this release has no FileSystemWriter"
    try:
        importlib.import_module("numpy")
    except ImportError:
        return NO_NUMPY
    return ""


def dcp():
    """Return torch.distributed.checkpoint, or None where it can't be used."""
    return None if lacks_dcp() else importlib.import_module("torch.distributed.checkpoint")


def agreed_formats(asked):
    """Return the formats that every rank can write: one rank alone in a collective save would wait for ever."""
    able = torch.tensor([0.0 if lacks_dcp() else 1.0])
    dist.all_reduce(able, op=dist.ReduceOp.MIN)
    return [each for each in asked if each != "dcp" or float(able) > 0]


def dcp_save(folder, state):
    """Every rank writes its part."""
    module = dcp()
    save = getattr(module, "save", None) or module.save_state_dict
    save(state, storage_writer=module.FileSystemWriter(folder))


def dcp_load(folder, state, alone=False):
    """Fill state from a folder; alone: without a process group."""
    module = dcp()
    reader = module.FileSystemReader(folder)
    if alone or not hasattr(module, "load"):
        module.load_state_dict(state, storage_reader=reader, no_dist=alone)
    else:
        module.load(state, storage_reader=reader)


class Checkpoints:
    """Committed checkpoints in a shared folder; a name without a leading dot is whole, because it was renamed."""

    def __init__(self, folder, formats, generation):
        """Formats: dcp, plain, or both."""
        self.folder, self.formats, self.generation = folder, formats, generation

    def save(self, trainer, step):
        """Write, then commit by one rename; returns the name. Every rank calls it."""
        name = "step-%05d-g%d" % (step, self.generation)
        part = os.path.join(self.folder, "." + name)
        if trainer.rank == 0:
            os.makedirs(part)
        mine = torch.get_rng_state()
        rows = [torch.zeros_like(mine) for _ in range(trainer.world)]
        dist.all_gather(rows, mine)  # nobody goes on before the folder is there
        state = trainer.tensors(torch.stack(rows))
        if "dcp" in self.formats:
            dcp_save(os.path.join(part, "dcp"), state)
        dist.barrier()
        if trainer.rank == 0:
            self.commit(part, name, step, state)
        dist.barrier()
        return name

    def commit(self, part, name, step, state):
        """Rank 0 writes the plain file and the description, and renames."""
        if "plain" in self.formats:
            torch.save(state, os.path.join(part, "plain.pt"))
        meta = {"step": step, "generation": self.generation, "hash": digest(state)[0], "torch": str(torch.__version__)}
        meta["files"] = files_of(part)
        meta["at"] = time.time()
        with open(os.path.join(part, "meta.json"), "w") as file:
            json.dump(meta, file)
        os.rename(part, os.path.join(self.folder, name))

    def load(self, trainer, name, alone=False):
        """Restore from a checkpoint; returns the step it was taken after."""
        folder = os.path.join(self.folder, name)
        with open(os.path.join(folder, "meta.json")) as file:
            meta = json.load(file)
        if os.path.isdir(os.path.join(folder, "dcp")) and "dcp" in self.formats:
            state = trainer.blank()
            dcp_load(os.path.join(folder, "dcp"), state, alone)
        else:
            state = torch.load(os.path.join(folder, "plain.pt"))
        trainer.restore(state)
        return meta["step"]


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
        place = "dcp" if each == "dcp" else "plain.pt"
        if not os.path.exists(os.path.join(folder, name, place)):
            continue
        if each == "dcp" and lacks_dcp():
            readings[each] = {"lacks": lacks_dcp()}
            continue
        trainer = Trainer(seed, 0, world)
        try:
            Checkpoints(folder, (each,), 0).load(trainer, name, alone=True)
            readings[each] = {"hash": trainer.digest()[0]}
        except BaseException as error:  # torch.distributed.checkpoint's own error is no Exception
            readings[each] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {"formats": readings, "unchanged": before == files_of(os.path.join(folder, name))}


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
    where = "tcp://%s:%s" % (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world, timeout=limit)
    trainer = Trainer(int(setting("SEED", "0")), rank, world)
    asked = setting("FORMATS", "plain").split(",")
    formats = agreed_formats(asked)
    log.say("formats", formats=formats, lacks=lacks_dcp() if "dcp" in asked else "")
    checkpoints = Checkpoints(setting("CHECKPOINTS"), formats, int(setting("GENERATION", "0")))
    done = checkpoints.load(trainer, setting("RESUME")) if setting("RESUME") else 0
    if setting("RESUME"):
        log.say("loaded", checkpoint=setting("RESUME"), step=done, hash=trainer.digest()[0])
    trainer.wrap()
    train(trainer, Loader(int(setting("SEED", "0")), rank, world), (log, stop, checkpoints), done)
    # The group outlives the model that holds it: its destructor, run by the model's, joins a thread that may want
    # the interpreter's lock (a rank in thirty hung there, on 2.6 and on 2.13).
    del trainer


def train(trainer, loader, tools, done):
    """Step after step; a checkpoint each TORCHSKEW_EVERY steps, at the last step and before leaving."""
    log, stop, checkpoints = tools
    last, every, pace = int(setting("STEPS", "10")), int(setting("EVERY", "5")), float(setting("PACE", "0"))
    hold, saved = Hold(setting("HOLD")), done
    while True:
        while hold.reached(done) and not stop.asked:
            time.sleep(0.01)
        leaving = done >= last or stop.agreed()
        if saved != done and (leaving or done % every == 0):
            name = checkpoints.save(trainer, done)
            saved = done
            if trainer.rank == 0:
                log.say("committed", step=done, checkpoint=name, hash=trainer.digest()[0])
        if leaving:
            log.say("left", step=done)
            return
        began = time.time()
        ids = loader.samples(done + 1)
        loss = trainer.step(*loader.batch(ids))
        done += 1
        whole, norm = trainer.digest()
        log.say("step", step=done, samples=ids, loss=loss.hex(), hash=whole, norm=norm.hex())
        time.sleep(max(0.0, pace - (time.time() - began)))


if __name__ == "__main__":
    main()
