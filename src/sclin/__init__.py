"""sclin: one protocol for every representation of single cells."""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import Any

__version__ = _version("sclin")

_MODULES = (
    "datasets", "errors", "evaluation", "heads", "judgement", "layers", "linear", "normalization",
    "notebooks", "plotting", "pp", "projection", "published", "report", "representations",
    "results", "statistics", "tasks", "tl",
)  # fmt: skip
_FUNCTIONS = {"evaluate": "evaluation", "measure": "evaluation", "judge": "judgement"}

__all__ = ["__version__", *_FUNCTIONS, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"sclin.{_FUNCTIONS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"sclin.{name}")
    raise AttributeError(f"module 'sclin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
