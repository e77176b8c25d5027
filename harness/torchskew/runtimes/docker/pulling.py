"""Pulls images, again when a daemon or registry says something that passes by itself, and never otherwise."""

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
_LOGIN = "Log in with `docker login` as the user who runs torchskew, and see that the reference is right."
_MENDS = (
    (("no such host", "network is unreachable", "no route"), _UNREACHABLE),
    (("denied", "unauthorized", "authentication", "no basic auth"), _LOGIN),
    (("x509", "certificate"), "Let the daemon's machine trust the registry's certificate."),
    (("not found", "manifest unknown", "unknown"), "See that name, tag and digest exist in the registry."),
    (("no space left",), "Free space where the daemon keeps its images (`docker system df`)."),
)


class Say(Protocol):
    """Tells a person the step, and bytes done of total."""

    def __call__(self, text: str, done: int = 0, total: int = 0) -> None:
        """One step."""


def pull(daemon: ImageDaemon, reference: str, say: Say) -> str:
    """The id of a pulled image; four attempts at most, jittered, only after what can pass by itself.

    Raises:
        ProvisionError: the last answer, how many attempts, and the mend.
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
        raise ProvisionError(f"{reference} can't be pulled{tried}: {error.reason}. {_mend(error.reason)}") from error


def _mend(text: str) -> str:
    lowered = text.lower()
    found = (mend for needles, mend in _MENDS if any(needle in lowered for needle in needles))
    return next(found, "Try `docker pull` with that reference on the daemon's machine.")
