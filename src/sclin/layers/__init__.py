"""Every layer of a single-cell foundation model, in one pass.

`load_model` reads an official checkpoint, `extract` writes every layer of every cell into a
`LayerStore`, and `find_store` gives that store back wherever ``layer:MODEL/i`` is asked for;
`stores` does all of this for a model's name.
`tiny` trains a small model of the same kind in about a minute.

Importing this package loads neither torch nor transformers: the names below do when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "LayerStore": "store",
    "export_store": "share",
    "extract": "engine",
    "find_store": "store",
    "import_store": "share",
    "load_model": "models",
    "stores": "engine",
    "tiny": "tiny",
}
__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted(__all__)
