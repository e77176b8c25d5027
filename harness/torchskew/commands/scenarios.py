"""What scenarios there are: the list of `torchskew scenarios` and the page docs/scenarios.md, from one source."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torchskew.model.outcomes import Kind

if TYPE_CHECKING:
    from torchskew.planning.scenario import Scenario

PAGE = Path("docs/scenarios.md")
WIDTH = 120
KINDS = {
    Kind.GROUP: "Groups: all ranks at once",
    Kind.HANDOVER: "Handovers: one rank after another, through files",
    Kind.SOLO: "One version alone",
}
HEAD = """\
# Scenarios

<!-- Written by `torchskew scenarios --page docs/scenarios.md`; change the scenarios, not this page. -->

One promise a file, in `scenarios/`. `torchskew scenarios` prints this list; `torchskew matrix --scenarios NAME` runs
one. What a version lacks is found by asking it and shows as UNSUPPORTED, in its own words; "releases" is what is known
before.
"""
HELP = """\
List the scenarios: promise, ranks, what they need, releases they apply to.

  torchskew scenarios                             one line each
  torchskew scenarios ddp                         everything about one
  torchskew scenarios --page docs/scenarios.md    write the page anew"""


def ranks(scenario: Scenario) -> str:
    """The sizes of world it runs in: `2+`, `2-32`, `1`."""
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
    """A line for each scenario, in columns, grouped by how ranks are started."""
    known = list(scenarios)
    wide = max((len(one.name) for one in known), default=0)
    lines: list[str] = []
    for kind, title in KINDS.items():
        found = [one for one in known if one.kind is kind]
        if found:
            lines += ["", title, f"  {'scenario':{wide}}  ranks  releases  promise"]
            lines += [_line(one, wide) for one in found]
    return "\n".join(lines[1:]) + f"\n\n{len(known)} scenarios. torchskew scenarios NAME tells more about one.\n"


def _line(scenario: Scenario, wide: int) -> str:
    start = f"  {scenario.name:{wide}}  {ranks(scenario):5}  {releases(scenario):8}  "
    return start + textwrap.shorten(scenario.promise, max(WIDTH - len(start), 20), placeholder=" …")


def details(scenario: Scenario) -> str:
    """Everything about one scenario, for a terminal."""
    named = {
        "file": f"scenarios/{scenario.name}.py",
        "ranks": f"{ranks(scenario)} ({scenario.kind})",
        "releases": releases(scenario),
        "needs": ", ".join(scenario.needs) or "nothing more",
        "variants": ", ".join(variants(scenario)) or "none",
        "after": ", ".join(scenario.after) or "nothing",
        "tiers": ", ".join(scenario.tiers),
    }
    facts = "\n".join(f"{name:9} {value}" for name, value in named.items())
    return f"{scenario.name}: {scenario.doc}\n\n{facts}\n"


def page(scenarios: Iterable[Scenario]) -> str:
    """docs/scenarios.md: a table for each kind, then what each scenario says of itself."""
    known = list(scenarios)
    parts = [HEAD]
    for kind, title in KINDS.items():
        found = [one for one in known if one.kind is kind]
        if found:
            parts.append(f"\n## {title}\n\n| scenario | promise | ranks | needs | releases |\n|---|---|---|---|---|\n")
            parts += [_row(one) for one in found]
    parts.append("\n## In their own words\n")
    parts += [_section(one) for one in known]
    return "".join(parts)


def _row(scenario: Scenario) -> str:
    link = f"[{scenario.name}](#{scenario.name})"
    cells = (link, scenario.promise, ranks(scenario), ", ".join(scenario.needs) or "-", releases(scenario))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _section(scenario: Scenario) -> str:
    names = variants(scenario)
    of = f"\n\nVariants: {', '.join(f'`{name}`' for name in names)}." if names else ""
    after = f"\n\nBlocked where {', '.join(f'`{one}`' for one in scenario.after)} failed." if scenario.after else ""
    return f"\n### {scenario.name}\n\n{scenario.doc}{of}{after}\n"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`torchskew scenarios`."""
    parser = commands.add_parser(
        "scenarios",
        help="list the scenarios with their promises",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="everything about this one")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the markdown page instead")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print or write; 4 when there is no scenario of that name."""
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
