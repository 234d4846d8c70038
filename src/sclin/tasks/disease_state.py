"""Disease state: tell infected, stimulated or malignant cells from the others.

The published method clusters the cells, fits one logistic regression per cluster, and loses cells
on the way: `ClusterwiseClassifier` is that head, with a choice for the lost cells. The corrected
protocol holds out donors, predicts every cell, and takes genes that are the label themselves out
of the features (`host_genes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from sclin.compiled import keep_neighbors
from sclin.errors import InputError
from sclin.linear import AnovaSelector, ImplicitPCA

#: Predicted where a cluster has no model of its own, if its majority may not answer.
NO_MODEL = "no model"


class ClusterwiseClassifier(ClassifierMixin, BaseEstimator):
    """One balanced logistic regression per cluster of the training cells.

    Training cells are clustered (neighbours graph, Leiden). A new cell goes to a cluster by the
    distance-weighted vote of its nearest training cells, and this cluster's model names its class.
    A cluster with one class, or with too few cells, has no model.

    Parameters
    ----------
    n_neighbors
        Neighbours of the graph and of the assignment of new cells.
    resolution
        Resolution of Leiden; more gives smaller clusters.
    min_cells
        A cluster with fewer cells gets no model.
    majority
        A cluster without a model predicts its most frequent class, the first of equals. Without
        this it predicts `NO_MODEL`, and its cells leave the score, as published.
    seed
        Seed of the graph and of Leiden.

    Attributes
    ----------
    classes_ : ndarray
        Classes, sorted.
    clusters_ : ndarray
        Cluster of each training cell.
    models_ : dict
        Logistic regression by cluster.
    majority_ : dict
        Most frequent class by cluster.
    largest_component_ : float
        Share of training cells in the largest connected part of the neighbours graph.

    References
    ----------
    Souza and Mehta, arXiv 2602.16696, 2026.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(80, 3)) + np.repeat([[0, 0, 0], [9, 9, 9]], 40, axis=0)
    >>> y = np.where(X[:, 0] - np.repeat([0, 9], 40) > 0, "sick", "well")
    >>> float(ClusterwiseClassifier().fit(X, y).score(X, y)) > 0.9
    True
    """

    def __init__(
        self, *, n_neighbors: int = 15, resolution: float = 0.4, min_cells: int = 5,
        majority: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        self.n_neighbors = n_neighbors
        self.resolution = resolution
        self.min_cells = min_cells
        self.majority = majority
        self.seed = seed

    def fit(self, X: Any, y: Any) -> ClusterwiseClassifier:
        """Cluster training cells and fit a model in each cluster.

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
            raise InputError(f"y holds one class only ({self.classes_[0]!r}); give two or more.")
        self._cluster(X)
        self.assign_ = KNeighborsClassifier(
            self.n_neighbors, metric="cosine", weights="distance", algorithm="brute"
        ).fit(X, self.clusters_)
        self.models_, self.majority_ = {}, {}
        for cluster in np.unique(self.clusters_):
            rows = np.flatnonzero(self.clusters_ == cluster)
            names, counts = np.unique(y[rows], return_counts=True)
            self.majority_[cluster] = names[counts.argmax()]
            if names.size > 1 and rows.size >= self.min_cells:
                model = LogisticRegression(class_weight="balanced", max_iter=1000)
                self.models_[cluster] = model.fit(X[rows], y[rows])
        return self

    def _cluster(self, X: NDArray[np.float64]) -> None:
        import scanpy as sc

        keep_neighbors()
        cells = AnnData(X.astype(np.float32), obsm={"X": X})
        sc.pp.neighbors(cells, n_neighbors=self.n_neighbors, use_rep="X", random_state=self.seed)
        usual = {"flavor": "igraph", "directed": False, "n_iterations": 2}
        sc.tl.leiden(cells, resolution=self.resolution, random_state=self.seed, **usual)
        self.clusters_ = cells.obs["leiden"].astype(int).to_numpy()
        parts = connected_components(cells.obsp["connectivities"], directed=False)[1]
        self.largest_component_ = float(np.bincount(parts).max() / parts.size)

    def predict(self, X: Any) -> NDArray[Any]:
        """Class of every cell, from the model of its cluster."""
        check_is_fitted(self, "assign_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        clusters = self.assign_.predict(X)
        predicted = np.empty(X.shape[0], dtype=self.classes_.dtype if self.majority else object)
        for cluster in np.unique(clusters):
            rows = clusters == cluster
            if cluster in self.models_:
                predicted[rows] = self.models_[cluster].predict(X[rows])
            else:
                predicted[rows] = self.majority_[cluster] if self.majority else NO_MODEL
        return predicted


def clusterwise(
    *, n_genes: int = 20_000, n_components: int = 220, seed: int = 0, **options: Any
) -> Pipeline:
    """Build the published head: ANOVA, scaling, whitened components, a model per cluster.

    Parameters
    ----------
    n_genes, n_components
        Genes kept by ANOVA, and components.
    seed
        Seed of the components and of the clusters.
    **options
        Of `ClusterwiseClassifier`, such as ``n_neighbors`` and ``majority``.

    Returns
    -------
    Pipeline
        A head for `sclin.evaluate`.
    """
    return make_pipeline(
        AnovaSelector(k=n_genes),
        ImplicitPCA(n_components=n_components, whiten=True, seed=seed),
        ClusterwiseClassifier(seed=seed, **options),
    )


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
    for names in (adata.var_names, adata.var.get("symbol", adata.var_names)):
        upper = names.astype(str).str.upper()
        foreign |= np.asarray(upper.str.match(r"(SARS.?COV|SCOV|ENSSASG|VIRUS|ERCC-)"), dtype=bool)
    return ~foreign
