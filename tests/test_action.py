"""The steps of action.yml are run as they stand there, with what GitHub would give them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from torchskew.model.versions import Environment

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow
NO_INDEX = re.compile(r"NewConnectionError|ConnectTimeout|No matching distribution|Could not find a version")


@dataclass(frozen=True)
class Step:
    """A step of the action: its name, its environment as written, its script."""

    name: str
    env: Mapping[str, str]
    run: str


def steps() -> dict[str, Step]:
    """The steps, read by their indentation; there is no YAML reader among the dependencies."""
    text = (ROOT / "action.yml").read_text().partition("\n  steps:\n")[2]
    found = {}
    for part in re.split(r"^    - ", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"name: (.+)", part)
        env = re.search(r"^      env:\n((?:        .+\n)+)", part, flags=re.MULTILINE)
        run = re.search(r"^      run: \|\n((?:        .*\n|\n)+)", part, flags=re.MULTILINE)
        assert name
        assert env
        assert run
        pairs = (line.strip().split(": ", 1) for line in env.group(1).splitlines())
        found[name.group(1)] = Step(name.group(1), dict(pairs), textwrap.dedent(run.group(1)))
    return found


def defaults() -> dict[str, str]:
    """The inputs and their defaults."""
    text = (ROOT / "action.yml").read_text().partition("\ninputs:\n")[2].partition("\noutputs:\n")[0]
    found = re.findall(r"^  ([a-z-]+):\n((?:    .+\n?)+)", text, flags=re.MULTILINE)
    return {name: (re.search(r"default: \"?([^\"\n]*)", body) or [None, ""])[1] for name, body in found}


class Job:
    """A job of a workflow in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "temp" / "torchskew" / "bin"
        self.files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.source, self.inherited = ROOT, dict(os.environ)
        (folder / "temp").mkdir()

    def run(self, step: Step, **inputs: str) -> subprocess.CompletedProcess[str]:
        given = {**defaults(), **{name.replace("_", "-"): value for name, value in inputs.items()}}
        env = {name: self._filled(value, given) for name, value in step.env.items()}
        github = {"RUNNER_TEMP": str(self.folder / "temp"), **{name: str(path) for name, path in self.files.items()}}
        script = self.folder / "step.sh"
        script.write_text(step.run)
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        whole = {**self.inherited, **github, **env}
        return subprocess.run(command, cwd=self.folder, env=whole, capture_output=True, text=True, check=False)

    def _filled(self, text: str, inputs: Mapping[str, str]) -> str:
        text = text.replace("${{ github.action_path }}", str(self.source))
        return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: inputs[found.group(1)], text)

    def checked_out(self) -> None:
        """The action's repository as GitHub hands it over: what is tracked, and nothing that a build left."""
        self.source = self.folder / "action"
        # What is installed must stand on its own, and carries no coverage.
        ours = ("PYTHON", "COVERAGE", "VIRTUAL_ENV")
        self.inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        skipped = shutil.ignore_patterns(".*", "__pycache__", "out", "tests", "benchmarks")
        shutil.copytree(ROOT, self.source, ignore=skipped)

    def as_if_installed(self) -> None:
        """This checkout's torchskew where the first step puts the installed one: in no time and with no index."""
        self.place.mkdir(parents=True)
        self.inherited["PYTHONPATH"] = str(ROOT / "harness")
        _program(self.place / "torchskew", f'exec {sys.executable} -m torchskew "$@"')

    def output(self, name: str) -> str:
        lines = dict(line.split("=", 1) for line in self.files["GITHUB_OUTPUT"].read_text().splitlines())
        return lines[name]


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.torch
def test_the_steps_install_the_actions_source_decide_summarise_and_hand_on(
    job: Job, torch_environment: Environment
) -> None:
    job.checked_out()
    done = job.run(steps()["Install torchskew"], python=sys.executable)
    if NO_INDEX.search(done.stderr) and not os.environ.get("CI"):
        pytest.skip(f"no package index answers: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    text = f'[versions]\n"2.13.0" = {{ interpreter = "{torch_environment.handle}", torch = "2.13.0" }}\n'
    (job.folder / "torchskew.toml").write_text(text)
    done = job.run(steps()["Gate"], candidate=f"interpreter:{torch_environment.handle}", against="2.13.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert job.output("decision").startswith("gate open: candidate interpreter:")
    report = job.folder / job.output("report")
    assert {"report.html", "results.json", "junit.xml", "summary.md"} <= {path.name for path in report.iterdir()}
    assert job.files["GITHUB_STEP_SUMMARY"].read_text().startswith("## ✅ torchskew: gate open")


def test_a_shut_gate_fails_the_job_and_still_summarises(job: Job) -> None:
    job.as_if_installed()
    (job.folder / "torchskew.toml").write_text('[versions]\na = { interpreter = "/nowhere/python" }\n')
    done = job.run(steps()["Gate"], candidate="interpreter:/nowhere/bin/python")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "has no environment" in job.output("decision")
    assert job.files["GITHUB_STEP_SUMMARY"].read_text().startswith("## ❌ torchskew: gate shut")


def test_a_wrong_input_is_a_usage_error_of_the_job(job: Job) -> None:
    job.as_if_installed()
    (job.folder / "torchskew.toml").write_text('[versions]\na = { interpreter = "/nowhere/python" }\n')
    done = job.run(steps()["Gate"], candidate="torch==2.15.0")
    assert done.returncode == 4
    assert "--candidate 'torch==2.15.0' must be one of pip:" in done.stderr
    assert not job.files["GITHUB_STEP_SUMMARY"].exists()


def test_every_input_reaches_a_step() -> None:
    used = " ".join(value for step in steps().values() for value in step.env.values())
    assert {name for name in defaults() if f"inputs.{name} " not in used} == set()


def test_the_gitlab_example_uses_options_that_there_are() -> None:
    from torchskew.cli import make_parser

    text = (ROOT / "docs" / "gitlab-ci.yml").read_text()
    lines = re.findall(r"bin/torchskew (gate .+?|merge .+?)(?:\|\||\n\s*artifacts)", text, flags=re.DOTALL)
    assert len(lines) == 2
    for line in lines:
        words = re.sub(r'["$]', "", line.replace("$CANDIDATE", "pip:torch==2.15.0")).split()
        assert make_parser().parse_args(words).command
