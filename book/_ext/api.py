"""The API pages: what each module of the package exports."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

MODULES = {
    "evaluation": [
        "evaluation",
        "results",
        "statistics",
        "verdict",
        "representations",
        "heads",
        "genes",
        "compiled",
        "normalization",
        "projection",
        "linear",
        "chunks",
        "pp",
        "tl",
    ],
    "tasks": ["tasks", "judgement", "columns", "report", "plan"],
    "layers": ["layers", "layers.store", "layers.models", "layers.tiny"],
    "data": [
        "datasets",
        "datasets.simulate",
        "matrices",
        "tables",
        "published",
        "plotting",
        "notebooks",
        "disk",
        "errors",
    ],
}


def modules(page: str) -> list[str]:
    """Modules of a page; a task needs no entry, it is a module of `sclin.tasks`."""
    found = []
    for name in MODULES[page]:
        module = importlib.import_module(f"sclin.{name}")
        found.append(name)
        if name == "tasks":
            found += [f"tasks.{task.name}" for task in pkgutil.iter_modules(module.__path__)]
    return [name for name in found if "._" not in name]


def api(root: Path, page: str) -> str:
    """Document what each module of a page exports, each name where it comes first."""
    seen: set[int] = set()
    written = []
    for where, name in [(each, name) for each in MODULES for name in modules(each)]:
        module = importlib.import_module(f"sclin.{name}")
        lines = [f"## sclin.{name}", "", "```{eval-rst}", f".. automodule:: sclin.{name}"]
        lines += ["   :no-members:", *(["   :no-index:"] if _is_shadowed(name) else []), ""]
        for member in _exports(module):
            thing = getattr(module, member)
            if id(thing) in seen or not callable(thing):
                continue
            seen.add(id(thing))
            kind = "class" if inspect.isclass(thing) else "function"
            lines.append(f".. auto{kind}:: sclin.{name}.{member}")
            lines += ["   :members:", "   :show-inheritance:", ""] if kind == "class" else [""]
        if where == page:
            written.append("\n".join([*lines, "```"]))
    return "\n\n".join(written)


def _exports(module: ModuleType) -> list[str]:
    """Names that a module lists, or else defines without an underscore, in their order."""
    own = {n: thing for n, thing in vars(module).items() if not n.startswith("_")}
    defined = [n for n, t in own.items() if getattr(t, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", defined))


def _is_shadowed(name: str) -> bool:
    """Tell whether a package exports a function under the name of this module."""
    parent, _, leaf = f"sclin.{name}".rpartition(".")
    return not inspect.ismodule(getattr(importlib.import_module(parent), leaf))
