"""What to expect of an upgrade, from the facts alone."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence

from torchskew.errors import ConfigError
from torchskew.releases import eras
from torchskew.releases.advice import Advice, Question, advise, surface_names
from torchskew.report.advice import command
from torchskew.report.catalogue import catalogue


def advice_for(old: str, new: str, uses: Sequence[str]) -> Advice:
    """The advice. ConfigError: a release or a surface that nobody knows, with the nearest right name."""
    for option, release in (("--from", old), ("--to", new)):
        if eras.release(release) is None:
            raise ConfigError(f"advise: {option} {release!r} is no release since 1.7. Write one such as 2.6.0.")
    names = surface_names(catalogue())
    for use in uses:
        if use not in names:
            near = difflib.get_close_matches(use, names, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}."
            raise ConfigError(f"advise: --uses {use!r} is unknown. {hint}")
    return advise(Question(old=old, new=new, uses=tuple(uses)), catalogue())


def proof_of(advice: Advice) -> list[str]:
    """The words of the rehearsal that proves an advice, the command first."""
    return shlex.split(command(advice))[1:]
