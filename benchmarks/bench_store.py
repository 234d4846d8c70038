"""Reading one layer of a finished store: cells x 768 numbers of four bytes.

The file lies in the memory of the system, so what is compared is the way and not the disk.
The checksum is the sum of the first ten cells.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZES, QUICK = (5000, 20_000, 50_000, 100_000), (1000, 2000)
WIDTH, CELLS_A_RANGE = 768, 840  # as scFoundation: 13 layers and two poolings in 64 MB


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    import h5py
    import pandas as pd

    from sclin.layers.store import open_or_create

    values = np.random.default_rng(0).normal(size=(n_cells, WIDTH)).astype(np.float32)
    values.tofile(folder / "layer.bin")
    with h5py.File(folder / "layer.h5", "w") as file:
        file["layer"] = values
    manifest = {
        "model": "none", "layers": ["1"], "stored_layers": ["1"], "poolings": ["mean"],
        "final_is": None, "depth": 1, "n_cells": n_cells, "range_cells": CELLS_A_RANGE,
    }  # fmt: skip
    prints = pd.Series("0", index=[f"cell {i}" for i in range(n_cells)])
    store = open_or_create(folder / "store.zarr", manifest, prints, {"mean": WIDTH})
    for number in store.unfinished:
        part = values[slice(*store.range(number))]
        ones = np.ones(len(part), dtype=np.int32)
        store.write(number, {"mean": part[None]}, ones, 0 * ones)
    return {"n_genes": WIDTH, "seen": WIDTH}


def first(values: np.ndarray) -> float:
    return values[:10].sum()


def by_sclin(folder: Path):
    from sclin.layers import LayerStore

    return lambda: LayerStore.open(folder / "store.zarr").read("1"), first


def by_memmap(folder: Path):
    """The limit: one copy out of a mapped file."""
    file = folder / "layer.bin"
    return lambda: np.array(np.memmap(file, np.float32).reshape(-1, WIDTH)), first


def by_h5py(folder: Path):
    import h5py

    def work():
        with h5py.File(folder / "layer.h5") as file:
            return file["layer"][:]

    return work, first


WAYS = {"sclin": by_sclin, "numpy.memmap": by_memmap, "h5py": by_h5py}
UP_TO: dict[str, int] = {}
