"""Rank, ANOVA, PCA (50), logistic regression on a file that is never read whole.

Simulated cells, 20,000 genes, about 1,200 seen a cell, written block by block as h5ad and opened
by `anndata.experimental.read_lazy`. Fitted, then predicted on the same cells; the checksum is the
share that get their own label. A Dask worker has one thread.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells import blocks

SIZES, QUICK = (5000, 20_000, 60_000, 200_000), (1000, 2000)
N_GENES = 20_000


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    import anndata as ad
    import h5py
    from anndata.io import sparse_dataset, write_elem

    types = []
    with h5py.File(folder / "cells.h5ad", "w") as file:
        write_elem(file, "/", ad.AnnData())
        for X, kinds in blocks(n_cells, N_GENES, molecules=2000):
            types.append(kinds)
            if len(types) == 1:
                write_elem(file, "X", X)
            else:
                sparse_dataset(file["X"]).append(X)
        codes = np.concatenate(types)
        cells = ad.AnnData(shape=(n_cells, N_GENES), obs={"cell_type": codes})
        cells.obs_names = [f"cell {i}" for i in range(n_cells)]
        cells.var_names = [f"gene {i}" for i in range(N_GENES)]
        write_elem(file, "obs", cells.obs)
        write_elem(file, "var", cells.var)
        stored = file["X/data"].shape[0]
    np.save(folder / "types.npy", codes)
    return {"n_genes": N_GENES, "seen": stored / n_cells}


def by_sclin(folder: Path, n_workers: int = 0):
    from anndata.experimental import read_lazy

    from sclin.chunks import connect
    from sclin.linear import linear_pipeline
    from sclin.normalization import rank_normalize

    rank_normalize(np.eye(3))  # compiles
    client = connect(n_workers=n_workers) if n_workers else None
    if client is not None:
        client.run(rank_normalize, np.eye(3))
    lazy, types = read_lazy(folder / "cells.h5ad"), np.load(folder / "types.npy")

    def work(client=client):  # which ends when nothing holds it
        return linear_pipeline(n_components=50).fit(lazy, types).predict(lazy)

    return work, lambda named: (named == types).mean()


def by_one(folder: Path):
    return by_sclin(folder, 1)


def by_two(folder: Path):
    return by_sclin(folder, 2)


def in_memory(folder: Path):
    """The same functions on the whole matrix."""
    import anndata as ad

    from sclin.linear import linear_pipeline
    from sclin.normalization import rank_normalize

    rank_normalize(np.eye(3))
    types = np.load(folder / "types.npy")

    def work():
        X = ad.read_h5ad(folder / "cells.h5ad").X
        return linear_pipeline(n_components=50).fit(X, types).predict(X)

    return work, lambda named: (named == types).mean()


def by_scikit_learn(folder: Path):
    """What scikit-learn has for it: log counts, blocks made dense, incremental PCA."""
    import anndata as ad
    from sklearn.decomposition import IncrementalPCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler, normalize

    types = np.load(folder / "types.npy")

    def work():
        X = ad.read_h5ad(folder / "cells.h5ad", backed="r").X
        starts = range(0, X.shape[0], 1000)

        def dense():
            for start in starts:
                yield np.log1p(1e4 * normalize(X[start : start + 1000], norm="l1").toarray())

        scaler, pca = StandardScaler(), IncrementalPCA(50)
        for block in dense():
            scaler.partial_fit(block)
        for block in dense():
            pca.partial_fit(scaler.transform(block))
        parts = np.vstack([pca.transform(scaler.transform(block)) for block in dense()])
        parts /= parts.std(axis=0)
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        return model.fit(parts, types).predict(parts)

    return work, lambda named: (named == types).mean()


def by_reading(folder: Path):
    """The limit: every stored number of the file, read once."""
    import h5py

    def work():
        with h5py.File(folder / "cells.h5ad") as file:
            parts = [file["X/data"], file["X/indices"]]
            return sum(part[i : i + (1 << 22)].size for part in parts
                       for i in range(0, part.size, 1 << 22))  # fmt: skip

    return work, lambda _: np.nan


WAYS = {
    "sclin": by_sclin,
    "sclin, one Dask worker": by_one,
    "sclin, two Dask workers": by_two,
    "sclin, in memory": in_memory,
    "scikit-learn, incremental": by_scikit_learn,
    "reading the file": by_reading,
}
UP_TO = {
    "sclin, one Dask worker": 60_000,
    "sclin, two Dask workers": 60_000,
    "sclin, in memory": 60_000,
    "scikit-learn, incremental": 5000,
}
