"""The manifest for Kubernetes starts the Ray that torchskew was tested with, on nodes that are all alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torchskew

from tests.conftest import ROOT
from tests.engine.fleet.raycluster_schema import RAY_CLUSTER

yaml = pytest.importorskip("yaml")  # these two come with Ray
jsonschema = pytest.importorskip("jsonschema")


def manifest() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "examples" / "fleet" / "raycluster.yaml").read_text(encoding="utf-8")))


def problems(of: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft202012Validator(RAY_CLUSTER).iter_errors(of)
    return [f"{each.json_path}: {each.message}" for each in found]


def test_it_is_a_ray_cluster_as_kuberay_takes_it() -> None:
    assert problems(manifest()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda spec: spec["workerGroupSpecs"][0].pop("groupName"), "'groupName' is a required property"),
        (lambda spec: spec["workerGroupSpecs"][0].update(replica=3), "'replica' was unexpected"),
        (lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas="3"), "'3' is not of type 'integer'"),
        (lambda spec: spec["headGroupSpec"].pop("template"), "'template' is a required property"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update(port=6379), "6379 is not of type 'string'"),
        (lambda spec: pod(spec)["containers"][0].update(env={"A": "1"}), "is not of type 'array'"),
        (lambda spec: pod(spec)["containers"][0]["resources"]["limits"].update(memory="16 GB"), "is not valid under"),
        (lambda spec: pod(spec)["volumes"][0].update(name="The_Store"), "does not match"),
    ],
)
def test_a_field_that_kuberay_does_not_take_is_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    changed = manifest()
    change(changed["spec"])
    (problem,) = problems(changed)
    assert says in problem


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["headGroupSpec"]["template"]["spec"])


def test_its_ray_is_the_locked_one() -> None:
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked
    assert (manifest()["apiVersion"], manifest()["kind"]) == ("ray.io/v1", "RayCluster")
    assert manifest()["spec"]["rayVersion"] == locked[1]


def test_every_node_has_the_same_image_of_this_torchskew_and_a_store() -> None:
    spec = manifest()["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    (image,) = {container["image"] for pod in pods for container in pod["containers"]}
    assert image.endswith(f":{torchskew.__version__}")
    for pod in pods:
        (container,) = pod["containers"]
        (mount,) = container["volumeMounts"]
        assert {"name": "XDG_CACHE_HOME", "value": mount["mountPath"]} in container["env"]
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
        assert container["resources"]["requests"] == container["resources"]["limits"]
