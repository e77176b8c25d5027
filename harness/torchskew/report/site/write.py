"""Writes the site: one page that carries its data, and the data as files for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from torchskew.report import catalogue
from torchskew.report.embedded import script_json
from torchskew.report.site import facts
from torchskew.report.site.page_data import Contents, page_data

SCHEMA = "survey.schema.json"


def write_site(contents: Contents, folder: Path) -> tuple[Path, ...]:
    """The files of the site, the page to open first. OSError: the folder can't be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(
        rendered("site", ("site", "explain"), page_data(contents)), encoding="utf-8", errors="backslashreplace"
    )
    data = folder / "survey.json"
    data.write_text(facts.dumps(contents.survey), encoding="utf-8")
    schema = write_schema(folder)
    copies = []
    for source in (catalogue.FILE, catalogue.SCHEMA):
        copies.append(folder / source.name)
        copies[-1].write_bytes(source.read_bytes())
    return page, data, schema, *copies


def write_schema(folder: Path) -> Path:
    """The schema of survey.json, beside it."""
    path = folder / SCHEMA
    path.write_text(own(SCHEMA), encoding="utf-8")
    return path


def own(name: str) -> str:
    """The text of a file that belongs to this package."""
    return (files("torchskew.report.site") / name).read_text(encoding="utf-8")


def rendered(name: str, scripts: Sequence[str], data: object) -> str:
    """A page of this package, with its style and its scripts inside it, and its data as JSON."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"page": own(f"{name}.html")}), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = own("shared.css") + own(f"{name}.css")
    script = "".join(own(f"{each}.js") for each in ("shared", *scripts)) + "start();\n"
    return environment.get_template("page").render(style=style, script=script, data=script_json(data))
