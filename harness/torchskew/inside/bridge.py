"""A bridge listens where the ranks of a cell meet; it is started like a rank, beside rank 0.

The harness fills SOURCES with the modules of torchskew.bridge as text, so that nothing is installed in the version.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any, Dict, NoReturn

KIND = "solo"
PACKAGES = ("torchskew", "torchskew.bridge")
SOURCES: Dict[str, str] = {}


class Carried(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that travelled, before whatever torchskew the version itself has."""

    def find_spec(self, name: str, *_: Any) -> Any:
        """Return the spec of a module that travelled; None for any other."""
        if name not in SOURCES and name not in PACKAGES:
            return None
        return importlib.util.spec_from_loader(name, self, origin=name, is_package=name in PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module's text."""
        name = module.__name__
        exec(compile(SOURCES.get(name, ""), name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - ours


def rank(job: Any) -> NoReturn:
    """Serve until the harness ends this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchskew"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Carried())
    bridge, status = map(importlib.import_module, ("torchskew.bridge.server", "torchskew.bridge.status"))
    server = bridge.Server(bridge.listen(None, job.port), status.Log())
    job.report_progress("listening")
    server.run()
    why = "the bridge stopped serving"
    raise RuntimeError(why)


def judge(*_: Any) -> dict[str, str]:
    """Nothing to judge: only its ranks are."""
    return {}
