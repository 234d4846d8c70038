"""Time and memory of the 8-species matrix at the paper's size, on simulated cells.

The limit is what no way can avoid: each stored count of a target is cut, ranked and projected, each
of a source is averaged.
That traffic, at the speed of a plain copy on this machine, is `limit_seconds`.

Run: python benchmarks/bench_cross_species.py [--small]
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from itertools import permutations

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "2"

import numpy as np
import pandas as pd
from side_by_side import peak_mb, save, stopwatch

import sclin
from sclin.datasets import simulate
from sclin.tasks import cross_species

#: Bytes per stored count (a value and an index of 4 bytes each): read and written by the cut;
#: value read, score written by the ranks; read by the product. The source is read once.
TARGET_BYTES, SOURCE_BYTES = 16 + 8 + 8, 8


def matrix(data: simulate.SpeciesData, *, n_boot: int, min_cells: int = 20) -> list[float]:
    """Macro F1 of every transfer, rank scores and projection, on shared types."""
    pairs = partial(data.pairs, kind=None)
    tables = [
        sclin.evaluate(
            t.cells, "cell_type", representations=["rank"], heads=["projection"], cv=[t.fold],
            groups="donor", scoring=["f1_macro"], n_boot=n_boot,
        ).table
        for t in cross_species.transfers(data.adatas, pairs, "cell_type", min_cells=min_cells)
    ]  # fmt: skip
    return [float(table["value"].iloc[0]) for table in tables]


def limit(data: simulate.SpeciesData) -> dict[str, float]:
    """Bytes and operations that the 56 transfers need, and the time of moving these bytes."""
    seen = {
        name: pd.Series(np.bincount(a.X.indices, minlength=a.n_vars), index=a.var_names)
        for name, a in data.adatas.items()
    }
    gigabytes = gigaflop = 0.0
    for source, target in permutations(seen, 2):
        pairs = data.pairs(source, target)
        here, there = seen[source][pairs["source"]].sum(), seen[target][pairs["target"]].sum()
        n_types = data.adatas[source].obs["cell_type"].nunique()
        gigabytes += (there * TARGET_BYTES + here * SOURCE_BYTES) / 1e9
        gigaflop += 2 * n_types * (here + there) / 1e9
    block, figures = np.ones(1 << 27, dtype=np.float32), {}
    room = block.copy()
    with stopwatch(figures, "seconds"):
        np.copyto(room, block)
    speed = 2 * block.nbytes / 1e9 / figures["seconds"]
    return {"limit_gb_moved": gigabytes, "limit_gflop": gigaflop, "copy_gb_per_second": speed,
            "limit_seconds": gigabytes / speed}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="300 cells x 1,500 genes a species")
    small = parser.parse_args().small
    size = {"n_cells": 300, "n_genes": 1500} if small else {"n_cells": 9250, "n_genes": 19_000}
    figures: dict[str, float] = {}
    with stopwatch(figures, "seconds_to_simulate"):
        data = simulate.species(**size)
    # Compile before the clock starts: a reader pays for it once, not per matrix.
    tiny = simulate.species(n_cells=60, n_genes=200)
    matrix(tiny, n_boot=2, min_cells=1)
    before = peak_mb()
    with stopwatch(figures, "seconds"):
        scores = matrix(data, n_boot=200)
    sizes = [a.shape for a in data.adatas.values()]
    table = pd.DataFrame(
        [
            {
                "way": "sclin", "species": len(sizes), "cells": sum(n for n, _ in sizes),
                "genes": f"{min(g for _, g in sizes)} to {max(g for _, g in sizes)}",
                "transfers": len(scores), **figures,
                "before_mb": before, "peak_mb": peak_mb(), **limit(data),
                "mean_macro_f1_simulated": np.mean(scores),
            }
        ]
    )  # fmt: skip
    if small:
        print(table.T.to_string(header=False))
    else:
        save(table, "cross_species", packages=("numpy", "numba", "scikit-learn"))


if __name__ == "__main__":
    main()
