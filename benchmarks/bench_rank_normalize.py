"""Rank scores of 2,236 cells x 32,786 genes: `rank_normalize` against `sctop.process`.

The cells are the 559 real 10x cells of the dataset `tenx_immune`, stacked four times.
Usage: python benchmarks/bench_rank_normalize.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from side_by_side import peak_mb, race, run_one, save

REPEATS = 5


def best(function, *args) -> float:
    """Seconds of the fastest of several calls."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*args)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def by_sclin(data: Path) -> dict:
    from sclin.normalization import rank_normalize

    X = sp.load_npz(data)
    rank_normalize(X[:10])  # compiles
    before = peak_mb()
    return {
        "seconds": best(rank_normalize, X),
        "added_mb": peak_mb() - before,
        "checksum": float(np.abs(rank_normalize(X[:50]).toarray()).sum()),
    }


def by_sclin_sorting(data: Path) -> dict:
    """Log values, which are ranked by sorting."""
    from sclin.normalization import rank_normalize

    X = sp.load_npz(data)
    np.log1p(X.data, out=X.data)
    rank_normalize(X[:10])
    before = peak_mb()
    return {
        "seconds": best(rank_normalize, X),
        "added_mb": peak_mb() - before,
        "checksum": float(np.abs(rank_normalize(X[:50]).toarray()).sum()),
    }


def by_sctop(data: Path) -> dict:
    from sctop.processing import process

    genes_by_cells = sp.load_npz(data).T.tocsc()
    process(genes_by_cells[:, :10])
    before = peak_mb()
    return {
        "seconds": best(process, genes_by_cells),
        "added_mb": peak_mb() - before,
        "checksum": float(np.abs(process(genes_by_cells[:, :50]).to_numpy()).sum()),
    }


def by_copy(data: Path) -> dict:
    """The limit: one copy of the stored numbers of the input."""
    X = sp.load_npz(data)
    before = peak_mb()
    return {"seconds": best(X.data.copy), "added_mb": peak_mb() - before}


WAYS = {
    "sclin": by_sclin,
    "sclin, log values": by_sclin_sorting,
    "sctop": by_sctop,
    "copy of the non-zeros": by_copy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    if chosen.way:
        run_one(WAYS, chosen.way, chosen.data)
        return
    from sclin import datasets

    cells = sp.csr_matrix(datasets.load("tenx_immune").X, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "cells.npz"
        sp.save_npz(data, sp.vstack([cells] * 4, format="csr"), compressed=False)
        table = race(__file__, data, list(WAYS))
    ours = table.set_index("way").loc["sclin"]
    table["times_slower_than_sclin"] = table["seconds"] / ours["seconds"]
    table["times_peak_of_sclin"] = table["peak_mb"] / ours["peak_mb"]
    save(pd.DataFrame(table), "rank_normalize")


if __name__ == "__main__":
    main()
