"""Heads by name: scikit-learn classifiers, the same object whatever the representation.

``logistic``, ``knn`` and ``centroid`` centre cells on the mean of the training cells.
They read dense arrays, CSR matrices and `RankMatrix`, and never make the last two dense as a whole;
cells on disk or of Dask (`sclin.chunks`) are read in blocks, but ``knn`` keeps its training cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from sclin.chunks import gather, map_cells
from sclin.errors import InputError, unknown
from sclin.linear import PublishedPipeline, Standardized, _moments, centred, linear_pipeline
from sclin.normalization import _validated
from sclin.projection import CentroidProjection

__all__ = ["HEADS", "CentroidHead", "KNNHead", "LogisticHead", "head"]

_BLOCK = 256  # cells made dense at once
_TOL, _STEPS = 1e-5, 2000  # where the solver of the logistic regression stops
_FEW = 32  # columns on which Newton takes ten steps where L-BFGS takes hundreds


class _Centred(ClassifierMixin, BaseEstimator):
    """What the heads share: classes, centred cells, and the class of the highest score."""

    def _fit_centre(self, X: Any, y: ArrayLike) -> tuple[Standardized, NDArray[np.intp]]:
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        X = _validated(self, X, reset=True)
        self.mean_, variance = _moments(X)
        # One scale for all columns: the mean squared norm of the training cells becomes 100.
        self.scale_ = np.sqrt(variance.sum()) / 10 or 1.0
        return Standardized(X, self.mean_, self.scale_), codes

    def _of_centred(self, function: Callable[[Standardized], Any], X: Any) -> NDArray[np.float64]:
        """Apply a function of centred cells, a block at a time."""
        check_is_fitted(self)

        def step(block: Any) -> Any:
            return function(Standardized(block, self.mean_, self.scale_))

        return gather(map_cells(step, _validated(self, X, reset=False)))

    def _scores(self, X: Any) -> NDArray[np.float64]:
        raise NotImplementedError

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Score of each class, shape ``(n_cells, n_classes)``; a difference for two classes."""
        scores = self._scores(X)
        return scores if len(self.classes_) > 2 else scores[:, 1] - scores[:, 0]

    def predict(self, X: Any) -> NDArray[Any]:
        """Class of the highest score."""
        return self.classes_[self._scores(X).argmax(axis=1)]


class LogisticHead(_Centred):
    """Balanced L2 logistic regression on all columns, none of them standardised.

    Cells are centred on the training mean and scaled by one number, so that their mean squared
    norm is 100 and ``C`` means the same for every representation.
    With more columns than cells the fit is exact on the coordinates of the training cells in
    their own span, because an L2 penalty cannot see a rotation. For n cells this costs the
    products of all pairs of cells and n^3, whatever the number of genes. The products of all
    cells serve every fit on a part of them, so the engine computes them once.
    Above ``max_cells`` cells and columns, L-BFGS works on products with the matrix as it is.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty.
    max_cells
        Most training cells whose span is computed, and most columns that are made dense.
    """

    def __init__(self, *, C: float = 1.0, max_cells: int = 5000) -> None:
        self.C = C
        self.max_cells = max_cells

    def fit(self, X: Any, y: ArrayLike, *, pairs: Any = None) -> LogisticHead:
        """Fit on training cells; ``pairs`` are their `products`, when these are known."""
        Z, codes = self._fit_centre(X, y)
        n_cells, n_columns = Z.shape
        if n_columns <= min(n_cells, self.max_cells):
            self.coef_, self.intercept_ = self._solve(Z.cells(slice(None)), codes)
        elif n_cells <= self.max_cells:
            pairs = Z.gram() if pairs is None else centred(np.asarray(pairs)) / self.scale_**2
            pairs[np.diag_indices(n_cells)] += 1e-10 * (pairs.trace() / n_cells or 1.0)  # singular
            rotated = np.linalg.cholesky(pairs)
            inside, self.intercept_ = self._solve(rotated, codes)
            self.coef_ = Z.T_dot(solve_triangular(rotated, inside.T, lower=True, trans="T")).T
        else:
            self.coef_, self.intercept_ = self._on_products(Z, codes)
        return self

    def _solve(self, Z: NDArray[np.float64], codes: NDArray[np.intp]) -> tuple[Any, Any]:
        solver = "newton-cg" if Z.shape[1] <= _FEW else "lbfgs"
        options: Any = {"class_weight": "balanced", "tol": _TOL, "max_iter": _STEPS}
        model = LogisticRegression(C=self.C, solver=solver, **options).fit(Z, codes)
        if len(self.classes_) > 2:
            return model.coef_, model.intercept_
        return np.vstack([-model.coef_, model.coef_]) / 2, np.r_[-1, 1] * model.intercept_ / 2

    def _on_products(self, Z: Standardized, codes: NDArray[np.intp]) -> tuple[Any, Any]:
        n_classes = len(self.classes_)
        # scikit-learn's penalty for two classes is on the difference of the two rows.
        C = self.C / 2 if n_classes == 2 else self.C
        weights = C * compute_sample_weight("balanced", codes)[:, None]
        truth = np.eye(n_classes)[codes]

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            W = flat.reshape(-1, n_classes)
            scores = Z.dot(W[:-1]) + W[-1]
            residual = weights * (softmax(scores, axis=1) - truth)
            slope = np.vstack([Z.T_dot(residual) + W[:-1], residual.sum(axis=0)])
            likelihood = (weights * truth * log_softmax(scores, axis=1)).sum()
            return 0.5 * (W[:-1] ** 2).sum() - likelihood, slope.ravel()

        start = np.zeros((Z.shape[1] + 1) * n_classes)
        options = {"maxiter": _STEPS, "gtol": _TOL, "ftol": 1e-14}
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        W = found.x.reshape(-1, n_classes)
        return W[:-1].T, W[-1]

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._of_centred(lambda Z: Z.dot(self.coef_.T) + self.intercept_, X)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities, shape ``(n_cells, n_classes)``."""
        return softmax(self._scores(X), axis=1)


class KNNHead(_Centred):
    """Majority of the nearest training cells by cosine, after centring on the training mean.

    Parameters
    ----------
    n_neighbors
        Number of neighbours; of classes with equal votes the first in order wins.
    """

    def __init__(self, *, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, X: Any, y: ArrayLike) -> KNNHead:
        """Keep the training cells, in memory."""
        self.cells_, self.codes_ = self._fit_centre(X, y)
        self.cells_.X = gather(self.cells_.X)
        n, k = len(self.codes_), self.n_neighbors
        if n < k:
            raise InputError(f"{n} cells are fewer than {k} neighbours; lower n_neighbors.")
        self.norms_ = self.cells_.lengths()
        return self

    def _cosines(self, Z: Standardized) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Row numbers of some cells at a time, and their cosines with all training cells."""
        lengths = Z.lengths()
        for rows in np.array_split(np.arange(len(lengths)), -(-len(lengths) // _BLOCK)):
            likeness = self.cells_.dot(np.ascontiguousarray(Z.cells(rows).T)).T / self.norms_
            yield rows, likeness / lengths[rows, None]

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._of_centred(self._votes, X)

    def _votes(self, Z: Standardized) -> NDArray[np.float64]:
        votes = np.zeros((Z.shape[0], len(self.classes_)))
        for rows, cosine in self._cosines(Z):
            near = np.argpartition(-cosine, self.n_neighbors - 1, axis=1)[:, : self.n_neighbors]
            for column in self.codes_[near].T:
                votes[rows, column] += 1
        return votes / self.n_neighbors

    predict_proba = _scores  # shares of the neighbours

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """How well each cell fits what was learnt: its cosine with the nearest training cell."""
        return self._of_centred(self._nearest, X)

    def _nearest(self, Z: Standardized) -> NDArray[np.float64]:
        return np.concatenate([cosine.max(axis=1) for _, cosine in self._cosines(Z)])


class CentroidHead(_Centred):
    """Class of the average with the highest cosine, after centring on the training mean."""

    def fit(self, X: Any, y: ArrayLike) -> CentroidHead:
        """Average the training cells of each class."""
        Z, codes = self._fit_centre(X, y)
        members = np.eye(len(self.classes_))[codes] / np.bincount(codes)
        self.directions_ = normalize(Z.T_dot(members), axis=0)
        return self

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self._of_centred(lambda Z: Z.dot(self.directions_), X)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """How well each cell fits what was learnt: its cosine with the nearest average."""
        return self._of_centred(self._nearest, X)

    def _nearest(self, Z: Standardized) -> NDArray[np.float64]:
        return Z.dot(self.directions_).max(axis=1) / Z.lengths()


class ProjectionHead(CentroidProjection):
    """Coefficients on class averages, where these are a basis."""

    def fit(self, X: Any, y: ArrayLike) -> CentroidProjection:
        """Average the training cells of each class."""
        mean, variance = _moments(X)
        if X.shape[1] < len(set(np.asarray(y))) or mean @ mean <= 1e-8 * variance.sum():
            raise InputError(
                f"The class averages of these {X.shape[1]} columns are no basis: there are fewer "
                "columns than classes, or the columns are centred. Use another head."
            )
        return super().fit(X, y)


def _pipeline(**options: Any) -> PublishedPipeline:
    return PublishedPipeline(linear_pipeline(rank=False, **options).steps)


#: Heads by name.
HEADS: Mapping[str, Callable[..., Any]] = {
    "logistic": LogisticHead,
    "knn": KNNHead,
    "centroid": CentroidHead,
    "projection": partial(ProjectionHead, rank=False),
    "pipeline": _pipeline,
}


def head(name: str, *, seed: int = 0, **options: Any) -> Any:
    """Make a head by name.

    Parameters
    ----------
    name
        One of `HEADS`.
    seed
        Seed of a head that draws, which is the pipeline.
    **options
        Passed to the head, such as ``C`` or ``n_neighbors``.

    Returns
    -------
    estimator
        A scikit-learn classifier.

    Raises
    ------
    InputError
        The name is unknown.
    """
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    return HEADS[name](**options | ({"seed": seed} if name == "pipeline" else {}))
