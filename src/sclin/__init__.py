"""sclin: one protocol for every representation of single cells."""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import Any

__version__ = _version("sclin")

_MODULES = (
    "datasets", "errors", "evaluation", "heads", "judge", "layers", "linear", "normalization",
    "notebooks", "plotting", "pp", "projection", "published", "representations", "results",
    "statistics", "tasks", "tl",
)  # fmt: skip
_ENGINE = ("evaluate", "measure")

__all__ = ["__version__", *_ENGINE, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _ENGINE:
        return getattr(importlib.import_module("sclin.evaluation"), name)
    if name in _MODULES:
        return importlib.import_module(f"sclin.{name}")
    raise AttributeError(f"module 'sclin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
