"""Weights saved under one name of a key arrive in a model that has another name for it, or the load says so.

Libraries change the form of a layer between releases, and the keys with it; people then load with strict=False. Rank 0
saves a layer in one form, the next rank loads it into the other. `weight_norm_newer` and `weight_norm_older`: from
torch.nn.utils.weight_norm (weight_g) to torch.nn.utils.parametrizations.weight_norm
(parametrizations.weight.original0), and back; `spectral_norm_newer` and `spectral_norm_older` alike; `compiled`: from
torch.compile (_orig_mod.) to the plain module; `wrapped`: from DistributedDataParallel's names (module.) to the plain
one. `strict` is the remedy that turns silence into an error, and `renamed` the one that brings the weights over. The
oracle is the layer's output before it was saved: a layer that kept its fresh weights in silence is WRONG.
"""

KIND = "handover"
WORLD = (2, 2)
NEEDS = ("torch.nn.utils.parametrizations",)
APPLIES = ">=2.1"
TIERS = ("full",)
WARM = ("torch._dynamo.backends.debugging",)  # what torch.compile looks through for a backend: 1.4 s of processor
FORMS = {
    "weight_norm_newer": ["weight_norm", "weight_norm_parametrized"],
    "weight_norm_older": ["weight_norm_parametrized", "weight_norm"],
    "spectral_norm_newer": ["spectral_norm", "spectral_norm_parametrized"],
    "spectral_norm_older": ["spectral_norm_parametrized", "spectral_norm"],
    "compiled": ["compiled", "plain"],
    "wrapped": ["wrapped", "plain"],
    "strict": ["weight_norm_parametrized", "weight_norm"],
    "renamed": ["weight_norm_parametrized", "weight_norm"],
}
# The same in every release: only the first of these forms is converted, and only strict=True says that another was not.
ENDS = {"weight_norm_newer": "OK", "renamed": "OK", "strict": "OPAQUE"}
VARIANTS = {
    name: {"params": {"forms": forms}, "predicted": ["OK", ENDS.get(name, "WRONG")]} for name, forms in FORMS.items()
}
RENAMED = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def wrapped(layer):
    """The layer with the names that DistributedDataParallel gives; saving and running it is all that is done."""
    import torch

    return torch.nn.ModuleDict({"module": layer})


def made(form, seed):
    """A layer in one form, in evaluation."""
    import torch
    from torch.nn import utils
    from torch.nn.utils import parametrizations

    torch.manual_seed(seed)
    layer = torch.nn.Linear(3, 2).eval()
    return {
        "plain": lambda: layer,
        "compiled": lambda: torch.compile(layer, backend="eager"),
        "wrapped": lambda: wrapped(layer),
        "weight_norm": lambda: utils.weight_norm(layer),
        "weight_norm_parametrized": lambda: parametrizations.weight_norm(layer),
        "spectral_norm": lambda: utils.spectral_norm(layer).eval(),
        "spectral_norm_parametrized": lambda: parametrizations.spectral_norm(layer).eval(),
    }[form]()


def output(layer):
    import torch

    with torch.no_grad():
        layer = layer["module"] if isinstance(layer, torch.nn.ModuleDict) else layer
        return [round(value, 5) for value in layer(torch.arange(6.0).reshape(2, 3)).reshape(-1).tolist()]


def lacks(job):
    from torchskew_kit import refusal

    del job
    why = {name: refusal(lambda forms=forms: output(made(forms[0], 0))) for name, forms in FORMS.items()}
    return {name: reason for name, reason in why.items() if reason}


def rank(job):
    import torch

    job.need(job.variant)
    path = job.path("layer.pt")
    layer = made(job.params["forms"][job.rank > 0], job.rank)
    if job.rank == 0:
        torch.save(dict(layer.state_dict()), path)
        return {"cases": {"output": output(layer)}}
    state = torch.load(path)
    if job.variant == "renamed":
        state = {RENAMED.get(name, name): value for name, value in state.items()}
    layer.load_state_dict(state, strict=job.variant in ("strict", "renamed"))
    return {"cases": {"output": output(layer)}}


def judge(reports, world):
    from torchskew.judging.oracle import near

    return near(reports, world, ("output",), 1e-4)
