"""Pulls images; tries again only where the daemon or registry reports something that passes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torchskew.errors import ProvisionError
from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError, ImageDaemon

if TYPE_CHECKING:
    from tenacity import RetryCallState

ATTEMPTS = 4
_FIRST, _LONGEST, _JITTER = 0.5, 8.0, 1.0  # seconds between two attempts
_UNREACHABLE = (
    "The registry can't be reached from the daemon's machine: check its network, DNS and proxy, or load the image "
    "there (`docker load`)."
)
_LOGIN = "Log in with `docker login` as the user who runs torchskew, and check the reference."
_FIXES = (
    (("no such host", "network is unreachable", "no route"), _UNREACHABLE),
    (("denied", "unauthorized", "authentication", "no basic auth"), _LOGIN),
    (("x509", "certificate"), "Let the daemon's machine trust the registry's certificate."),
    (("not found", "manifest unknown", "unknown"), "Check that name, tag and digest exist in the registry."),
    (("no space left",), "Free space where the daemon keeps its images (`docker system df`)."),
)


class Say(Protocol):
    """Reports a step to the person, with bytes done of total."""

    def __call__(self, text: str, done: int = 0, total: int = 0) -> None:
        """One step."""


def pull(daemon: ImageDaemon, reference: str, say: Say) -> str:
    """The id of a pulled image, after at most four attempts with growing, random pauses.

    Raises:
        ProvisionError: the last answer, how many attempts, and the fix.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

    attempts: list[str] = []

    def before_sleep(state: RetryCallState) -> None:
        assert state.outcome is not None
        attempts.append(str(state.outcome.exception()))
        say(f"pulling {reference} again, attempt {state.attempt_number + 1} of {ATTEMPTS}")

    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=_FIRST, max=_LONGEST) + wait_random(0, _JITTER),
        retry=retry_if_exception(lambda error: isinstance(error, DaemonError) and error.transient),
        before_sleep=before_sleep,
        reraise=True,
    )
    say(f"pulling {reference}")
    try:
        return retrying(daemon.pull, reference, say)
    except DaemonGoneError:
        raise
    except DaemonError as error:
        tried = f" in {len(attempts) + 1} attempts" if attempts else ""
        raise ProvisionError(f"{reference} can't be pulled{tried}: {error.reason}. {_fix(error.reason)}") from error


def _fix(text: str) -> str:
    lowered = text.lower()
    fixes = (fix for needles, fix in _FIXES if any(needle in lowered for needle in needles))
    return next(fixes, "Try `docker pull` with that reference on the daemon's machine.")
