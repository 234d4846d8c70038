"""Gene selection, scaling, principal components and logistic regression on sparse cells.

Every step works through the sparse part and the offset of a
:class:`~sclin.normalization.RankMatrix`; no dense cells x genes matrix is formed.
CSR matrices and plain arrays are accepted as well, and cells on disk or of Dask
(:mod:`sclin.chunks`).
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg.blas import dsyrk
from scipy.stats import f as f_distribution
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sclin.chunks import Blocks, dense, gather, map_cells, sum_cells
from sclin.errors import InputError
from sclin.normalization import RankMatrix, RankNormalizer, _two_parts, _validated

__all__ = ["AnovaSelector", "ImplicitPCA", "linear_pipeline"]

_BLOCK = 64  # most columns added to the Krylov basis in one step
_ROWS = 256  # cells or genes made dense at once by the exact solver
_RARE = 0.05  # share of cells that hold a gene, below which its products are made sparse


class AnovaSelector(SelectorMixin, BaseEstimator):
    """Keep the genes with the largest ANOVA F between classes.

    Equal to ``SelectKBest(f_classif, k=k)`` on the dense matrix, ties included.

    Parameters
    ----------
    k
        Number of genes to keep. With fewer genes than that, all are kept.

    Attributes
    ----------
    scores_ : ndarray
        F of each gene; NaN where a gene is constant. Shape (genes,).
    pvalues_ : ndarray
        p value of each F.
    k_ : int
        Number of genes kept.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [0.1, 5.0], [3.0, 1.1], [3.2, 4.8]])
    >>> AnovaSelector(k=1).fit(X, ["a", "a", "b", "b"]).get_support()
    array([ True, False])
    """

    def __init__(self, *, k: int = 20_000):
        self.k = k

    def fit(self, X: Any, y: ArrayLike | None = None) -> AnovaSelector:
        """Compute F for each gene.

        Parameters
        ----------
        X
            Cells x genes: RankMatrix, CSR or array.
        y
            Class of each cell, shape (cells,). Needed: the default only serves pipelines.

        Returns
        -------
        AnovaSelector
            The fitted selector.

        Raises
        ------
        InputError
            ``k`` is not a positive number, labels do not fit, or there are not two classes.
        """
        if not isinstance(self.k, int | np.integer) or self.k < 1:
            raise InputError(f"k={self.k!r} genes cannot be kept. Give a whole number from 1 on.")
        X = _validated(self, X, reset=True)
        n_cells = X.shape[0]
        classes, codes, counts = _classes(y, n_cells)
        if (n_classes := len(classes)) >= n_cells:
            found = f"{n_classes} classes among {n_cells} cells"
            raise InputError(f"ANOVA needs more cells than classes, and found {found}.")
        sums, squares, _ = _group_sums(X, codes, n_classes)
        between_raw = (sums**2 / counts[:, None]).sum(axis=0)
        total = sums.sum(axis=0)
        between = np.maximum(between_raw - total**2 / n_cells, 0.0)
        within = np.maximum(squares - between_raw, 0.0)
        # What is left of a constant gene is rounding, and must not look like a difference.
        constant = squares - total**2 / n_cells <= 1e-14 * squares
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (between / (n_classes - 1)) / (within / (n_cells - n_classes))
        scores[constant] = np.nan
        self.scores_ = scores
        self.pvalues_ = f_distribution.sf(scores, n_classes - 1, n_cells - n_classes)
        self.k_ = min(int(self.k), X.shape[1])
        return self

    def transform(self, X: Any) -> Any:
        """Keep the selected genes.

        Parameters
        ----------
        X
            Cells x genes, of the kind given to :meth:`fit`.

        Returns
        -------
        RankMatrix, CSR matrix or ndarray
            Cells x ``k_``. Scores keep the unit length that they had over all genes.
        """
        check_is_fitted(self)
        X = _validated(self, X, reset=False)
        return X if self.k_ == X.shape[1] else X[:, self.get_support(indices=True)]

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        scores = np.where(np.isnan(self.scores_), -np.inf, self.scores_)
        mask = np.zeros(scores.size, dtype=bool)
        mask[np.argsort(scores, kind="stable")[-self.k_ :]] = True
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


class ImplicitPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Standardise genes and project on principal components, without a dense matrix.

    Equal to ``StandardScaler`` followed by ``PCA`` on the dense matrix, signs included.

    Parameters
    ----------
    n_components
        Number of components. At most cells - 1 and genes: with more, a warning is given and
        ``n_components_`` holds what was done.
    whiten
        Scale components to unit variance.
    scale
        Divide genes by their standard deviation first. Constant genes are only centred.
    seed
        Seed of the starting block of the iterative solver.

    Attributes
    ----------
    components_ : ndarray
        Principal axes, shape (n_components_, genes).
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray
        As in :class:`sklearn.decomposition.PCA`.
    mean_, scale_ : ndarray
        Centre and divisor of each gene.
    n_components_ : int
        Number of components found.
    solver_ : str
        ``"exact"`` or ``"krylov"``.

    Notes
    -----
    Small problems are solved exactly, from the ``float64`` cross products of the shorter side,
    made in blocks. Others use block Krylov iteration [1]_ with full orthogonalisation:
    blocks of 32 or 64 columns, a basis of twice the components and 128 more.
    Leading components agree with the exact ones to many digits. The last ones lie in the flat
    end of the spectrum, where only the space they span means something. The tests hold the
    variance captured by all components to at least 99 % of the exact one, on a flat spectrum, and
    above that of scikit-learn's randomized solver.

    References
    ----------
    .. [1] Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate
       singular value decomposition", NeurIPS (2015).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(30, 5))
    >>> ImplicitPCA(n_components=2, whiten=True).fit_transform(X).shape
    (30, 2)
    """

    def __init__(
        self, *, n_components: int = 50, whiten: bool = False, scale: bool = True, seed: int = 0
    ):
        self.n_components = n_components
        self.whiten = whiten
        self.scale = scale
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> ImplicitPCA:
        """Find the components.

        Parameters
        ----------
        X
            Cells x genes: RankMatrix, CSR or array.
        y
            Ignored.

        Returns
        -------
        ImplicitPCA
            The fitted transformer.

        Raises
        ------
        InputError
            ``n_components`` is not a positive number, or there are fewer than two cells.

        Warns
        -----
        UserWarning
            Fewer components exist than were asked for.
        """
        wanted = self.n_components
        if not isinstance(wanted, int | np.integer) or wanted < 1:
            raise InputError(f"n_components={wanted!r}: give a whole number from 1 on.")
        X = _validated(self, X, reset=True)
        n_cells, n_genes = X.shape
        if n_cells < 2:
            raise InputError(f"Found array with {n_cells} sample(s): components need two cells.")
        self.n_components_ = self._n_features_out = min(int(wanted), n_cells - 1, n_genes)
        if self.n_components_ < wanted:
            warnings.warn(
                f"{wanted} components were asked for; {n_cells} cells and {n_genes} genes have "
                f"{self.n_components_}. Lower n_components to silence this.",
                UserWarning,
                stacklevel=2,
            )
        self.mean_, variance = _moments(X)
        # No more than rounding, by the bound of scikit-learn's scaler.
        eps = np.finfo(np.float64).eps
        constant = variance <= n_cells * eps * variance + (n_cells * self.mean_ * eps) ** 2
        self.scale_ = np.ones(n_genes)
        if self.scale:
            self.scale_[~constant] = np.sqrt(variance[~constant])
        variance[constant] = 0.0
        A = Standardized(X, self.mean_, self.scale_)
        width = min(2 * self.n_components_ + 2 * _BLOCK, n_cells, n_genes)
        large = min(n_cells, n_genes) > max(2 * width, 500)
        found = _krylov(A, self.n_components_, width, self.seed) if large else None
        self.solver_ = "krylov" if found else "exact"
        axes, squared = found or _exact(A, self.n_components_)
        self.components_ = svd_flip(None, axes, u_based_decision=False)[1]
        self.singular_values_ = np.sqrt(squared)
        self.explained_variance_ = squared / (n_cells - 1)
        total = float((variance / self.scale_**2).sum()) * n_cells / (n_cells - 1)
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1.0)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute the component scores of cells.

        Parameters
        ----------
        X
            Cells x genes, with the genes seen by :meth:`fit`.

        Returns
        -------
        ndarray
            Cells x components, in ``float64``.
        """
        check_is_fitted(self)
        X = _validated(self, X, reset=False)
        axes = self.components_.T
        if self.whiten:
            spread = np.sqrt(self.explained_variance_)
            axes = axes / np.maximum(spread, np.finfo(np.float64).eps)
        return Standardized(X, self.mean_, self.scale_).dot(axes)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


def linear_pipeline(
    *, rank: bool = True, n_genes: int = 20_000, n_components: int = 220, whiten: bool = True,
    C: float = 1.0, max_iter: int = 1000, seed: int = 0,
) -> Pipeline:  # fmt: skip
    """Build the linear model: rank, select genes, scale, reduce, classify.

    Parameters
    ----------
    rank
        Rank the cells first. False for a matrix that is a representation already.
    n_genes
        Genes kept by :class:`AnovaSelector`.
    n_components
        Components kept by :class:`ImplicitPCA`.
    whiten
        Scale components to unit variance.
    C
        Inverse strength of the L2 penalty of the logistic regression.
    max_iter
        Largest number of steps of its solver.
    seed
        Seed of the components.

    Returns
    -------
    Pipeline
        Steps ``rank`` (if asked for), ``anova``, ``pca`` and ``logistic``. Everything is fitted
        in ``fit``, so cross-validation never sees test cells.

    References
    ----------
    .. [1] Souza and Mehta, arXiv 2602.16696 (2026).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(np.repeat([[1, 5], [5, 1]], 20, axis=0).repeat(10, axis=1))
    >>> model = linear_pipeline(n_components=5).fit(counts, np.repeat(["a", "b"], 20))
    >>> list(model.named_steps)
    ['rank', 'anova', 'pca', 'logistic']
    """
    steps: list[tuple[str, BaseEstimator]] = [
        ("anova", AnovaSelector(k=n_genes)),
        ("pca", ImplicitPCA(n_components=n_components, whiten=whiten, seed=seed)),
        ("logistic", LogisticRegression(C=C, class_weight="balanced", max_iter=max_iter)),
    ]
    return Pipeline([("rank", RankNormalizer()), *steps] if rank else steps)


class PublishedPipeline(Pipeline):
    """`linear_pipeline` as a head: for whole-genome matrices only, and for few cells too."""

    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> PublishedPipeline:
        """Fit on training cells; with few of them, PCA keeps as many components as they bear."""
        n = self["pca"].n_components
        if X.shape[1] <= n:
            raise InputError(f"{X.shape[1]} columns, over {n} are needed: use 'logistic'.")
        self["pca"].n_components = min(n, X.shape[0] - 1)
        try:
            return super().fit(X, y, **params)
        finally:
            self["pca"].n_components = n  # the next cells may bear more


# --- statistics of genes -----------------------------------------------------------------------


def _classes(y: Any, n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, the number of that of each cell, and the cells in each."""
    labels = np.asarray(y)
    if y is None or labels.ndim == 0:
        raise InputError("requires y to be passed, but the target y is None: give the classes.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.shape != (n_cells,):
        raise InputError(f"y has shape {labels.shape} for {n_cells} cells. Give one label each.")
    if missing := int(pd.isna(labels).sum()):
        raise InputError(
            f"{missing} cells have no label; drop them, or give them a class of their own."
        )
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise InputError(f"{error} Give class labels, not measurements.") from error
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"Only one class is in y ({str(classes[0])!r}); give two or more.")
    return classes, codes, counts


def _centre(X: Any) -> Any:
    """Where cells lie, more or less; of blocks, those of the first one."""
    X = gather(X[: X.raw.chunks[0][0]]) if isinstance(X, Blocks) else X
    if isinstance(X, RankMatrix):
        return float(X.offset.mean()) if len(X) else 0.0
    return X.mean(axis=0, dtype=np.float64)


def _group_sums(X: Any, codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Sums by group and sums of squares, about a centre that keeps rounding small."""
    X = _two_parts(X)
    centre = _centre(X)
    return *sum_cells(partial(_about, n_groups=n_groups, centre=centre), X, codes), centre


def _about(X: Any, codes: np.ndarray, n_groups: int, centre: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(X, RankMatrix):
        return X.group_sums(codes, n_groups, centre)
    centred = X - centre
    members = sp.csr_matrix((np.ones(len(X)), (codes, np.arange(len(X)))), (n_groups, len(X)))
    return members @ centred, np.einsum("ij,ij->j", centred, centred)


def _cross(X: Any, A: np.ndarray) -> np.ndarray:
    """Product of the transpose with A (cells x k)."""
    return sum_cells(_cross_block, _two_parts(X), A)


def _cross_block(X: Any, A: np.ndarray) -> np.ndarray:
    return X.T_dot(A) if isinstance(X, RankMatrix) else X.T @ A


def _dot(X: Any, B: np.ndarray) -> np.ndarray:
    """Product with B (genes x k)."""
    return gather(map_cells(partial(_dot_block, B=B), X))


def _dot_block(X: Any, B: np.ndarray) -> np.ndarray:
    return X @ B


def _moments(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each gene."""
    X = _two_parts(X)
    if isinstance(X, np.ndarray):
        return X.mean(axis=0, dtype=np.float64), X.var(axis=0, dtype=np.float64)
    sums, squares, centre = _group_sums(X, np.zeros(X.shape[0], dtype=np.int64), 1)
    mean = sums[0] / X.shape[0]
    return mean + centre, np.maximum(squares / X.shape[0] - mean**2, 0.0)


# --- the standardised matrix -------------------------------------------------------------------


def _shifted(X: Any, by: Any) -> Any:
    return RankMatrix(X.sparse, X.offset - by) if isinstance(X, RankMatrix) else X - by


class Standardized:
    """``(X - mean) / scale``, used through products only; the scale may be one number."""

    def __init__(self, X: Any, mean: np.ndarray, scale: np.ndarray | float):
        X = _two_parts(X)
        scale = np.broadcast_to(scale, mean.shape)
        if not isinstance(X, np.ndarray):
            # Offsets about their own mean: the two corrections below then stay small.
            centre = _centre(X)
            X, mean = map_cells(partial(_shifted, by=centre), X), mean - centre
        elif X.dtype.kind != "f":
            X = X.astype(np.float64)
        self.X, self.mean, self.scale = X, mean, scale
        self.shape, self.dtype = X.shape, X.dtype

    def dot(self, B: np.ndarray) -> np.ndarray:
        """Return the product with B (genes x k)."""
        scaled = B / self.scale[:, None]
        out = _dot(self.X, scaled.astype(B.dtype, copy=False))
        out -= (self.mean @ scaled).astype(out.dtype, copy=False)
        return out

    def T_dot(self, A: np.ndarray) -> np.ndarray:
        """Return the product of the transpose with A (cells x k)."""
        out = _cross(self.X, A)
        out -= np.outer(self.mean, A.sum(axis=0, dtype=np.float64))
        out /= self.scale[:, None]
        return out

    def gram(self) -> np.ndarray:
        """Return the products of all pairs of cells."""
        self.X, half = gather(self.X), np.zeros((self.shape[0], self.shape[0]), order="F")
        rare = np.zeros(self.shape[1], dtype=bool)
        if isinstance(self.X, RankMatrix):
            rare = self.X.sparse.getnnz(axis=0) < _RARE * len(half)
        for block in self.gene_blocks(~rare):
            half = dsyrk(1.0, block.T, beta=1.0, c=half, trans=1, overwrite_c=1)
        half += np.triu(half, 1).T
        if rare.any():
            S, B, D = self._three_parts(rare)
            across = (S @ D.T) @ B.T
            half += across + across.T + B @ (D @ D.T) @ B.T
            turned = S.T.tocsr()
            for rows in gen_batches(len(half), _ROWS):
                half[rows] += (S[rows] @ turned).toarray()
        return half

    def lengths(self) -> np.ndarray:
        """Return the length of each cell in memory; for none, the least number that divides."""
        if isinstance(self.X, np.ndarray):
            parts = gen_batches(self.shape[0], _ROWS)
            lengths = np.concatenate([np.linalg.norm(self.cells(p), axis=1) for p in parts])
        else:
            S, B, D = self._three_parts(slice(None))
            squares = S.multiply(S).sum(axis=1).A1
            squares += ((2 * (S @ D.T) + B @ (D @ D.T)) * B).sum(axis=1)
            lengths = np.sqrt(np.maximum(squares, 0.0))
        return np.maximum(lengths, np.finfo(float).tiny)

    def _three_parts(self, genes: Any) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
        """Some genes of all cells as ``S + B @ D``: what is stored, and two narrow matrices."""
        share, mean = 1 / self.scale[genes], self.mean[genes]
        S = self.X.sparse[:, genes].multiply(share).tocsr()
        B = np.column_stack([self.X.offset, -np.ones(self.shape[0])])
        return S, B, np.vstack([share, mean * share])

    def cross(self) -> np.ndarray:
        """Return the products of all pairs of genes."""
        return sum_cells(partial(_cross_genes, mean=self.mean, scale=self.scale), self.X)

    def cells(self, block: Any) -> np.ndarray:
        """Return some cells, dense in float64."""
        return _standard(gather(self.X[block]), self.mean, self.scale)

    def gene_blocks(self, genes: Any = slice(None)) -> Any:
        """Yield all cells for some genes at a time, dense in float64."""
        X = gather(self.X)
        by_gene = X.sparse.tocsc() if isinstance(X, RankMatrix) else X
        genes = np.arange(self.shape[1])[genes]
        for part in (genes[some] for some in gen_batches(len(genes), _ROWS)):
            block = dense(by_gene[:, part])
            if isinstance(X, RankMatrix):
                block = block + X.offset[:, None]
            yield (block - self.mean[part]) / self.scale[part]


def _standard(X: Any, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Some cells, dense in float64."""
    if isinstance(X, RankMatrix):
        return (X.sparse.toarray() - (mean - X.offset[:, None])) / scale
    return (X - mean) / scale


def _cross_genes(X: Any, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    cross = np.zeros((X.shape[1], X.shape[1]))
    for rows in gen_batches(X.shape[0], _ROWS):
        block = _standard(X[rows], mean, scale)
        cross += block.T @ block
    return cross


def products(X: Any) -> np.ndarray:
    """Return the products of all pairs of cells as they are; `centred` serves any part of them."""
    return Standardized(X, np.zeros(X.shape[1]), 1.0).gram()


def centred(pairs: np.ndarray) -> np.ndarray:
    """Return the products of pairs of cells about the mean of these cells."""
    mean = pairs.mean(axis=0)
    return pairs - mean - mean[:, None] + mean.mean()


def _exact(A: Standardized, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Components and squared singular values, from cross products of the shorter side."""
    n_cells, n_genes = A.shape
    if n_genes <= n_cells:
        squared, vectors = np.linalg.eigh(A.cross())
        return vectors[:, ::-1][:, :k].T.copy(), np.maximum(squared[::-1][:k], 0.0)
    squared, vectors = np.linalg.eigh(A.gram())
    squared, vectors = squared[::-1][:k], vectors[:, ::-1][:, :k]
    real = squared > squared[0] * np.finfo(np.float64).eps * n_cells
    squared = np.where(real, squared, 0.0)
    axes = np.vstack([block.T @ vectors for block in A.gene_blocks()])
    axes[:, real] /= np.sqrt(squared[real])
    if not real.all():  # directions without variance: any that complete an orthonormal set
        axes[:, ~real] = np.random.default_rng(0).normal(size=(n_genes, int((~real).sum())))
        axes = np.linalg.qr(axes)[0]
    return axes.T.copy(), squared


def _krylov(A: Standardized, k: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Leading components from a block Krylov space; None when the space is too small for k."""
    n_cells, n_genes = A.shape
    # Narrow blocks reach further for the same work; wide ones make better use of the cache.
    step = _BLOCK if k > 2 * _BLOCK else _BLOCK // 2
    start = np.random.default_rng(seed).standard_normal((n_genes, min(step, width)))
    image = start.astype(A.dtype)
    basis, images = np.empty((n_cells, 0), A.dtype), np.empty((n_genes, 0), A.dtype)
    while (room := width - basis.shape[1]) > 0:
        block = _orthonormal(A.dot(image).astype(np.float64), basis)[:, :room].astype(A.dtype)
        if block.shape[1] == 0:
            break
        image = A.T_dot(block)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
    if basis.shape[1] < k:
        return None
    cross = np.zeros((basis.shape[1], basis.shape[1]))
    for genes in gen_batches(n_genes, 4096):
        part = images[genes].astype(np.float64)
        cross += part.T @ part
    squared, vectors = np.linalg.eigh(cross)
    squared, vectors = squared[::-1][:k], vectors[:, ::-1][:, :k]
    if squared[-1] <= squared[0] * 1e-10:
        return None
    axes = (images @ vectors.astype(A.dtype)).astype(np.float64)
    return (axes / np.sqrt(squared)).T.copy(), squared


def _orthonormal(block: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Orthonormal columns of `block` outside of `basis`; columns that add nothing are dropped."""
    size = np.linalg.norm(block, axis=0).max()
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
        block, triangle = np.linalg.qr(block)
        keep = np.abs(np.diag(triangle)) > 1e-5 * size
        block, size = block[:, keep], 1.0
    return block
