"""JUnit as its readers take it: Jenkins' structure, counts that agree, no character that XML forbids."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome
from torchskew.report.junit import write_junit
from torchskew.report.logs import Logs, Tail, Written

from tests import factories

# What junit-10.xsd of Jenkins' xUnit plugin allows, as far as we use it.
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "property": set(),
    "testcase": {"skipped", "error", "failure", "system-out"},
    "skipped": set(),
    "error": set(),
    "failure": set(),
    "system-out": set(),
}
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "skipped": {"type", "message"},
    "error": {"type", "message"},
    "failure": {"type", "message"},
    "system-out": set(),
}


def written(tmp_path, run, decision, logs=None):
    write_junit(run, decision, Written(logs=logs or Logs()), tmp_path / "junit.xml")
    return ET.parse(tmp_path / "junit.xml").getroot()


@pytest.mark.parametrize("made", [factories.good_run, factories.bad_run])
def test_structure_and_counts_are_what_readers_check(tmp_path, made):
    root = written(tmp_path, *made())
    for node in root.iter():
        assert {child.tag for child in node} <= CHILDREN[node.tag]
        assert set(node.attrib) <= ATTRIBUTES[node.tag]
    for suite in [root, *root.iter("testsuite")]:
        assert int(suite.get("tests")) == len([*suite.iter("testcase")])
        assert int(suite.get("failures")) == len([*suite.iter("failure")])
        assert int(suite.get("errors")) == len([*suite.iter("error")])
        assert suite.tag == "testsuites" or int(suite.get("skipped", "0")) == len([*suite.iter("skipped")])


def cases(root):
    return {case.get("name"): case for case in root.iter("testcase")}


def test_a_known_failure_is_skipped_with_its_reason_and_link(tmp_path):
    case = cases(written(tmp_path, *factories.good_run()))["rendezvous_tcp/2.1.2,2.2.2/guard-off/docker"]
    assert case.find("skipped").get("message") == (
        "known failure: the store's wire format changed in 2.2 (https://github.com/pytorch/pytorch/issues/24273)"
    )


def test_a_regression_fails_an_unknown_cell_errs_a_blocked_one_is_skipped(tmp_path):
    found = cases(written(tmp_path, *factories.bad_run()))
    regression = found["all_reduce/2.6.0,2.13.0/guard-off/docker"].find("failure")
    assert regression.get("type") == "regression"
    assert "got FAIL (OK/WRONG)" in regression.get("message")
    assert "--no-cache" in regression.text
    assert found["rendezvous_file/2.2.2,2.1.2/guard-off/docker"].find("failure").get("type") == "unexpected-pass"
    assert found["barrier/2.13.0,2.6.0/guard-off/docker"].find("error").get("type") == "unknown"
    assert found["all_reduce/2.1.2,2.2.2/guard-off/docker"].find("skipped").get("message").startswith("blocked:")
    assert [child.tag for child in found["barrier/2.6.0,2.6.0/guard-off/docker"]] == ["system-out"]


def test_facts_of_every_rank_are_in_the_case(tmp_path):
    case = cases(written(tmp_path, *factories.good_run()))["rendezvous_tcp/2.1.2,2.2.2/guard-off/docker"]
    lines = case.find("system-out").text.splitlines()
    assert {"rank0.outcome=TIMEOUT", "rank1.outcome=OPAQUE", "rank1.torch=2.2.2+cpu"} <= set(lines)


def test_problems_of_the_baseline_fail_too(tmp_path):
    root = written(tmp_path, *factories.bad_run())
    assert [suite.get("name") for suite in root][-1] == "torchskew.baseline"


def test_whatever_a_rank_printed_stays_xml(tmp_path):
    result = factories.result(factories.cell(), Outcome.OPAQUE, Outcome.OPAQUE)
    nasty = "\x00\x1b[31m ]]> <a> & \ud800 \ufffe"
    ranks = tuple(replace(one, error=ErrorFacts(type="<E>", text=nasty)) for one in result.ranks)
    found = (replace(result, reason=nasty, attempts=(replace(result.attempts[0], ranks=ranks),)),)
    decision = factories.decision(found)
    decision = replace(decision, checked=(replace(decision.checked[0], status="regression"),))
    logs = Logs(tails={(result.cell.id, 0): Tail(log=nasty, stacks=nasty)})
    [failure] = written(tmp_path, factories.run(found), decision, logs).iter("failure")
    assert r"\x00\x1b[31m ]]> <a> & \xd800 \xfffe" in failure.text
