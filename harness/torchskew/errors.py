"""One error root; its kinds say who must act: the user, the machine, the version under test, or us."""

from __future__ import annotations


class HarnessError(Exception):
    """Root of every error torchskew raises on purpose; its text says what, why and the fix."""

    exit_code = 3


class ConfigError(HarnessError):
    """The declaration, a pattern or an option is wrong: the user fixes it. All problems at once.

    problems: one line each, with the whole path of the field.
    """

    exit_code = 4

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NothingSelectedError(ConfigError):
    """The selection holds no cell: exit 5, never green."""

    exit_code = 5


class ProvisionError(HarnessError):
    """A version's environment could not be made: its cells become UNKNOWN with this reason."""

    exit_code = 1


class MachineError(HarnessError):
    """The machine failed us (a daemon, a port, the disk): retried where that helps, never a verdict."""

    exit_code = 1


class AgentError(MachineError):
    """A warm agent died or broke its protocol; the cell's attempt is kept and run again."""


class RecordError(HarnessError):
    """The record can't be read or written: full disk, a higher schema, another plan."""

    exit_code = 1


class DamagedRecordError(RecordError):
    """A record can't be decoded. problem: the path of the field and what is wrong with it."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}. The record is damaged, or was not written by torchskew. "
            "Move it away and run again, or restore a backup."
        )
        self.problem = problem


class InterruptedRunError(HarnessError):
    """Ctrl-C: what had finished is in the record, `--resume` goes on."""

    exit_code = 2
