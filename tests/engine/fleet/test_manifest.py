"""The manifest for Kubernetes starts the Ray that torchskew was tested with, on nodes that are all alike."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torchskew

from tests.conftest import ROOT

yaml = pytest.importorskip("yaml")  # comes with Ray


def manifest() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "examples" / "fleet" / "raycluster.yaml").read_text(encoding="utf-8")))


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
