"""The whole linear pipeline on 12,000 simulated cells x 30,000 genes, about 2,500 seen per cell.

Rank, ANOVA (20,000 genes), scaling, PCA (220, whitened), balanced logistic regression: through
`sclin.linear_pipeline`, and densely with sctop and scikit-learn.
Usage: python benchmarks/bench_pipeline.py [--cells 12000] [--genes 30000]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from side_by_side import peak_mb, race, run_one, save, stopwatch
from sklearn.metrics import f1_score

N_TYPES = 20


def simulate(n_cells: int, n_genes: int, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    """Poisson counts of related cell types with log-normal gene levels and depths."""
    rng = np.random.default_rng(seed)
    level = rng.lognormal(0.0, 2.2, n_genes)
    effect = np.where(
        rng.random((N_TYPES, n_genes)) < 0.04, rng.normal(0, 1.0, (N_TYPES, n_genes)), 0
    )
    share = level * np.exp(effect)
    share /= share.sum(axis=1, keepdims=True)
    types = rng.choice(N_TYPES, n_cells, p=rng.dirichlet(np.full(N_TYPES, 3.0)))
    depth = rng.lognormal(np.log(5_500), 0.35, n_cells)
    blocks = []
    for start in range(0, n_cells, 500):
        part = slice(start, start + 500)
        counts = rng.poisson(share[types[part]] * depth[part, None])
        blocks.append(sp.csr_matrix(counts.astype(np.float32)))
    return sp.vstack(blocks, format="csr"), types


def read(data: Path) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    types = np.load(data.with_name("types.npy"))
    return sp.load_npz(data), types, np.arange(len(types)) % 5 > 0


def by_sclin(data: Path) -> dict:
    from sclin.linear import linear_pipeline

    X, types, train = read(data)
    linear_pipeline(n_genes=500, n_components=5).fit(X[:200], types[:200])  # compiles
    figures = {"before_mb": peak_mb()}
    model = linear_pipeline()
    with stopwatch(figures, "seconds"):
        model.fit(X[train], types[train])
        predicted = model.predict(X[~train])
    return figures | {"macro_f1": f1_score(types[~train], predicted, average="macro")}


def by_dense_peers(data: Path) -> dict:
    from sctop.processing import process
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, types, train = read(data)
    process(X[:10].T.tocsc())  # compiles
    figures = {"before_mb": peak_mb()}
    model = make_pipeline(
        SelectKBest(f_classif, k=min(20_000, X.shape[1])),
        StandardScaler(),
        PCA(220, whiten=True, random_state=0),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    with stopwatch(figures, "seconds"):
        with stopwatch(figures, "rank_seconds"):
            ranked = process(X.T.tocsc()).to_numpy().T
        model.fit(ranked[train], types[train])
        predicted = model.predict(ranked[~train])
    return figures | {"macro_f1": f1_score(types[~train], predicted, average="macro")}


WAYS = {"sclin": by_sclin, "sctop and scikit-learn": by_dense_peers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cells", type=int, default=12_000)
    parser.add_argument("--genes", type=int, default=30_000)
    chosen = parser.parse_args()
    if chosen.way:
        run_one(WAYS, chosen.way, chosen.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "cells.npz"
        X, types = simulate(chosen.cells, chosen.genes)
        sp.save_npz(data, X, compressed=False)
        np.save(data.with_name("types.npy"), types)
        seen = X.nnz / X.shape[0]
        table = race(__file__, data, list(WAYS))
    table.insert(1, "cells", chosen.cells)
    table.insert(2, "genes", chosen.genes)
    table.insert(3, "genes_seen_per_cell", seen)
    ours = table.set_index("way").loc["sclin"]
    table["times_slower_than_sclin"] = table["seconds"] / ours["seconds"]
    table["times_peak_of_sclin"] = table["peak_mb"] / ours["peak_mb"]
    save(table, "pipeline")


if __name__ == "__main__":
    main()
