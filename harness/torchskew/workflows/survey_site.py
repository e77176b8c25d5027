"""The site about releases: out of recorded surveys or the committed facts, and what the declaration leads to expect."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path

from torchskew.declaration.declare import all_for_runtime
from torchskew.errors import ConfigError
from torchskew.guard.table import parse
from torchskew.model.survey import Survey
from torchskew.planning.plan import make_plan
from torchskew.releases import eras
from torchskew.releases.advice import Advice, Question, advise
from torchskew.report.catalogue import catalogue
from torchskew.report.compatibility import page
from torchskew.report.site import facts
from torchskew.report.site.expected import Expected, expected_of
from torchskew.report.site.page_data import Contents, releases_of
from torchskew.report.site.write import write_schema, write_site
from torchskew.workflows.inputs import read_declaration, read_scenarios
from torchskew.workflows.records import record_in
from torchskew.workflows.survey_runs import chosen_runs


def facts_of(out: Path, run_ids: Sequence[str], path: Path | None) -> Survey:
    """The facts of a file, where one is given and no run is named; else those of recorded runs."""
    return committed(path) if path is not None and not run_ids else surveyed(out, run_ids)


def surveyed(out: Path, run_ids: Sequence[str]) -> Survey:
    """The facts of these recorded runs; where none is named, of the newest complete survey of each runtime."""
    with record_in(out) as record:
        runs = [record.load(run_id) for run_id in chosen_runs(record, run_ids)]
    return facts.survey_of(runs, surfaces(), (socket.gethostname(),))


def committed(path: Path) -> Survey:
    """The facts of a file. ConfigError: there is no such file."""
    try:
        return facts.loads(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        fix = "Measure first (`make survey`), name recorded runs, or give another --facts FILE."
        raise ConfigError(f"{path}: there are no facts of a survey. {fix}") from None


def save(survey: Survey, path: Path) -> Survey:
    """Merge facts into those of a file, which is written anew with its schema beside it; all of them."""
    whole = facts.merged(committed(path), survey) if path.exists() else survey
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(facts.dumps(whole), encoding="utf-8")
    write_schema(path.parent)
    return whole


def write_page(survey: Survey, path: Path | None) -> None:
    """Write the short page into a file, or to the terminal."""
    text = page(survey, catalogue())
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


def build(survey: Survey, declaration: Path, folder: Path) -> None:
    """Write the site, and say what it is made of."""
    expected = tuple(_expected(declaration)) if declaration.exists() else ()
    promises = {name: each.promise for name, each in read_scenarios().items()}
    names = releases_of(survey, expected)
    contents = Contents(
        survey=survey, expected=expected, catalogue=catalogue(), promises=promises, advice=tuple(_advice(names))
    )
    index, *_ = written = write_site(contents, folder)
    size = sum(path.stat().st_size for path in written)
    sys.stdout.write(f"wrote {index} · {len(names)} releases · {size / 1e6:.1f} MB in {len(written)} files\n")


def surfaces() -> Mapping[str, str]:
    """The surface of each scenario: the folder of its file."""
    return {name: Path(each.path).parent.name for name, each in read_scenarios().items()}


def _expected(declaration: Path) -> Iterator[Expected]:
    """The predictions of every runtime that is declared."""
    declared = read_declaration(declaration)
    for runtime, spec in declared.matrix.items():
        used = {name: declared.versions[name] for name in spec.used}
        versions = all_for_runtime(used, runtime, declaration.name)
        plan = make_plan(spec, versions, read_scenarios(), runtime)
        yield expected_of(plan, {name: version.python for name, version in versions.items()}, surfaces())


def _advice(names: Sequence[str]) -> Iterator[Advice]:
    """What is advised for each two releases, in both orders."""
    known = [name for name in names if eras.release(name) is not None and parse(name)]
    for old, new in permutations(known, 2):
        yield advise(Question(old=old, new=new), catalogue())
