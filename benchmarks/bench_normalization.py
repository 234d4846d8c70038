"""Rank scores of real cells: the 559 of `tenx_immune` x 32,786 genes, as often as it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

SIZES, QUICK = (500, 2000, 5000, 20_000), (100, 200)


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    from sclin import datasets

    cells = sp.csr_matrix(datasets.load("tenx_immune").X, dtype=np.float32)
    X = sp.vstack([cells] * -(-n_cells // cells.shape[0]), format="csr")[:n_cells]
    sp.save_npz(folder / "cells.npz", X, compressed=False)
    return {"n_genes": X.shape[1], "seen": X.nnz / n_cells}


def size_of(scores) -> float:
    """Sum of all scores of the first 50 cells, signs aside."""
    return np.abs(scores).sum()


def by_sclin(folder: Path, change=None):
    from sclin.normalization import rank_normalize

    X = sp.load_npz(folder / "cells.npz")
    if change:
        change(X.data, out=X.data)
    rank_normalize(X[:10])  # compiles
    return lambda: rank_normalize(X), lambda Z: size_of(Z[:50].toarray())


def by_sorting(folder: Path):
    """Log values, which are ranked by sorting."""
    return by_sclin(folder, np.log1p)


def by_sctop(folder: Path):
    from sctop.processing import process

    genes_by_cells = sp.load_npz(folder / "cells.npz").T.tocsc()
    process(genes_by_cells[:, :10])
    return lambda: process(genes_by_cells), lambda Z: size_of(Z.iloc[:, :50].to_numpy())


def by_scipy(folder: Path):
    """A dense matrix, ranked by SciPy cell by cell, as the method is written down."""
    from scipy.special import ndtri
    from scipy.stats import rankdata
    from sklearn.preprocessing import normalize

    X = sp.load_npz(folder / "cells.npz")
    return (
        lambda: normalize(ndtri(rankdata(X.toarray(), axis=1) / (X.shape[1] + 1))),
        lambda Z: size_of(Z[:50]),
    )


def by_copy(folder: Path):
    """The limit: one copy of the stored values."""
    X = sp.load_npz(folder / "cells.npz")
    return X.data.copy, lambda _: np.nan


WAYS = {
    "sclin": by_sclin,
    "sclin, log values": by_sorting,
    "sctop": by_sctop,
    "SciPy, dense": by_scipy,
    "copy of the non-zeros": by_copy,
}
UP_TO = {"sctop": 5000, "SciPy, dense": 2000}
