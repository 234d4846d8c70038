"""Class averages as a basis, and the coefficients of all cells on it.

Simulated cells, 20,000 genes, about 1,500 seen a cell. The checksum is the share of cells that get
their own label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from cells import read, write

SIZES, QUICK = (500, 2000, 5000, 20_000), (100, 200)


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    return write(folder, n_cells, 20_000, molecules=2700)


def by_sclin(folder: Path):
    from sclin.projection import CentroidProjection

    X, types, _ = read(folder)
    CentroidProjection().fit(X[:200], types[:200]).predict(X[:10])  # compiles

    def work():
        return CentroidProjection().fit(X, types).predict(X)

    return work, lambda named: (named == types).mean()


def sctop_basis(genes_by_cells, types: np.ndarray) -> pd.DataFrame:
    """Genes x classes: averages of classes, processed by sctop."""
    from sctop.processing import process

    columns = {
        kind: process(genes_by_cells[:, np.flatnonzero(types == kind)], average=True)
        for kind in np.unique(types)
    }
    return pd.concat({k: pd.DataFrame(c).iloc[:, 0] for k, c in columns.items()}, axis=1)


def by_sctop(folder: Path):
    from sctop.processing import process, score

    X, types, _ = read(folder)
    genes_by_cells = X.T.tocsc()
    process(genes_by_cells[:, :10])  # compiles

    def work():
        basis = sctop_basis(genes_by_cells, types)
        return score(basis, process(genes_by_cells)).idxmax()

    return work, lambda named: (named.to_numpy() == types).mean()


WAYS = {"sclin": by_sclin, "sctop": by_sctop}
UP_TO = {"sctop": 5000}
