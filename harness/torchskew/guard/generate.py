"""Builds the one file that jobs copy out of the modules of this package: `python -m torchskew.guard.generate`.

Every module's text is kept as it is. Imports are merged at the top, imports between the modules are dropped, and a
module's docstring becomes the comment above its part.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
FILE = HERE / "torchskew_guard.py"
PACKAGE = "torchskew.guard"
# In this order: each imports only those before it. The docstring of the last one becomes the file's.
MODULES = (
    "table", "errors", "settings", "notice", "place", "greeting", "build", "hello", "roster", "verdict", "notes",
    "refusal", "wire", "pace", "resolve", "sockets", "search", "stock", "arrivals", "usher", "relay", "bridge", "host",
    "joiner", "folder", "given_store", "exchange", "aside", "budget", "ending", "agents", "start",
    "install", "children", "launch",
)  # fmt: skip
_IMPORTS = (ast.Import, ast.ImportFrom)
HEADER = '''"""{doc}"""

# Generated from torchskew {version}, do not edit: `make guard-file` writes it from {package}, a module a part.
from __future__ import annotations

{imports}

'''


class Part(NamedTuple):
    """One module, taken apart."""

    name: str
    doc: str
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    body: str
    names: frozenset[str]


def generated(folder: Path = HERE) -> str:
    """The text of the file; ValueError where the modules can't become one file."""
    parts = [_part(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]
    _check(parts)
    outside = [node for part in parts for node in part.imports if not _inside(node)]
    header = HEADER.format(doc=parts[-1].doc, version=_version(), package=PACKAGE, imports=_merged(outside))
    return header + "\n\n".join(f"{_title(part)}{part.body}" for part in parts)


def _version() -> str:
    """The release of torchskew; read as text, because this package imports nothing of the rest."""
    text = (HERE.parent / "__init__.py").read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def _part(name: str, text: str) -> Part:
    """A module's docstring, its imports, and everything below them; ValueError where imports come anywhere else."""
    tree = ast.parse(text)
    doc = ast.get_docstring(tree, clean=False) or ""
    top = tree.body[1:] if doc else tree.body
    imports = [node for node in top if isinstance(node, _IMPORTS)]
    if top[: len(imports)] != imports:
        raise ValueError(f"{name}.py: an import below other statements. Put all imports first.")
    nested = [node for each in top[len(imports) :] for node in ast.walk(each) if isinstance(node, _IMPORTS)]
    if any(map(_inside, nested)):
        raise ValueError(f"{name}.py: an import of {PACKAGE} inside a function means nothing in one file.")
    last = imports[-1].end_lineno or 0
    body = "".join(text.splitlines(keepends=True)[last:]).strip("\n") + "\n"
    return Part(name, doc, tuple(imports), body, frozenset(_defined(top[len(imports) :])))


def _defined(statements: list[ast.stmt]) -> set[str]:
    """The names that a module's own statements define."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return names


def _inside(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether this imports something of torchskew."""
    modules = [_source(node)] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return any(module.partition(".")[0] in ("", "torchskew") for module in modules)


def _source(node: ast.Import | ast.ImportFrom) -> str:
    """The module that names are imported from; it begins with a dot where it is relative."""
    return "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""


def _check(parts: list[Part]) -> None:
    """In one file every name means one thing, and what a part needs comes before it."""
    owner: dict[str, str] = {}
    for part in parts:
        for node in part.imports:
            _check_import(part, node, owner)
        for name in sorted(part.names):
            if name in owner:
                raise ValueError(f"{name} is defined by {owner[name]} and by {part.name}.py. Rename one of them.")
            owner[name] = f"{part.name}.py"


def _check_import(part: Part, node: ast.Import | ast.ImportFrom, owner: dict[str, str]) -> None:
    """An import that means the same in one file; those from outside take their names there."""
    for alias in node.names:
        if _inside(node):
            package, _, module = _source(node).rpartition(".")
            if alias.asname or package != PACKAGE or owner.get(alias.name) != f"{module}.py":
                raise ValueError(
                    f"{part.name}.py: write `from {PACKAGE}.MODULE import {alias.name}`, of an earlier one."
                )
            continue
        name = (alias.asname or alias.name).partition(".")[0]
        if owner.setdefault(name, "an import") != "an import":
            raise ValueError(f"{name} is defined by {owner[name]} and imported by {part.name}.py. Rename one of them.")


def _merged(nodes: list[ast.Import | ast.ImportFrom]) -> str:
    """All imports of the parts, each once, in the order that ruff keeps."""
    plain = sorted({ast.unparse(node) for node in nodes if isinstance(node, ast.Import)})
    members: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            members.setdefault(node.module, set()).update(alias.name for alias in node.names)
    named = [f"from {module} import {', '.join(sorted(members[module], key=_by_kind))}" for module in sorted(members)]
    return "\n".join(plain + named)


def _by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _title(part: Part) -> str:
    """The comment above a part: a rule with the module's name, and its docstring; the last one's is the file's."""
    rule = f"# -- {part.name} ".ljust(110, "-")
    lines = [] if part.name == MODULES[-1] else part.doc.strip().splitlines()
    gap = "\n\n\n" if part.body.startswith(("def ", "class ", "@")) else "\n\n"
    return "\n".join([rule, *(f"# {line}".rstrip() for line in lines)]) + gap


def main() -> None:
    """Write the file into this package."""
    FILE.write_text(generated(), encoding="utf-8")


if __name__ == "__main__":
    main()
