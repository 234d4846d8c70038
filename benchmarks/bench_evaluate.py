"""Variable genes, components and logistic regression, five donors held out in turn.

Simulated cells, 20,000 genes, about 1,500 seen a cell. The checksum is the macro F1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells import annotated, write

SIZES, QUICK = (500, 1000, 2000, 4000), (150, 250)


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    return write(folder, n_cells, 20_000, molecules=2700)


def by_sclin(folder: Path):
    """With intervals over donors, which the peers do not give."""
    import sclin

    cells = annotated(folder)

    def work():
        return sclin.evaluate(
            cells, "cell_type", representations=["hvg_pca"], heads=["logistic"], groups="donor",
            scoring=["f1_macro"],
        ).table  # fmt: skip

    return work, lambda table: table["value"].iloc[0]


def held_out(cells, predict):
    """Macro F1 over all donors, of a function of training and test cells."""
    from sklearn.metrics import f1_score

    donors = cells.obs["donor"]
    named = np.empty(cells.n_obs, dtype=object)
    for donor in donors.unique():
        test = (donors == donor).to_numpy()
        named[test] = predict(cells[~test].copy(), cells[test].copy())
    return f1_score(cells.obs["cell_type"], named, average="macro")


def by_scanpy(folder: Path):
    """The same by hand: scanpy prepares, scikit-learn learns, inside of each fold."""
    import scanpy as sc
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    cells = annotated(folder)

    def predict(train, test):
        for part in (train, test):
            sc.pp.normalize_total(part, target_sum=1e4)
            sc.pp.log1p(part)
        sc.pp.highly_variable_genes(train, n_top_genes=2000)
        genes = train.var["highly_variable"].to_numpy()
        model = make_pipeline(PCA(50), LogisticRegression(class_weight="balanced", max_iter=1000))
        model.fit(train[:, genes].X.toarray(), train.obs["cell_type"])
        return model.predict(test[:, genes].X.toarray())

    return lambda: held_out(cells, predict), float


def by_celltypist(folder: Path):
    """CellTypist trained on the other donors, with its defaults."""
    import celltypist
    import scanpy as sc
    from peer_celltypist import CellTypist

    celltypist.logger.set_level(40)
    cells = annotated(folder)

    def predict(train, test):
        for part in (train, test):
            sc.pp.normalize_total(part, target_sum=1e4)
            sc.pp.log1p(part)
        return CellTypist().fit(train.X, train.obs["cell_type"]).predict(test.X)

    return lambda: held_out(cells, predict), float


WAYS = {"sclin": by_sclin, "scanpy and scikit-learn": by_scanpy, "CellTypist": by_celltypist}
UP_TO = {"CellTypist": 500}
