"""Disease state: tell infected, stimulated or malignant cells from the others.

The published protocol clusters the cells, fits one logistic regression per cluster, and loses
cells on the way.
The corrected one feeds rank scores, predicts every cell, holds out donors, and takes genes out of
the features that are the label themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from sclin.benchmarks._cells import (
    donor_values,
    fold_rows,
    is_published,
    keep_classes,
    open_cells,
    pooled_rows,
    splits_for,
)
from sclin.errors import InputError
from sclin.evaluation import Split, macro_f1_interval, result, results_table
from sclin.linear import AnovaSelector, ImplicitPCA
from sclin.normalization import rank_normalize
from sclin.representations import Predictions, column, grid, log_normalize

__all__ = [
    "ClusterwiseClassifier",
    "DiseaseStateOutcome",
    "host_genes",
    "run",
    "single_genes",
]

_TASK = "disease_state"


class ClusterwiseClassifier(ClassifierMixin, BaseEstimator):
    """One balanced logistic regression per cluster of the training cells.

    Training cells are clustered (neighbours graph, Leiden). A new cell goes to a cluster by its
    nearest training cells, and this cluster's model names its class.

    Parameters
    ----------
    n_neighbors
        Neighbours of the graph and of the assignment of new cells.
    resolution
        Resolution of Leiden; more gives smaller clusters.
    min_cells
        A cluster with fewer cells gets no model.
    seed
        Seed of the graph and of Leiden.

    Attributes
    ----------
    classes_ : ndarray
        Classes, sorted.
    clusters_ : ndarray
        Cluster of each training cell.
    models_ : dict
        Logistic regression by cluster. A cluster with one class, or with too few cells, has none:
        it predicts its majority.
    majority_ : dict
        Most frequent class of each cluster, the first of equals.
    n_without_model_ : int
        Training cells in clusters without a model.
    largest_component_ : float
        Share of training cells in the largest connected part of the neighbours graph.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(80, 3)) + np.repeat([[0, 0, 0], [9, 9, 9]], 40, axis=0)
    >>> y = np.where(X[:, 0] - np.repeat([0, 9], 40) > 0, "sick", "well")
    >>> model = ClusterwiseClassifier().fit(X, y)
    >>> float(model.score(X, y)) > 0.9
    True
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 15,
        resolution: float = 0.4,
        min_cells: int = 5,
        seed: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.resolution = resolution
        self.min_cells = min_cells
        self.seed = seed

    def fit(self, X: Any, y: Any) -> ClusterwiseClassifier:
        """Cluster training cells and fit a model in each cluster.

        Parameters
        ----------
        X
            Cells x features, such as principal components.
        y
            Class of each cell.

        Returns
        -------
        ClusterwiseClassifier

        Raises
        ------
        InputError
            There are fewer cells than neighbours, or one class only.
        """
        if y is None:
            raise InputError("requires y to be passed, but the target y is None: give the classes.")
        X, y = validate_data(self, X, y, dtype=np.float64)
        if X.shape[0] <= self.n_neighbors:
            raise InputError(
                f"{X.shape[0]} training cells are too few for {self.n_neighbors} neighbours; "
                f"set n_neighbors to {max(X.shape[0] - 1, 1)} or less, or give more cells."
            )
        self.classes_ = np.unique(y)
        if self.classes_.size < 2:
            raise InputError(
                f"y holds one class only ({self.classes_[0]!r}); a classifier needs at least two."
            )
        self.clusters_, self.largest_component_ = _leiden(
            X, n_neighbors=self.n_neighbors, resolution=self.resolution, seed=self.seed
        )
        self.assign_ = KNeighborsClassifier(
            self.n_neighbors, metric="cosine", weights="distance", algorithm="brute"
        ).fit(X, self.clusters_)
        self.models_, self.majority_, self.n_without_model_ = {}, {}, 0
        for cluster in np.unique(self.clusters_):
            rows = np.flatnonzero(self.clusters_ == cluster)
            names, counts = np.unique(y[rows], return_counts=True)
            self.majority_[cluster] = names[counts.argmax()]
            if names.size < 2 or rows.size < self.min_cells:
                self.n_without_model_ += rows.size
                continue
            model = LogisticRegression(class_weight="balanced", max_iter=1000)
            self.models_[cluster] = model.fit(X[rows], y[rows])
        return self

    def assign(self, X: Any) -> NDArray[np.intp]:
        """Cluster of each cell, by distance-weighted vote of its nearest training cells.

        Parameters
        ----------
        X
            Cells x features.

        Returns
        -------
        ndarray
            Cluster numbers, shape (cells,).
        """
        check_is_fitted(self, "assign_")
        return self.assign_.predict(validate_data(self, X, dtype=np.float64, reset=False))

    def has_model(self, X: Any) -> NDArray[np.bool_]:
        """Tell which cells fall in a cluster that has a model of its own.

        The published score is taken over these cells only.

        Parameters
        ----------
        X
            Cells x features.

        Returns
        -------
        ndarray
            One truth value per cell.
        """
        return np.isin(self.assign(X), list(self.models_))

    def predict(self, X: Any) -> NDArray[Any]:
        """Class of every cell: from its cluster's model, or its cluster's majority.

        Parameters
        ----------
        X
            Cells x features.

        Returns
        -------
        ndarray
            Classes, shape (cells,).
        """
        check_is_fitted(self, "assign_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        clusters = self.assign_.predict(X)
        predicted = np.empty(X.shape[0], dtype=self.classes_.dtype)
        for cluster in np.unique(clusters):
            rows = clusters == cluster
            model = self.models_.get(cluster)
            predicted[rows] = self.majority_[cluster] if model is None else model.predict(X[rows])
        return predicted


def _leiden(
    X: NDArray[np.float64], *, n_neighbors: int, resolution: float, seed: int
) -> tuple[NDArray[np.intp], float]:
    """Leiden clusters on the neighbours graph, and the share of cells in its largest part."""
    import scanpy as sc

    cells = AnnData(X.astype(np.float32), obsm={"X": X})
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    sc.tl.leiden(
        cells,
        resolution=resolution,
        flavor="igraph",
        directed=False,
        n_iterations=2,
        random_state=seed,
    )
    parts = connected_components(cells.obsp["connectivities"], directed=False)[1]
    share = float(np.bincount(parts).max() / parts.size)
    return cells.obs["leiden"].astype(int).to_numpy(), share


def host_genes(adata: AnnData) -> NDArray[np.bool_]:
    """Tell genes of the host from those of a pathogen or a spike-in.

    Parameters
    ----------
    adata
        Cells; the column ``var["host"]`` decides when there is one. Otherwise a gene is foreign
        when its id or symbol starts with a prefix of a virus or a spike-in.

    Returns
    -------
    ndarray
        One truth value per gene.
    """
    if "host" in adata.var:
        return adata.var["host"].astype(bool).to_numpy()
    foreign = np.zeros(adata.n_vars, dtype=bool)
    names = [pd.Series(adata.var_names.astype(str))]
    if "symbol" in adata.var:
        names.append(adata.var["symbol"].astype(str).reset_index(drop=True))
    for column_of_names in names:
        upper = column_of_names.str.upper()
        foreign |= upper.str.match(r"(SARS|SCOV|ENSSASG|VIRUS|ERCC-)").to_numpy()
    return ~foreign


@dataclass(frozen=True)
class DiseaseStateOutcome:
    """What `run` found.

    Attributes
    ----------
    results
        The tidy results table.
    predictions
        `Predictions` by ``(representation, head)``; the head of the published method is
        ``clusterwise``.
    donors
        Donor of each kept cell, or ``None``.
    clusters
        One row per split of the cluster-wise method: features, clusters, clusters with a model,
        cells scored, test cells that had no model, share of the largest graph component.
    left_out
        Classes, cells and genes that never entered.
    """

    results: pd.DataFrame
    predictions: dict[tuple[str, str], Predictions]
    donors: NDArray[Any] | None
    clusters: pd.DataFrame
    left_out: pd.DataFrame


def run(
    dataset: str | AnnData,
    *,
    label: str = "condition",
    donor: str | None = "donor",
    protocol: str = "corrected",
    representations: Sequence[str] = ("lognorm", "rank"),
    heads: Sequence[str] = ("logistic", "projection"),
    clusterwise: Sequence[str] | None = None,
    host_only: bool | None = None,
    n_genes: int = 20_000,
    n_components: int = 220,
    n_neighbors: int = 15,
    resolution: float = 0.4,
    min_cells: int = 10,
    n_splits: int = 10,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> DiseaseStateOutcome:
    """Classify the state of cells.

    Parameters
    ----------
    dataset
        Name, path, ``"name:key=value"`` or an AnnData.
    label, donor
        Columns of ``obs``; ``donor=None`` splits by cells.
    protocol
        ``as_published``: ten folds of cells, the cluster-wise method on the values as stored, and
        a score over the cells whose cluster has a model. The same folds are also scored over every
        cell, and with rank scores, so that each flaw shows by itself.
        ``corrected``: donors held out, rank scores, every cell predicted, foreign genes taken out,
        and library size alone as a control.
    representations, heads
        Names of further methods; used when ``corrected``.
    clusterwise
        Features of the cluster-wise method: ``stored``, ``rank``, ``lognorm``.
        ``("stored", "rank")`` when ``as_published``, ``("rank",)`` when ``corrected``.
    host_only
        Keep the host's genes only, see `host_genes`; true when ``corrected``.
    n_genes, n_components
        ANOVA genes and whitened components of the cluster-wise method.
    n_neighbors, resolution
        Of the cluster-wise method.
    min_cells
        Smallest class.
    n_splits
        Folds of cells.
    options
        Options by representation or head.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    DiseaseStateOutcome

    References
    ----------
    Souza and Mehta, arXiv 2602.16696, 2026.
    """
    published = is_published(protocol)
    name, cells = open_cells(dataset)
    adata, left_out = keep_classes(cells, label, min_cells=min_cells)
    left_out = left_out.assign(n_genes=0)
    if (not published) if host_only is None else host_only:
        host = host_genes(adata)
        if not host.all():
            gone = {"class": "", "n_cells": 0, "reason": "not the host's", "n_genes": (~host).sum()}
            left_out = pd.concat([left_out, pd.DataFrame([gone])], ignore_index=True)
            adata = adata[:, host].copy()
    y = column(adata, label).astype(str).to_numpy()
    donors = None if published else donor_values(adata, donor)
    splits, split_name = splits_for(y, donors, n_splits=n_splits, seed=seed)
    if clusterwise is None:
        clusterwise = ("stored", "rank") if published else ("rank",)
    note = (
        f"{int(left_out['n_cells'].sum())} cells and {int(left_out['n_genes'].sum())} foreign "
        "genes left out"
    )
    fields: dict[str, Any] = {
        "task": _TASK,
        "dataset": name,
        "protocol": protocol,
        "split": split_name,
        "seed": seed,
    }
    predictions: dict[tuple[str, str], Predictions] = {}
    rows: list[dict[str, Any]] = []
    logs: list[pd.DataFrame] = []
    for kind in clusterwise:
        p, has_model, log = _clusterwise(
            adata, y, splits, kind, n_genes=n_genes, n_components=n_components,
            n_neighbors=n_neighbors, resolution=resolution, seed=seed,
        )  # fmt: skip
        represented = {"stored": "counts"}.get(kind, kind)
        predictions[represented, "clusterwise"] = p
        logs.append(log.assign(features=kind))
        without = int((~has_model).sum())
        about = f"{note}; {without} of {has_model.size} cells in clusters without a model"
        here = fields | {"representation": represented, "head": "clusterwise"}
        if published:
            scores = ("macro_f1", "weighted_f1")
            lost = here | {"note": f"{about} left out of the score, as published"}
            all_named = here | {"note": f"{about} get the majority of their cluster"}
            rows += fold_rows(p, lost, scores, keep=has_model) + fold_rows(p, all_named, scores)
        else:
            here["note"] = f"{about} get its majority"
            rows += pooled_rows(p, donors, here, n_boot=n_boot, seed=seed)
    if not published:
        common: dict[str, Any] = {"splits": splits, "options": options, "seed": seed}
        found = grid(adata, label, representations=representations, heads=heads, **common)
        alone = ("library_size",)
        found |= grid(adata, label, representations=alone, heads=("logistic",), **common)
        common |= {"representations": representations[:1], "heads": heads[:1]}
        null = grid(adata, label, shuffle_labels=True, **common)
        found |= {(f"{r} (shuffled labels)", h): p for (r, h), p in null.items()}
        for (represented, head), p in found.items():
            predictions[represented, head] = p
            text = note + ("; training labels shuffled" if "shuffled" in represented else "")
            here = fields | {"representation": represented, "head": head, "note": text}
            rows += pooled_rows(p, donors, here, n_boot=n_boot, seed=seed)
    return DiseaseStateOutcome(
        results=results_table(rows),
        predictions=predictions,
        donors=donors,
        clusters=pd.concat(logs, ignore_index=True) if logs else pd.DataFrame(),
        left_out=left_out,
    )


def _clusterwise(
    adata: AnnData,
    y: NDArray[Any],
    splits: Sequence[Split],
    kind: str,
    *,
    n_genes: int,
    n_components: int,
    n_neighbors: int,
    resolution: float,
    seed: int,
) -> tuple[Predictions, NDArray[np.bool_], pd.DataFrame]:
    """ANOVA, scaling, whitened PCA and the cluster-wise classifier, fitted on training cells."""
    if kind == "rank":
        values: Any = rank_normalize(adata.X)
    elif kind == "lognorm":
        values = log_normalize(adata)
    elif kind == "stored":
        values = sparse.csr_matrix(adata.X)
    else:
        raise InputError(f"clusterwise features are {kind!r}; give 'stored', 'rank' or 'lognorm'.")
    predicted, scored, logs = [], [], []
    for split in splits:
        k = min(n_genes, adata.n_vars)
        size = min(n_components, split.train.size - 1, k)
        model = make_pipeline(
            AnovaSelector(k=k),
            ImplicitPCA(n_components=size, whiten=True, seed=seed),
            ClusterwiseClassifier(n_neighbors=n_neighbors, resolution=resolution, seed=seed),
        ).fit(values[split.train], y[split.train])
        points, clusters = model[:-1].transform(values[split.test]), model[-1]
        predicted.append(clusters.predict(points))
        scored.append(clusters.has_model(points))
        logs.append(
            {
                "split": split.name,
                "clusters": np.unique(clusters.clusters_).size,
                "with_model": len(clusters.models_),
                "n_test": split.test.size,
                "n_without_model": int((~scored[-1]).sum()),
                "largest_component": clusters.largest_component_,
            }
        )
    cell = np.concatenate([s.test for s in splits])
    return (
        Predictions(
            y_true=y[cell],
            y_pred=np.concatenate(predicted),
            cell=cell,
            split=np.repeat(
                np.array([s.name for s in splits], dtype=object), [s.test.size for s in splits]
            ),
            proba=None,
            classes=np.unique(y),
            n_unseen=sum(int((~np.isin(y[s.test], np.unique(y[s.train]))).sum()) for s in splits),
        ),
        np.concatenate(scored),
        pd.DataFrame(logs),
    )


def single_genes(
    dataset: str | AnnData,
    *,
    label: str = "condition",
    donor: str | None = "donor",
    genes: Sequence[str] | None = None,
    n_top: int = 5,
    host_only: bool = True,
    min_cells: int = 10,
    n_splits: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Classify with one gene alone: how much of the task does a single gene solve.

    Parameters
    ----------
    dataset
        Name or AnnData.
    label, donor
        Columns of ``obs``; ``donor=None`` splits by cells.
    genes
        Names or symbols; the ``n_top`` genes with the highest ANOVA F of rank scores in each
        training part when ``None``.
    n_top
        Genes tried in each split when ``genes`` is ``None``.
    host_only
        Keep the host's genes only.
    min_cells, n_splits
        Smallest class; folds of cells when there are no donors.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    DataFrame
        Results rows with the column ``gene`` added; genes chosen in training parts come as
        ``"place 1"``, ``"place 2"``, with the names in the note.
    """
    name, cells = open_cells(dataset)
    adata, _ = keep_classes(cells, label, min_cells=min_cells)
    if host_only:
        adata = adata[:, host_genes(adata)]
    y = column(adata, label).astype(str).to_numpy()
    donors = donor_values(adata, donor)
    splits, split_name = splits_for(y, donors, n_splits=n_splits, seed=seed)
    logs = sparse.csc_matrix(log_normalize(adata))
    ranks = rank_normalize(adata.X)
    symbols = adata.var["symbol"] if "symbol" in adata.var else pd.Series(adata.var_names)
    symbols = symbols.astype(str).to_numpy()
    predicted: dict[str, NDArray[Any]] = {}
    used: dict[str, list[str]] = {}
    for split in splits:
        if genes is None:
            f = AnovaSelector(k=1).fit(ranks[split.train], y[split.train]).scores_
            columns = np.argsort(-np.nan_to_num(f, nan=-1.0))[:n_top].tolist()
            keys = [f"place {i}" for i in range(1, len(columns) + 1)]
        else:
            missing = [g for g in genes if g not in symbols and g not in adata.var_names]
            if missing:
                raise InputError(
                    f"{name} has no gene {missing[0]!r}; its symbols look like "
                    f"{symbols[:3].tolist()}."
                )
            columns = [
                int(np.flatnonzero((symbols == g) | (adata.var_names == g))[0]) for g in genes
            ]
            keys = list(genes)
        for key, g in zip(keys, columns, strict=True):
            values = logs[:, [g]].toarray()
            model = LogisticRegression(class_weight="balanced").fit(
                values[split.train], y[split.train]
            )
            guesses = predicted.setdefault(key, np.empty(y.size, dtype=object))
            guesses[split.test] = model.predict(values[split.test])
            used.setdefault(key, []).append(symbols[g])
    rows = []
    for key, guesses in predicted.items():
        interval = macro_f1_interval(
            y, guesses.astype(str), groups=donors, n_boot=n_boot, seed=seed
        )
        rows.append(
            result(
                task=_TASK, dataset=name, protocol="corrected", representation="lognorm",
                head="logistic", split=split_name, metric="macro_f1", value=interval, seed=seed,
                note=f"one gene alone: {', '.join(dict.fromkeys(used[key]))}",
            )
        )  # fmt: skip
    return results_table(rows).assign(gene=list(predicted))
