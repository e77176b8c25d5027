"""A mixed group saves a distributed checkpoint together, and loads one together.

`saved`: every rank hands dcp.save one tensor that all of them have and one of its own. The oracle is the list of keys
in the metadata, which rank 0 reads again: those of all ranks. `loaded`: before they meet, each rank writes tensors into
a folder of its own, with its own release; then all load together, each from its own folder, so that no rank reads what
another release wrote. The oracle is the formula of the elements. What fails here is what ranks tell each other while
they save or load; checkpoint_dcp is about the files.
"""

KIND = "group"
PLACEMENT = ("together",)  # its ranks save into one folder
AFTER = ("rendezvous_tcp",)
NEEDS = ("gloo", "torch.distributed.checkpoint")
APPLIES = ">=2.0"
TIERS = ("critical", "full")
WARM = ("torch.distributed.checkpoint", "torch._dynamo")
VARIANTS = {"saved": {"params": {"way": "saved"}}, "loaded": {"params": {"way": "loaded"}}}

SIZES = {"first": 5, "second": 9}


def values(name):
    """The elements of one tensor."""
    return [2.5 * k - len(name) for k in range(SIZES[name])]


def content(fresh):
    """What is loaded; fresh: the same places before."""
    import torch

    return {name: torch.zeros(size) if fresh else torch.tensor(values(name)) for name, size in SIZES.items()}


def save(state, path, alone=False):
    """Write; dcp.save took the place of save_state_dict in 2.2. Where there is no group, 2.3 and older must be told."""
    import inspect

    import torch.distributed.checkpoint as dcp

    write = dcp.save if hasattr(dcp, "save") else dcp.save_state_dict
    options = {"no_dist": True} if alone and "no_dist" in inspect.signature(write).parameters else {}
    write(state, storage_writer=dcp.FileSystemWriter(path), **options)


def load(state, path):
    """Read into the places that state holds."""
    import torch.distributed.checkpoint as dcp

    (dcp.load if hasattr(dcp, "load") else dcp.load_state_dict)(state, storage_reader=dcp.FileSystemReader(path))


def lacks(job):
    import tempfile

    from torchskew_kit import refusal

    def together():
        save(content(fresh=False), folder)
        load(content(fresh=True), folder)

    job.rendezvous()
    with tempfile.TemporaryDirectory() as folder:
        why = refusal(together)
    return dict.fromkeys(VARIANTS, why) if why else {}


def rank(job):
    job.need(job.variant)
    return {"cases": globals()[job.variant](job)}


def saved(job):
    import torch
    import torch.distributed.checkpoint as dcp

    job.rendezvous()
    folder = job.path("checkpoint")
    save({"shared": torch.arange(4.0), "of rank %d" % job.rank: torch.tensor([float(job.rank)])}, folder)
    keys = sorted(dcp.FileSystemReader(folder).read_metadata().state_dict_metadata) if job.rank == 0 else []
    return {"keys": keys}


def loaded(job):
    folder = job.path("checkpoint.%d" % job.rank)
    save(content(fresh=False), folder, alone=True)
    job.rendezvous()
    state = content(fresh=True)
    load(state, folder)
    return {name: tensor.tolist() for name, tensor in state.items()}


def judge(reports, world):
    from torchskew.judging.oracle import compare

    everything = sorted(["shared", *("of rank %d" % each for each in range(world.size))])

    def expected(rank):
        if world.params["way"] == "loaded":
            return {name: values(name) for name in SIZES}
        return {"keys": everything if rank == 0 else []}

    return compare(reports, world, expected)
