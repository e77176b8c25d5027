"""States in files: the tensors, and which form they have, so that a reader knows what it reads."""

import torch

FORM = 1


class FormError(ValueError):
    """A file has a form that this flock does not read."""


def save(path, model, step):
    """Write a model's state and the step it is at."""
    torch.save({"form": FORM, "step": step, "model": model.state_dict()}, path)


def load(path, model):
    """Read a state into a model; returns the step. Raises FormError for a form from the future."""
    state = torch.load(path, weights_only=True)
    if state["form"] > FORM:
        raise FormError("{} has form {}, this flock reads up to {}".format(path, state["form"], FORM))
    model.load_state_dict(state["model"])
    return state["step"]
