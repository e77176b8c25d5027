"""What KubeRay's RayCluster v1 takes, of the fields that a fleet may need: written from its Go types, not copied.

Any other field is refused, so that a misspelt one is. Quantities are Kubernetes' own: digits with a unit.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
WORDS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2147483647}
FLAG: Schema = {"type": "boolean"}
QUANTITY: Schema = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$"}]
}
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}


def record(required: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object with these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def several(of: Schema) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": of, "minItems": 1}


METADATA = record(name=NAME, namespace=NAME, labels=WORDS, annotations=WORDS)
VARIABLE = record(("name",), name=TEXT, value={"type": "string"})
MOUNT = record(("name", "mountPath"), name=NAME, mountPath={"type": "string", "pattern": "^/"}, readOnly=FLAG)
CONTAINER = record(
    ("name", "image"),
    name=NAME,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    env=several(VARIABLE),
    resources=record(limits=QUANTITIES, requests=QUANTITIES),
    volumeMounts=several(MOUNT),
)
VOLUME = record(
    ("name",),
    name=NAME,
    emptyDir=record(sizeLimit=QUANTITY, medium={"enum": ["", "Memory"]}),
    persistentVolumeClaim=record(("claimName",), claimName=NAME, readOnly=FLAG),
)
POD = record(
    ("containers",),
    containers=several(CONTAINER),
    volumes=several(VOLUME),
    nodeSelector=WORDS,
    serviceAccountName=NAME,
    hostNetwork=FLAG,
)
TEMPLATE = record(("spec",), metadata=METADATA, spec=POD)
HEAD = record(("rayStartParams", "template"), rayStartParams=WORDS, template=TEMPLATE, enableIngress=FLAG)
WORKERS = record(
    ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    rayStartParams=WORDS,
    template=TEMPLATE,
)
RAY_CLUSTER = record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=METADATA,
    spec=record(
        ("headGroupSpec",),
        rayVersion=TEXT,
        headGroupSpec=HEAD,
        workerGroupSpecs=several(WORKERS),
        enableInTreeAutoscaling=FLAG,
        suspend=FLAG,
    ),
)
