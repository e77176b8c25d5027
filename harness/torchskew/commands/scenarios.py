"""`torchskew scenarios`: lists the scenarios, and writes docs/scenarios.md from the same source."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torchskew.commands import arguments
from torchskew.model.outcomes import Kind

if TYPE_CHECKING:
    from torchskew.planning.scenario import Scenario

PAGE = Path("docs/scenarios.md")
WIDTH = 120
COLUMNS = "| scenario | promise | kind | ranks | needs | releases |\n|---|---|---|---|---|---|\n"
KINDS = {
    Kind.GROUP: "Groups: all ranks at once",
    Kind.HANDOVER: "Handovers: one rank after another, through files",
    Kind.SOLO: "One version alone",
}
HEAD = """\
# Scenarios

<!-- Written by `torchskew scenarios --page docs/scenarios.md`; change the scenarios, not this page. -->

Each file in `scenarios/` states one promise. `torchskew scenarios` prints this list, and
`torchskew matrix --scenarios NAME` runs one of them. A group runs all ranks at once; a handover runs one rank after
another, through files; a solo scenario runs one version by itself. The releases column shows what is known beforehand.
Each version is also asked what it lacks, and its answer is reported as UNSUPPORTED.
"""
HELP = """\
List the scenarios: the promise, the number of ranks, what is needed, and the releases they apply to.

  torchskew scenarios                             one line each
  torchskew scenarios ddp                         everything about one scenario
  torchskew scenarios --page docs/scenarios.md    rewrite the page"""


def ranks(scenario: Scenario) -> str:
    """The world sizes it runs in: `2+`, `2-32`, `1`."""
    smallest, largest = scenario.world
    if largest is None:
        return f"{smallest}+"
    return str(smallest) if smallest == largest else f"{smallest}-{largest}"


def releases(scenario: Scenario) -> str:
    """The releases it applies to."""
    return str(scenario.applies) or "all"


def variants(scenario: Scenario) -> tuple[str, ...]:
    """The names of its variants."""
    return tuple(variant.name for variant in scenario.variants if variant is not None)


def listing(scenarios: Iterable[Scenario]) -> str:
    """One line per scenario, in columns, grouped by how the ranks are started."""
    known = list(scenarios)
    wide = max((len(scenario.name) for scenario in known), default=0)
    lines: list[str] = []
    for kind, title in KINDS.items():
        members = [scenario for scenario in known if scenario.kind is kind]
        if members:
            lines += ["", title, f"  {'scenario':{wide}}  ranks  releases  promise"]
            lines += [_line(scenario, wide) for scenario in members]
    return "\n".join(lines[1:]) + f"\n\n{len(known)} scenarios. torchskew scenarios NAME shows the details.\n"


def _line(scenario: Scenario, wide: int) -> str:
    start = f"  {scenario.name:{wide}}  {ranks(scenario):5}  {releases(scenario):8}  "
    return start + textwrap.shorten(scenario.promise, max(WIDTH - len(start), 20), placeholder=" …")


def details(scenario: Scenario) -> str:
    """Everything about one scenario, for a terminal."""
    named = {
        "file": shown(Path(scenario.path)),
        "ranks": f"{ranks(scenario)} ({scenario.kind})",
        "releases": releases(scenario),
        "needs": ", ".join(scenario.needs) or "nothing else",
        "variants": ", ".join(variants(scenario)) or "none",
        "after": ", ".join(scenario.after) or "nothing",
        "tiers": ", ".join(scenario.tiers),
    }
    facts = "\n".join(f"{name:9} {value}" for name, value in named.items())
    return f"{scenario.name}: {scenario.doc}\n\n{facts}\n"


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def page(scenarios: Iterable[Scenario]) -> str:
    """docs/scenarios.md: a table for each folder, then the docstring of each scenario."""
    known = list(scenarios)
    folders: dict[str, list[Scenario]] = {}
    for scenario in known:
        folders.setdefault(Path(scenario.path).parent.name, []).append(scenario)
    parts = [HEAD]
    for name, members in sorted(folders.items()):
        parts.append(f"\n## {name.capitalize()}\n\n{COLUMNS}")
        parts += [_row(scenario) for scenario in members]
    parts.append("\n## Details\n")
    parts += [_section(scenario) for scenario in known]
    return "".join(parts)


def _row(scenario: Scenario) -> str:
    link = f"[{scenario.name}](#{scenario.name})"
    cells = (
        link,
        scenario.promise,
        scenario.kind,
        ranks(scenario),
        ", ".join(scenario.needs) or "-",
        releases(scenario),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _section(scenario: Scenario) -> str:
    names = variants(scenario)
    of = f"\n\nVariants: {', '.join(f'`{name}`' for name in names)}." if names else ""
    after = f"\n\nBlocked where {', '.join(f'`{name}`' for name in scenario.after)} failed." if scenario.after else ""
    return f"\n### {scenario.name}\n\n{scenario.doc}{of}{after}\n"


def add_parser(commands: arguments.Commands) -> None:
    """`torchskew scenarios`."""
    parser = commands.add_parser(
        "scenarios",
        help="list the scenarios with their promises",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="show everything about this scenario")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the markdown page instead")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print or write; exit code 4 when no scenario has that name."""
    from torchskew.workflows.inputs import read_scenarios

    known = read_scenarios()
    if args.page:
        args.page.write_text(page(known.values()), encoding="utf-8")
    elif args.name and args.name not in known:
        sys.stderr.write(f"torchskew: no scenario is called {args.name!r}. Known: {', '.join(known)}.\n")
        return 4
    else:
        sys.stdout.write(details(known[args.name]) if args.name else listing(known.values()))
    return 0
