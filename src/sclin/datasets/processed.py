"""Keep what slow readers made, keyed by the hashes of its files and of the code that read them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from sclin.datasets import transfer

__all__ = ["cached_cells", "cached_table"]

_CODE = ("genes.py", "readers.py", "recipes.py", "resources.py")


def _place(name: str, hashes: dict[str, str], options: dict[str, Any], suffix: str) -> Path:
    """Path of the kept result; any change of files, options or reading code gives another one."""
    digest = hashlib.sha256(json.dumps([hashes, options], sort_keys=True, default=str).encode())
    for module in _CODE:
        digest.update((Path(__file__).parent / module).read_bytes())
    folder = transfer.cache_dir() / "processed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{digest.hexdigest()[:16]}{suffix}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def cached_cells(
    name: str, hashes: dict[str, str], options: dict[str, Any], make: Callable[[], ad.AnnData]
) -> ad.AnnData:
    """Return what ``make`` returns, from the cache when it was made before."""
    path = _place(name, hashes, options, ".h5ad")
    if path.exists():
        try:
            cells = ad.read_h5ad(path)
        except (OSError, KeyError, ValueError):
            path.unlink(missing_ok=True)  # damaged: made again below
        else:
            cells.uns["sclin"] = _plain(dict(cells.uns["sclin"]))
            return cells
    cells = make()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    cells.write_h5ad(temporary)
    temporary.replace(path)
    return cells


def cached_table(
    name: str, hashes: dict[str, str], make: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """Return the table that ``make`` returns, from the cache when it was made before."""
    path = _place(name, hashes, {}, ".csv.gz")
    if path.exists():
        try:
            return pd.read_csv(path, keep_default_na=False)
        except (OSError, EOFError, ValueError):
            path.unlink(missing_ok=True)
    table = make()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    table.to_csv(temporary, index=False, compression={"method": "gzip", "compresslevel": 3})
    temporary.replace(path)
    return table
