"""JUnit as its readers take it: Jenkins' structure, counts that agree, no character that XML forbids."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome
from torchskew.report.findings import findings_of
from torchskew.report.junit import write_junit
from torchskew.report.logs import Logs, Tail, Written

from tests import factories

# What the two schemas have in common, as far as we use it: junit-10.xsd of Jenkins' xUnit plugin, and JUnit.xsd
# of Ant's report, which demands every attribute and an order of elements.
ORDER = {
    "testsuites": "(testsuite )*",
    "testsuite": "properties (testcase )*system-out system-err ",
    "properties": "(property )*",
    "testcase": "((skipped|error|failure) )?",
}
SUITE = {
    "name": r"\S+",
    "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "hostname": r"\S+",
    "tests": r"\d+",
    "failures": r"\d+",
    "errors": r"\d+",
    "skipped": r"\d+",
    "time": r"\d+\.\d+",
    "id": r"\d+",
    "package": r"\S+",
}
CASE = {"name": r"\S.*", "classname": r"\S+", "time": r"\d+\.\d+"}
END = {"type": r"\S+", "message": "(?s).*"}
ATTRIBUTES = {
    "testsuite": SUITE,
    "testcase": CASE,
    "property": {"name": r"\S+", "value": ".*"},
    "skipped": {"message": END["message"]},
    "error": END,
    "failure": END,
}


def written(tmp_path, run, decision, logs=None):
    shared = Written(findings=findings_of(run, decision), logs=logs or Logs())
    write_junit(run, decision, shared, tmp_path / "junit.xml")
    return ET.parse(tmp_path / "junit.xml").getroot()


@pytest.mark.parametrize("made", [factories.good_run, factories.bad_run])
def test_elements_and_attributes_are_what_both_schemas_demand(tmp_path, made):
    for node in written(tmp_path, *made()).iter():
        assert re.fullmatch(ORDER.get(node.tag, ""), "".join(f"{child.tag} " for child in node)), node.tag
        wanted = ATTRIBUTES.get(node.tag, {})
        assert set(node.attrib) == set(wanted)
        assert all(re.fullmatch(wanted[name], value) for name, value in node.attrib.items()), node.attrib


@pytest.mark.parametrize("made", [factories.good_run, factories.bad_run])
def test_counts_are_what_readers_check(tmp_path, made):
    root = written(tmp_path, *made())
    for suite in root.iter("testsuite"):
        assert int(suite.get("tests")) == len([*suite.iter("testcase")])
        assert int(suite.get("failures")) == len([*suite.iter("failure")])
        assert int(suite.get("errors")) == len([*suite.iter("error")])
        assert int(suite.get("skipped")) == len([*suite.iter("skipped")])
    assert [suite.get("id") for suite in root] == [str(number) for number in range(len(root))]


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
    assert [*found["barrier/2.6.0,2.6.0/guard-off/docker"]] == []


def test_facts_of_every_rank_are_in_the_output_of_the_suite(tmp_path):
    root = written(tmp_path, *factories.good_run())
    [suite] = [suite for suite in root if suite.get("name") == "torchskew.rendezvous_tcp"]
    cell = "rendezvous_tcp/2.1.2,2.2.2/guard-off/docker"
    lines = suite.find("system-out").text.splitlines()
    lines = lines[lines.index(cell) :]
    lines = lines[: next(number for number, line in enumerate(lines) if number and "=" not in line)]
    assert {"rank0.outcome=TIMEOUT", "rank1.outcome=OPAQUE", "rank1.torch=2.2.2+cpu"} <= set(lines)
    assert f"rerun=torchskew matrix --only {cell} --no-cache" in lines


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
