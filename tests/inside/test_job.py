"""The job of a rank is written and read strictly: a key that is unknown, missing or mistyped is an error."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from torchskew.inside.job import JobError, JobRecord, alone, decode, encode

from tests.conftest import ROOT

FULL = replace(alone(10, {"A": "1"}), rank=1, world_size=2, variant="v", params={"n": [1]}, skew=["a", "b"], guard=True)


def test_a_job_comes_back_as_it_was_written() -> None:
    assert decode(json.loads(json.dumps(encode(FULL)))) == FULL


@pytest.mark.parametrize("name", [each.name for each in fields(JobRecord)])
def test_every_key_is_needed(name: str) -> None:
    job = encode(FULL)
    del job[name]
    with pytest.raises(JobError, match=f"missing key '{name}'$"):
        decode(job)


def test_all_problems_are_reported_together() -> None:
    job = encode(FULL) | {"tiemout": 3, "rank": True, "timeout": "5", "variant": 7}
    job.pop("skip")
    with pytest.raises(JobError) as caught:
        decode(job)
    assert str(caught.value) == (
        "the job can't be read: unknown key 'tiemout'; missing key 'skip'; 'rank' must be int, got bool; "
        "'timeout' must be float, got str; 'variant' must be str or null, got int"
    )


@pytest.mark.parametrize("value", [None, [], "job", 3])
def test_a_job_is_an_object(value: Any) -> None:
    with pytest.raises(JobError, match="must be an object, got"):
        decode(value)


def test_a_job_of_wrong_types_is_not_written() -> None:
    with pytest.raises(JobError, match="'port' must be int, got str"):
        encode(replace(FULL, port="1"))  # type: ignore[arg-type]


def test_the_protocols_page_names_every_field() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [each.name for each in fields(JobRecord) if f"`{each.name}`" not in page] == []
