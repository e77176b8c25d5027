"""flock over several PyTorch releases: ten tests, each runs once for every skew that its mark asks for."""

import json
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def average(job):
    import torch
    from flock.average import average_gradients

    job.rendezvous()
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 1 << 16, 5)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, job.rank + 1.0)
    average_gradients(parameters)
    return {"means": sorted({float(value) for each in parameters for value in each.grad.unique()})}


def train(job):
    import tasks

    job.rendezvous()
    return {"numbers": tasks.numbers(tasks.trained(job.rank, job.params.get("steps", 3)).model)}


def save(job):
    import torch
    from flock import files

    torch.manual_seed(7)
    model = torch.nn.Linear(2, 1)
    files.save(job.path("state.pt"), model, step=5)
    return {"weight": model.weight.tolist()}


def load(job):
    import torch
    from flock import files

    model = torch.nn.Linear(2, 1)
    return {"step": files.load(job.path("state.pt"), model), "weight": model.weight.tolist()}


def load_the_future(job):
    import torch
    from flock import files

    torch.save({"form": files.FORM + 1}, job.path("state.pt"))
    files.load(job.path("state.pt"), torch.nn.Linear(2, 1))


def start_and_write(job):
    import tasks

    model = tasks.start(job.params["file"])
    try:
        open(job.params["file"], "a").close()
    except OSError as error:
        return {"bias": model.bias.item(), "writing": error.strerror}
    return {"bias": model.bias.item(), "writing": "allowed"}


def wrapped(job):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    job.rendezvous()
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    model(torch.ones(1, 2) * job.rank).sum().backward()
    return {"gradient": model.module.weight.grad.flatten().tolist()}


@pytest.mark.torchskew(pairs="all")
def test_gradients_are_averaged_between_every_two_releases(torchskew_group):
    group = torchskew_group(average)
    assert group.right()
    assert [group.rank(number).payload["means"] for number in (0, 1)] == [[1.5], [1.5]]


@pytest.mark.torchskew(pairs="neighbours", world_size=3)
def test_three_ranks_train_to_the_same_numbers(torchskew_group):
    group = torchskew_group(train)
    assert group.right()
    assert group.rank(0).payload == group.rank(1).payload == group.rank(2).payload


@pytest.mark.torchskew(pairs="boundary", guard=[False, True])
def test_the_guard_lets_every_pair_through_that_can_talk(torchskew_group):
    assert torchskew_group(train).right()


@pytest.mark.torchskew(pairs="neighbours")
def test_a_state_is_handed_over_to_the_other_release(torchskew_group):
    group = torchskew_group.handover(save, load)
    assert group.right()
    assert group.rank(1).payload == {"step": 5, "weight": group.rank(0).payload["weight"]}


def test_a_form_from_the_future_is_refused(torchskew_group):
    group = torchskew_group(torchskew_group.declared[0], load_the_future)
    assert group.rank(0).error.type == "flock.files.FormError"
    assert "test_flock.py" in group.rank(0).log
    assert "in load_the_future" in group.rank(0).log


def test_the_script_runs_as_python_runs_it(torchskew_group):
    oldest, *_, newest = torchskew_group.declared
    arguments = ["--steps", "4", "--spawn"]
    group = torchskew_group([oldest, newest], script="../train.py", args=arguments, ranks_per_node=2)
    assert group.right()
    told = [json.loads(group.rank(number).log.splitlines()[-1]) for number in range(4)]
    lines = len((HERE.parent / "train.py").read_text().splitlines())
    assert [(each["rank"], each["LOCAL_RANK"]) for each in told] == [(0, "0"), (1, "1"), (2, "0"), (3, "1")]
    assert [(each["step"], each["lines"]) for each in told] == [(4, lines), (4, 0), (4, lines), (4, 0)]


def test_the_script_says_by_its_exit_code_what_is_wrong(torchskew_group):
    group = torchskew_group([torchskew_group.declared[0]] * 2, script="../train.py", args=["--steps", "0"])
    assert [group.rank(number).exit_code for number in (0, 1)] == [3, 3]
    assert "nothing to train" in group.rank(1).log


def test_the_script_runs_under_each_releases_own_torchrun(torchskew_group):
    oldest, *_, newest = torchskew_group.declared
    group = torchskew_group([oldest, newest], script="../train.py", launcher="torchrun", timeout=30)
    assert group.right()
    told = [json.loads(line) for number in (0, 1) for line in group.rank(number).log.splitlines() if line[:1] == "{"]
    assert [(each["RANK"], each["LOCAL_RANK"], each["WORLD_SIZE"]) for each in told] == [
        ("0", "0", "2"),
        ("1", "0", "2"),
    ]


def test_data_is_read_and_never_written(torchskew_group):
    file = HERE / "start" / "line.json"
    oldest, how = torchskew_group.declared[0], {"data": ["start"], "params": {"file": str(file)}}
    group = torchskew_group(oldest, start_and_write, keep=True, **how)  # a rank that fails stays to be looked at
    assert group.right()
    assert group.rank(0).payload == {"bias": 0.25, "writing": "Read-only file system"}


@pytest.mark.torchskew(pairs="neighbours")
def test_torchs_own_wrapper_agrees_with_the_average(torchskew_group):
    group = torchskew_group(wrapped)
    assert group.right()
    assert [group.rank(number).payload["gradient"] for number in (0, 1)] == [[0.5, 0.5], [0.5, 0.5]]
