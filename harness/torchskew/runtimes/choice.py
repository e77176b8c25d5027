"""Which runtime a run uses, and why, in words."""

from __future__ import annotations

from torchskew.errors import MachineError
from torchskew.runtimes import runtime
from torchskew.runtimes.base import Runtime


def choose(asked: str, decided: str = "asked for") -> tuple[Runtime, str]:
    """The runtime that was asked for; auto: Docker when an engine answers, else venv. decided: who named it.

    Raises:
        MachineError: Docker was asked for, and no engine answers.
    """
    if asked not in ("auto", "docker"):
        return runtime(asked), decided
    docker = runtime("docker")
    problem = docker.answers()
    if asked == "docker":
        if problem:
            raise MachineError(f"docker: no engine answers: {problem} Start it, or use --runtime venv.")
        return docker, decided
    return (runtime("venv"), f"no Docker engine: {problem}") if problem else (docker, "a Docker engine answers")
