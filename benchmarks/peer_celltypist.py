"""CellTypist beside this package's classifiers, trained and judged on the same donors.

Cells, classes, splits and intervals are those of the chapter on cell types.
CellTypist is trained on the training donors only; none of its ready-made models is used.
The table is written after each method, so that a run that is stopped keeps what it has.

Run: python benchmarks/peer_celltypist.py [--datasets baron_human baron_mouse]
"""

from __future__ import annotations

import argparse
import inspect
import os
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sclin.benchmarks._cells import donor_values, keep_classes, open_cells, splits_for
from sclin.benchmarks.ablation import RECOMMENDED, LinearVariant
from sclin.evaluation import Split, macro_f1_difference, macro_f1_interval
from sclin.representations import grid, log_normalize

try:
    import celltypist
except ImportError as error:
    raise SystemExit(f"{error}. CellTypist is needed: pip install 'sclin[bench]'") from error

RESULTS = Path(__file__).parent / "results" / "peer_celltypist.csv"
LABEL, MIN_CELLS, N_BOOT, SEED = "cell_type", 20, 1000, 0
OPTIONS = {"logistic": {"n_genes": 20_000, "n_components": 220}}
PEERS = ("CellTypist", "CellTypist, feature selection")
Predict = Callable[[AnnData, NDArray, list[Split]], NDArray]


class OneVersusRest(LogisticRegression):
    """What ``multi_class="ovr"`` did before scikit-learn 1.8: one binary fit per class."""

    def __init__(self, C=1.0, solver="lbfgs", max_iter=100, multi_class="ovr", n_jobs=None,
                 random_state=None):  # fmt: skip
        super().__init__(C=C, solver=solver, max_iter=max_iter, random_state=random_state)
        self.multi_class, self.n_jobs = multi_class, n_jobs

    def fit(self, X, y):
        options = {name: getattr(self, name) for name in ("C", "solver", "max_iter")}
        self.classes_ = np.unique(y)
        models = [
            LogisticRegression(random_state=self.random_state, **options).fit(X, y == kind)
            for kind in self.classes_
        ]
        self.coef_ = np.vstack([m.coef_ for m in models])
        self.intercept_ = np.concatenate([m.intercept_ for m in models])
        self.n_iter_ = np.concatenate([m.n_iter_ for m in models])
        return self


REPLACED = "multi_class" not in inspect.signature(LogisticRegression).parameters
if REPLACED:
    # By name: `celltypist.train` is the function, which hides the module.
    import_module("celltypist.train").LogisticRegression = OneVersusRest


def by_grid(name: str, kind: str) -> Predict:
    """Predict with a pair of the chapter, with its options."""

    def predict(adata: AnnData, y: NDArray, splits: list[Split]) -> NDArray:
        ((_, p),) = grid(
            adata, LABEL, representations=[name], heads=[kind],
            splits=splits, options=OPTIONS, seed=SEED,
        ).items()  # fmt: skip
        predicted = np.empty(y.size, dtype=object)
        predicted[p.cell] = p.y_pred
        return predicted

    return predict


def by_variant(**options) -> Predict:
    """Predict with a variant of the ablation."""

    def predict(adata: AnnData, y: NDArray, splits: list[Split]) -> NDArray:
        predicted = np.empty(y.size, dtype=object)
        for split in splits:
            model = LinearVariant(seed=SEED, **options).fit(adata[split.train], y[split.train])
            predicted[split.test] = model.predict(adata[split.test])
        return predicted

    return predict


def by_celltypist(*, feature_selection: bool) -> Predict:
    """Predict with CellTypist, trained on log1p of counts per 10,000, defaults otherwise."""

    def predict(adata: AnnData, y: NDArray, splits: list[Split]) -> NDArray:
        values = AnnData(log_normalize(adata), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
        predicted = np.empty(y.size, dtype=object)
        for split in splits:
            model = celltypist.train(
                values[split.train].copy(), labels=y[split.train],
                feature_selection=feature_selection, random_state=SEED,
            )  # fmt: skip
            answer = celltypist.annotate(
                values[split.test].copy(), model=model, majority_voting=False
            )
            predicted[split.test] = answer.predicted_labels["predicted_labels"].to_numpy()
        return predicted

    return predict


METHODS: dict[str, Predict] = {
    PEERS[0]: by_celltypist(feature_selection=False),
    PEERS[1]: by_celltypist(feature_selection=True),
    "rank + projection": by_grid("rank", "projection"),
    "rank + logistic": by_grid("rank", "logistic"),
    "lognorm + logistic": by_grid("lognorm", "logistic"),
    "hvg_pca + logistic": by_grid("hvg_pca", "logistic"),
    "recommended": by_variant(**RECOMMENDED),
    "recommended, log values": by_variant(**RECOMMENDED, values="lognorm"),
}


def prepare(dataset: str) -> tuple[str, AnnData, str]:
    """Load a dataset, keep the classes with enough cells, compile what will be timed."""
    name, cells = open_cells(dataset)
    adata, dropped = keep_classes(cells, LABEL, min_cells=MIN_CELLS)
    few = adata[::10].copy()
    LinearVariant(n_components=5).fit(few, few.obs[LABEL].astype(str)).predict(few)
    return name, adata, f"{int(dropped['n_cells'].sum())} cells of {len(dropped)} classes left out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["baron_human", "baron_mouse"])
    parser.add_argument("--to", type=Path, default=RESULTS, help="table to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    celltypist.logger.set_level(40)
    versions = {p: version(p) for p in ("celltypist", "scikit-learn", "numpy")}
    rows: list[dict] = []
    first: dict[str, NDArray] = {}
    # The slowest method goes last, so that a run that is stopped early loses only that.
    jobs = [(d, m) for slow in (False, True) for d in arguments.datasets
            for m in METHODS if (m == PEERS[1]) == slow]  # fmt: skip
    opened = {dataset: prepare(dataset) for dataset in arguments.datasets}
    for done, (dataset, method) in enumerate(jobs, start=1):
        name, adata, note = opened[dataset]
        y = adata.obs[LABEL].astype(str).to_numpy()
        donors = donor_values(adata, "auto")
        splits, split_name = splits_for(y, donors, seed=SEED)
        start, busy = time.perf_counter(), time.process_time()
        predicted = METHODS[method](adata, y, splits).astype(str)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
        settings = {"groups": donors, "n_boot": N_BOOT, "seed": SEED}
        score = macro_f1_interval(y, predicted, **settings)
        less = [float("nan")] * 3
        if dataset in first:
            less = list(macro_f1_difference(y, predicted, first[dataset], **settings)[:3])
        first.setdefault(dataset, predicted)
        if method in PEERS and REPLACED:
            note += "; one-versus-rest by the script, scikit-learn has no multi_class"
        rows.append(
            {
                "dataset": name, "method": method, "split": split_name,
                "macro_f1": score.value, "ci_low": score.low, "ci_high": score.high,
                "less_celltypist": less[0], "less_low": less[1], "less_high": less[2],
                "n_cells": y.size, "n_donors": np.unique(donors).size,
                "n_classes": np.unique(y).size,
                "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2),
                "threads": int(os.environ["OMP_NUM_THREADS"]), "cores": os.cpu_count(),
                **versions, "note": note,
            }
        )  # fmt: skip
        rest = [
            {"dataset": opened[d][0], "method": m, "note": "not run: stopped for time"}
            for d, m in jobs[done:]
        ]
        pd.DataFrame(rows + rest).to_csv(arguments.to, index=False, float_format="%.4f")
        print(f"{name}, {method}: {score.value:.3f}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
