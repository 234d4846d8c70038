"""sclin: one protocol for every representation of single cells."""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from types import ModuleType

__version__ = _version("sclin")

_SUBMODULES = (
    "battery",
    "benchmarks",
    "datasets",
    "errors",
    "evaluation",
    "layers",
    "linear",
    "normalization",
    "notebooks",
    "plotting",
    "projection",
    "published",
    "representations",
)

__all__ = ["__version__", *_SUBMODULES]  # noqa: PLE0604


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"sclin.{name}")
    raise AttributeError(f"module 'sclin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
