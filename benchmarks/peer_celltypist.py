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
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

import sclin
from sclin import datasets
from sclin.heads import head
from sclin.statistics import score_difference
from sclin.tasks.cell_types import donor_column, keep_classes, recommended

try:
    import celltypist
except ImportError as error:
    raise SystemExit(f"{error}. CellTypist is needed: pip install 'sclin[bench]'") from error

RESULTS = Path(__file__).parent / "results" / "peer_celltypist.csv"
LABEL, MIN_CELLS, N_BOOT, SEED = "cell_type", 20, 1000, 0
PEERS = ("CellTypist", "CellTypist, feature selection")


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


class CellTypist(ClassifierMixin, BaseEstimator):
    """CellTypist on log1p of counts per 10,000 as a head, defaults otherwise."""

    def __init__(self, *, feature_selection: bool = False):
        self.feature_selection = feature_selection

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.model_ = celltypist.train(
            AnnData(X.copy()), labels=y, feature_selection=self.feature_selection,
            random_state=SEED,
        )  # fmt: skip
        return self

    def predict(self, X):
        answer = celltypist.annotate(AnnData(X.copy()), model=self.model_, majority_voting=False)
        return answer.predicted_labels["predicted_labels"].to_numpy().astype(str)


#: Representation and head of each method.
METHODS = {
    PEERS[0]: ("lognorm", CellTypist()),
    PEERS[1]: ("lognorm", CellTypist(feature_selection=True)),
    "rank + projection": ("rank", head("projection")),
    "rank + pipeline": ("rank", head("pipeline", seed=SEED)),
    "rank + logistic": ("rank", head("logistic")),
    "lognorm + logistic": ("lognorm", head("logistic")),
    "hvg_pca + logistic": ("hvg_pca", head("logistic")),
    "recommended": ("rank", recommended(seed=SEED)),
    "recommended, log values": ("lognorm", recommended(seed=SEED)),
}


def prepare(dataset: str) -> tuple[AnnData, str]:
    """Load a dataset, keep the classes with enough cells, compile what will be timed."""
    cells, dropped = keep_classes(datasets.load(dataset), LABEL, min_cells=MIN_CELLS)
    few = cells[::10].copy()
    sclin.evaluate(few, LABEL, representations=["rank"], heads=["centroid"], n_boot=2)
    return cells, f"{int(dropped['n_cells'].sum())} cells of {len(dropped)} classes left out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["baron_human", "baron_mouse"])
    parser.add_argument("--to", type=Path, default=RESULTS, help="table to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    celltypist.logger.set_level(40)
    versions = {p: version(p) for p in ("celltypist", "scikit-learn", "numpy")}
    rows: list[dict] = []
    first: dict[str, pd.DataFrame] = {}
    # The slowest method goes last, so that a run that is stopped early loses only that.
    jobs = [(d, m) for slow in (False, True) for d in arguments.datasets
            for m in METHODS if (m == PEERS[1]) == slow]  # fmt: skip
    opened = {dataset: prepare(dataset) for dataset in arguments.datasets}
    for done, (dataset, method) in enumerate(jobs, start=1):
        cells, note = opened[dataset]
        name, judge = METHODS[method]
        start, busy = time.perf_counter(), time.process_time()
        found = sclin.evaluate(
            cells, LABEL, representations=[name], heads={method: judge}, scoring=["f1_macro"],
            groups=donor_column(cells), n_boot=N_BOOT, seed=SEED,
        )  # fmt: skip
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
        score, told = found.table.iloc[0], found.predictions
        peer = first.setdefault(dataset, told)
        less = score_difference(
            "f1_macro", told["y_true"], told["y_pred"], peer["y_pred"], groups=told["group"],
            n_boot=N_BOOT, seed=SEED,
        )  # fmt: skip
        if method in PEERS and REPLACED:
            note += "; one-versus-rest by the script, scikit-learn has no multi_class"
        rows.append(
            {
                "dataset": dataset, "method": method, "split": "one donor held out",
                "macro_f1": score["value"], "ci_low": score["ci_low"], "ci_high": score["ci_high"],
                "less_celltypist": less.difference, "less_low": less.ci_low,
                "less_high": less.ci_high, "n_cells": cells.n_obs,
                "n_donors": told["group"].nunique(), "n_classes": cells.obs[LABEL].nunique(),
                "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2),
                "threads": int(os.environ["OMP_NUM_THREADS"]), "cores": os.cpu_count(),
                **versions, "note": note,
            }
        )  # fmt: skip
        rest = [
            {"dataset": d, "method": m, "note": "not run: stopped for time"} for d, m in jobs[done:]
        ]
        pd.DataFrame(rows + rest).to_csv(arguments.to, index=False, float_format="%.4f")
        print(f"{dataset}, {method}: {score['value']:.3f}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
