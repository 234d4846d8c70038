"""Which modules of the package a notebook runs on.

This file uses the standard library only: the Makefile runs it before anything is installed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["code_cells", "make_rules", "module_files"]

_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::\w+:[^\n]*\n)+)", re.MULTILINE | re.DOTALL)


def code_cells(text: str) -> list[str]:
    """Sources of the code cells of a MyST Markdown notebook, without their options."""
    return [_OPTIONS.sub("", cell) for cell in _CELL.findall(text)]


def _parse(code: str) -> ast.Module:
    """Parse a cell, its magics and shell lines left out."""
    return ast.parse(
        "\n".join(x for x in code.split("\n") if not x.lstrip().startswith(("%", "!")))
    )


def _names(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names below ``sclin`` that imports and attributes mention."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def _files(name: str, package: Path) -> list[Path]:
    """Files behind a dotted name: the module, or all of a package that is one unit."""
    parts = name.split(".")
    if parts[0] != "sclin":
        return []
    path = package
    for part in parts[1:]:
        if (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").is_file():
            return [path / f"{part}.py"]
        else:
            break
    # Modules of `benchmarks` stand alone; other packages are one unit with their tables.
    if path in (package, package / "benchmarks"):
        return [path / "__init__.py"]
    return [f for f in sorted(path.rglob("*")) if f.suffix in {".py", ".yml", ".csv", ".json"}]


def module_files(cells: list[str], package: Path) -> list[Path]:
    """List the files of the package that code imports, directly or through other modules.

    Parameters
    ----------
    cells
        Python sources.
    package
        Folder of the package.

    Returns
    -------
    list of Path
        Sorted; imports inside functions count for the code itself, not for modules it imports.
    """
    queue = [
        file
        for cell in cells
        for name in _names(ast.walk(_parse(cell)))
        for file in _files(name, package)
    ]
    seen: set[Path] = set()
    while queue:
        file = queue.pop()
        if file in seen:
            continue
        seen.add(file)
        if file.suffix == ".py":
            body = iter(_parse(file.read_text(encoding="utf-8")).body)
            queue += [f for name in _names(body) for f in _files(name, package)]
    return sorted(seen)


def make_rules(notebooks: Path, package: Path) -> str:
    """Write one Make rule per notebook: executed copy on modules."""
    rules = []
    for path in sorted(notebooks.glob("[0-9]*.md")):
        files = module_files(code_cells(path.read_text(encoding="utf-8")), package)
        rules.append(f"$(EXECUTED)/{path.stem}.ipynb: {' '.join(map(str, files))}\n")
    return "".join(rules)


if __name__ == "__main__":
    sys.stdout.write(make_rules(Path(sys.argv[1]), Path(sys.argv[2])))
