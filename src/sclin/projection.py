"""Class averages as a basis, and the projection of cells on it.

The columns of the basis are not orthogonal: related classes share most of their genes.
A cell's coefficients are therefore those of least squares, which take the overlap into account.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.special import ndtri, softmax
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted

from sclin.chunks import gather, map_cells
from sclin.errors import InputError, unknown
from sclin.genes import unique_names
from sclin.linear import _classes, _cross, _dot, _moments
from sclin.normalization import RankMatrix, _ranked, _validated

#: Label of cells below the rejection threshold.
UNSPECIFIED = "unspecified"

_ORDERS = ("average_then_rank", "rank_then_average")


class CentroidProjection(TransformerMixin, ClassifierMixin, BaseEstimator):
    r"""Classify cells by their coefficients on a basis of class averages.

    With the basis :math:`B` (genes x classes, columns of unit length), the coefficients of a cell
    :math:`x` are :math:`(B^\top B)^{-1} B^\top x`. The class with the largest one is the label.

    Parameters
    ----------
    order
        How a class becomes one column. ``"average_then_rank"``: divide each cell by its total,
        average over the class, rank the average (no log; all in ``float64``).
        ``"rank_then_average"``: average the rank scores of the cells.
    rank
        True: the input holds counts, and cells are ranked here.
        False: the input is used as it is, each cell scaled to unit length.
    threshold
        Cells whose largest coefficient is below it are labelled ``"unspecified"``.
        None labels every cell.

    Attributes
    ----------
    classes_ : ndarray
        Class labels, sorted.
    averages_ : ndarray
        Class averages in ``float64``, not ranked yet when the order is to average first, shape
        (classes, genes).
    basis_ : ndarray
        Class basis in ``float64``, shape (genes, classes).
    projector_ : ndarray
        Pseudo-inverse of the basis, shape (classes, genes).
    rank_ : int
        Number of independent columns of the basis. When it is below the number of classes, a
        warning is given and the coefficients are those of smallest length: equal classes share
        their coefficient.
    feature_names_in_ : ndarray of str
        Gene names of an AnnData or a data frame; a later AnnData is put in their order.
    class_counts_ : ndarray
        Cells behind each column.

    References
    ----------
    .. [1] Yampolskaya et al., "scTOP: physics-inspired order parameters for cellular
       identification and visualization", Development 150 (2023).

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.array([[9, 1, 0, 0], [8, 2, 0, 1], [0, 0, 7, 3], [1, 0, 9, 2]])
    >>> model = CentroidProjection().fit(counts, ["a", "a", "b", "b"])
    >>> model.predict(np.array([[5, 2, 0, 0]]))
    array(['a'], dtype='<U1')
    """

    def __init__(
        self, *, order: str = "average_then_rank", rank: bool = True, threshold: float | None = None
    ):
        self.order = order
        self.rank = rank
        self.threshold = threshold

    def fit(self, X: Any, y: ArrayLike) -> CentroidProjection:
        """Build the class basis.

        Parameters
        ----------
        X
            Cells x genes: counts, or any representation when ``rank=False``, in memory, on disk
            or of Dask (:mod:`sclin.chunks`). A RankMatrix
            holds ranked cells already: use it with ``order="rank_then_average"``.
        y
            Class of each cell, shape (cells,).

        Returns
        -------
        CentroidProjection
            The fitted classifier.

        Raises
        ------
        InputError
            An option or label cannot be used, there are fewer than two classes, or counts are
            negative.

        Warns
        -----
        UserWarning
            The class averages are not independent.
        """
        if self.order not in _ORDERS:
            raise unknown("order", self.order, _ORDERS)
        X = self._cells(X, reset=True)
        self.classes_, codes, self.class_counts_ = _classes(y, X.shape[0])
        self.averages_ = self._averages(X, codes)
        ranks_later = self.rank and self.order == "average_then_rank"
        basis = (_rank_exact(self.averages_) if ranks_later else self.averages_).T
        lengths = np.linalg.norm(basis, axis=0)
        self.basis_ = basis / np.where(lengths > 0, lengths, 1.0)
        self.projector_ = np.linalg.pinv(self.basis_)
        self.rank_ = int(np.linalg.matrix_rank(self.basis_))
        if self.rank_ < len(self.classes_):
            self._warn_dependent()
        return self

    def coefficients(self, X: Any) -> np.ndarray:
        """Compute the coefficients of cells on the class basis.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`.

        Returns
        -------
        ndarray
            Cells x classes, in ``float64``. The largest decides the label.
        """
        check_is_fitted(self)
        Z = self._scores(self._cells(X, reset=False))
        return np.asarray(_dot(Z, self.projector_.T), dtype=np.float64)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the coefficients, as a transformer: see :meth:`coefficients`."""
        return self.coefficients(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the coefficients: one per class."""
        check_is_fitted(self)
        return np.array([str(label) for label in self.classes_], dtype=object)

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the coefficients in the form that scikit-learn's scorers read.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`.

        Returns
        -------
        ndarray
            The coefficients, cells x classes. With two classes: second minus first, shape
            (cells,).
        """
        coefficients = self.coefficients(X)
        two = len(self.classes_) == 2
        return coefficients[:, 1] - coefficients[:, 0] if two else coefficients

    def predict(self, X: Any) -> np.ndarray:
        """Label cells with the class of the largest coefficient.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`.

        Returns
        -------
        ndarray
            One label per cell; ``"unspecified"`` below the threshold.
        """
        return self.named(self.coefficients(X))

    def named(self, coefficients: np.ndarray) -> np.ndarray:
        """Label cells whose coefficients are known; see :meth:`predict`."""
        labels = self.classes_[coefficients.argmax(axis=1)]
        if self.threshold is None:
            return labels
        labels = labels.astype(object)
        labels[coefficients.max(axis=1) < self.threshold] = UNSPECIFIED
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Share out each cell over the classes by its positive coefficients.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`.

        Returns
        -------
        ndarray
            Cells x classes; rows sum to 1. The shares keep the order of the coefficients and are
            not calibrated: :class:`sklearn.calibration.CalibratedClassifierCV` does that.
        """
        coefficients = self.coefficients(X)
        positive = np.maximum(coefficients, 0.0)
        total = positive.sum(axis=1, keepdims=True)
        even = softmax(coefficients, axis=1)  # where no coefficient is positive
        return np.divide(positive, total, out=even, where=total > 0)

    def score_samples(self, X: Any) -> np.ndarray:
        """How well each cell fits the basis: the length of its projection, of a cell of length 1.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`.

        Returns
        -------
        ndarray
            One number per cell, from 0 to 1; the squares of it and of the residual add up to 1.
        """
        return np.linalg.norm(self.coefficients(X) @ self.basis_.T, axis=1)

    def contributions(self, X: Any, label: Any) -> pd.Series:
        """Split the mean coefficient of cells on one class into a part per gene.

        Parameters
        ----------
        X
            Cells x genes, as in :meth:`fit`; give one cell to explain one cell.
        label
            The class.

        Returns
        -------
        Series
            One number per gene, in the order of the basis. They sum to the mean coefficient.

        Raises
        ------
        InputError
            The class is not in the basis.
        """
        check_is_fitted(self)
        if label not in self.classes_:
            raise unknown("class of the basis", label, self.classes_)
        Z = self._scores(self._cells(X, reset=False))
        weights = self.projector_[np.flatnonzero(self.classes_ == label)[0]]
        mean = _moments(Z)[0]
        names = getattr(self, "feature_names_in_", None)
        return pd.Series(mean * weights, index=names, name=str(label))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.rank
        # A basis of class averages is not made for the two-gene toys of the estimator checks.
        tags.classifier_tags.poor_score = True
        return tags

    def _cells(self, X: Any, *, reset: bool) -> Any:
        """Check cells; genes of an AnnData are put in the order of the basis."""
        averages = reset and self.order == "average_then_rank"
        X = _validated(self, X, reset=reset)
        return map_cells(partial(_counts, averages=averages), X) if self.rank else X

    def _averages(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Average each class, shape (classes, genes)."""
        members = np.eye(len(self.classes_))[codes] / self.class_counts_
        if self.rank and self.order == "average_then_rank":
            # float64 throughout: weak genes of an average would tie in float32.
            depth = gather(map_cells(_totals, X))
            members /= np.where(depth > 0, depth, 1.0)[:, None]
            return _cross(X, members).T
        Z = self._scores(X)
        return np.asarray(_cross(Z, members).T, dtype=np.float64)

    def _scores(self, X: Any) -> Any:
        """Return the cells as they are projected."""
        return map_cells(_ranked if self.rank else _unit, X)

    def _warn_dependent(self) -> None:
        cosine = self.basis_.T @ self.basis_
        np.fill_diagonal(cosine, -np.inf)
        first, second = np.unravel_index(cosine.argmax(), cosine.shape)
        warnings.warn(
            f"The {len(self.classes_)} class averages span only {self.rank_} dimensions; the "
            f"closest pair is {str(self.classes_[first])!r} and {str(self.classes_[second])!r} "
            f"(cosine {cosine[first, second]:.4f}). Coefficients of smallest length are used. "
            "Merge classes that cannot be told apart, or use more genes.",
            UserWarning,
            stacklevel=3,
        )


def align_genes(basis: Any, query: Any) -> tuple[Any, Any]:
    """Cut two AnnData to their shared genes, in one order.

    Do this before ranking: a rank depends on which other genes are ranked.

    Parameters
    ----------
    basis, query
        AnnData whose ``var_names`` are of one kind.

    Returns
    -------
    basis, query : AnnData
        Copies with equal ``var_names``, in the order of the basis.

    Raises
    ------
    InputError
        Names repeat, or no gene is shared.
    """
    first = unique_names(basis.var_names, "The basis")
    second = unique_names(query.var_names, "The query")
    shared = first[first.isin(second)]
    if shared.empty:
        raise InputError(
            f"No genes are shared: the basis has names like {first[:3].tolist()}, the query like "
            f"{second[:3].tolist()}. Use one kind of gene name, or map orthologs first."
        )
    return basis[:, shared].copy(), query[:, shared].copy()


def _counts(X: Any, averages: bool) -> Any:
    """Refuse what cannot be ranked, or averaged before it is ranked."""
    if isinstance(X, RankMatrix):
        if averages:
            raise InputError(
                "order='average_then_rank' averages counts, and ranked cells (a RankMatrix) "
                "were given. Give counts, or use order='rank_then_average'."
            )
        return X
    values = X.data if sp.issparse(X) else X
    if values.size and values.min() < 0:
        raise InputError(
            "Negative values in data passed to CentroidProjection: "
            f"the smallest is {values.min():g}. "
            "Give counts, or use rank=False for other representations."
        )
    return X


def _totals(X: Any) -> np.ndarray:
    return np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()


def _unit(X: Any) -> Any:
    return X if isinstance(X, RankMatrix) else normalize(X.astype(np.float64), copy=False)


def _rank_exact(X: np.ndarray) -> np.ndarray:
    """Rank a few dense rows and keep float64."""
    scores = ndtri(rankdata(X, axis=1) / (X.shape[1] + 1))
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    return scores / np.where(lengths > 0, lengths, 1.0)
