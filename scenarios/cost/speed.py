"""No operator, optimizer step, collective or import is slower in one release than in another by more than the bound.

Both releases run at once and measure in turns, A B B A and again, in warm processes: what the machine does meanwhile
happens to both. A turn takes the fastest of eight samples of a millisecond. The change is the median over quads of
turns, with a bootstrap interval of 95 %. Oracle: rank 0's release. WRONG on rank 1: the whole interval is above the
bound (5 %, or `slower` in [gate]); the bound inside the interval is too noisy to say, and the cell is UNKNOWN. With one
thread, both processes are pinned to one processor and measure processor time, which other work on the machine hardly
changes; `*_all` takes all threads and wall time, and so do `ddp_step` and `all_reduce_*`, in which each release has a
group of two of its own. `import` starts interpreters, and compares only builds of one kind, because one for CUDA loads
more than one for the CPU alone. No other cell runs meanwhile. The gate is for neighbouring releases: PyTorch promises
no speed.
"""

KIND = "group"
WORLD = (2, 2)
GUARD = ("off",)
RENDEZVOUS = "none"
NEEDS = ("one machine",)
TIERS = ("full",)
PATIENCE = 120.0
ALONE = True
UPGRADE = True
WARM = ("torch._dynamo",)  # which the first step of an optimizer imports

SAMPLES = 8
SAMPLE_SECONDS = 0.001
SLOWER = 0.05
OPERATORS = (
    "matmul", "linear", "conv2d", "conv2d_bfloat16", "layer_norm", "softmax", "attention", "embedding", "index",
    "adam_step",
)  # fmt: skip
ALL_THREADS = ("matmul", "linear", "conv2d", "layer_norm", "softmax", "attention")
LACKING = ("attention", "conv2d_bfloat16")  # what some release may not have
PAIRS = ("ddp_step", "all_reduce_1k", "all_reduce_4m")
# Quads of turns. Processor time needs half as many as wall time: 20 gave intervals 0.5 to 4 % wide on a busy machine.
QUADS = {**dict.fromkeys(OPERATORS, 20), **dict.fromkeys(PAIRS, 40), "import": 4}
VARIANTS = {name: {"params": {"what": name, "slower": SLOWER, "quads": QUADS[name]}} for name in QUADS}
VARIANTS.update({name + "_all": {"params": {"what": name, "slower": SLOWER, "quads": 40}} for name in ALL_THREADS})


def operators():
    """Name -> a call without arguments, of 20 to 500 microseconds."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - as everybody writes it

    torch.manual_seed(0)
    square, wide, image = torch.randn(192, 192), torch.randn(64, 512), torch.randn(2, 8, 32, 32)
    weight, kernel, heads = torch.randn(512, 512), torch.randn(16, 8, 3, 3), torch.randn(2, 4, 64, 32)
    rows = torch.randn(256, 512)
    table, at = torch.randn(1000, 64), torch.randint(0, 1000, (512,))
    image_b, kernel_b = image.bfloat16(), kernel.bfloat16()
    return {
        "matmul": lambda: square @ square,
        "linear": lambda: F.linear(wide, weight),
        "conv2d": lambda: F.conv2d(image, kernel, padding=1),
        "conv2d_bfloat16": lambda: F.conv2d(image_b, kernel_b, padding=1),
        "layer_norm": lambda: F.layer_norm(rows, (512,)),
        "softmax": lambda: torch.softmax(rows, -1),
        "attention": lambda: F.scaled_dot_product_attention(heads, heads, heads),
        "embedding": lambda: F.embedding(at, table),
        "index": lambda: table[at],
        "adam_step": adam_step(torch),
    }


def adam_step(torch):
    parameters = [torch.nn.Parameter(torch.randn(64, 64)) for _ in range(8)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return torch.optim.Adam(parameters, lr=1e-3).step


def pair(job, what):
    """A call that this process and a fork of it do together, in a group of two of this release; and its end."""
    import os

    import torch
    import torch.distributed as dist

    orders, order = os.pipe()
    meet = "file://" + job.path("group%d" % job.rank)
    other = os.fork()
    dist.init_process_group("gloo", init_method=meet, rank=int(other == 0), world_size=2)
    if what == "ddp_step":
        torch.manual_seed(0)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
        data, optimizer = torch.randn(16, 64), torch.optim.SGD(model.parameters(), lr=1e-3)

        def call():
            optimizer.zero_grad()
            model(data).sum().backward()
            optimizer.step()
    else:
        tensor = torch.zeros({"all_reduce_1k": 256, "all_reduce_4m": 1 << 20}[what])

        def call():
            dist.all_reduce(tensor)

    if other == 0:
        os.close(order)
        while os.read(orders, 1):
            call()
        os._exit(0)
    os.close(orders)

    def both():
        os.write(order, b"x")
        call()

    def end():
        os.close(order)
        os.waitpid(other, 0)

    return both, end


def importing():
    """The processor seconds of an import of torch in a fresh interpreter."""
    import subprocess
    import sys

    code = "import time; began = time.process_time(); import torch; print(time.process_time() - began)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return float(done.stdout.split()[-1])


def per_call(call, calls, clock):
    """Seconds of one call, the fastest of the samples."""
    best = None
    for _ in range(SAMPLES):
        began = clock()
        for _ in range(calls):
            call()
        took = (clock() - began) / calls
        best = took if best is None or took < best else best
    return best


class Turns:
    """Whose turn it is: a file that grows by one byte with each turn that ended, in the order A B B A."""

    def __init__(self, job):
        self.path, self.rank, self.timeout = job.path("turns"), job.rank, job.timeout

    def ended(self):
        """How many turns have ended."""
        import os

        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def wait(self, number):
        """Return when `number` turns have ended."""
        import time

        until = time.monotonic() + self.timeout
        while self.ended() < number:
            if time.monotonic() > until:
                raise TimeoutError("the other release did not end turn %d within %s s" % (number, self.timeout))
            time.sleep(0.0005)

    def mine(self, count):
        """The numbers of this rank's turns."""
        return [number for number in range(count) if (number % 4 in (1, 2)) == (self.rank == 1)]

    def end(self):
        """This turn is over."""
        with open(self.path, "ab") as file:
            file.write(b"x")


def lacks(job):
    from torchskew_kit import refusal

    calls = operators()
    found = {name: refusal(calls[name]) for name in LACKING}
    found.update({name + "_all": found[name] for name in LACKING if name in ALL_THREADS})
    return {name: why for name, why in found.items() if why}


def prepared(job):
    """The measurement of one turn, and what ends it."""
    import contextlib
    import os
    import time

    import torch

    what = job.params["what"]
    if what == "import":
        importing()
        return importing, int
    every = job.variant.endswith("_all")
    if every:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    elif what in OPERATORS:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with contextlib.suppress(OSError):  # only root may
        os.setpriority(os.PRIO_PROCESS, 0, -15)  # for shorter waits between turns
    call, end = pair(job, what) if what in PAIRS else (operators()[what], int)
    clock = time.perf_counter if every or what in PAIRS else time.process_time
    if job.rank == 0:
        took = min(per_call(call, 2, time.perf_counter) for _ in range(5))
        job.post("calls", max(1, int(SAMPLE_SECONDS / took)))
    calls = job.fetch("calls")
    per_call(call, calls, clock)
    return lambda: per_call(call, calls, clock), end


def rank(job):
    import gc

    from torchskew_kinds import need_one_kind

    if job.skipped(job.variant):
        job.unsupported(job.skip[job.variant])
    if job.params["what"] == "import":
        need_one_kind(job, [1 - job.rank])
    measure, end = prepared(job)
    count = job.params["quads"]
    job.post("ready%d" % job.rank, True)
    job.fetch("ready%d" % (1 - job.rank))
    gc.disable()
    turns, seconds = Turns(job), []
    for number in turns.mine(4 * count):
        turns.wait(number)
        seconds.append(measure())
        turns.end()
    turns.wait(4 * count)
    end()
    return {"seconds": seconds}


def judge(reports, world):
    from torchskew.judging.intervals import change_of_pairs, opinion, quads

    if None in reports:
        return {}
    wanted = 2 * world.params["quads"]
    short = {n: "it measured %d turns of %d" % (len(r["seconds"]), wanted)
             for n, r in enumerate(reports) if len(r["seconds"]) != wanted}  # fmt: skip
    if short:
        return short
    change = change_of_pairs(quads(reports[0]["seconds"], reports[1]["seconds"]), world.seed)
    return opinion(change, world.params["slower"], ("slower", "faster"))
