"""Rank normal scores of single cells, kept sparse.

For a cell with ``G`` genes: rank the values (ties share their average rank), take the normal
quantile of ``rank / (G + 1)`` and divide the cell by its Euclidean length.
All genes that a cell does not express tie, so a cell is a sparse part plus one number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import get_num_threads, prange
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import ndtri
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted, validate_data

from sclin.chunks import (
    Blocks,
    canonical,
    float_type,
    gather,
    map_cells,
    matrix,
    opened,
    refuse_not_finite,
)
from sclin.compiled import njit
from sclin.errors import InputError
from sclin.genes import positions

_COUNT_LIMIT = 1 << 14  # whole numbers below this are ranked by counting, not by sorting
_LANES = 4  # tallies a cell, so that neighbouring ones, the most frequent count, do not wait
_TILE = 64  # columns of a product worked on at once
_CACHE = 1 << 19  # bytes of the dense side worked on at once: what a core keeps at hand
_ROWS = 256  # cells that meet these genes before the next ones
_GROUPS = 8  # fixed, so that sums do not depend on the number of threads


def rank_normalize(X: Any) -> RankMatrix:
    """Turn each cell into rank normal scores of unit length.

    Parameters
    ----------
    X
        Cells x genes. A SciPy sparse matrix, an array or data frame, an AnnData (its ``X``), a
        matrix on disk or of Dask (see `sclin.chunks`), or an iterator over blocks of cells.
        Values may be counts, logs or any finite numbers. The input is never modified.

    Returns
    -------
    RankMatrix
        Cells x genes, in ``float32`` and in memory. Index arrays are shared with a canonical CSR
        input. `RankNormalizer` leaves the scores of blocks where the cells are.

    Raises
    ------
    InputError
        The matrix is not two-dimensional, has no genes, is not numeric, or holds NaN or infinity.

    Notes
    -----
    The scores are those of :func:`scipy.stats.rankdata` and :func:`scipy.special.ndtri` in
    ``float64``, to 1e-6. An average rank is a multiple of one half, so one table of ``2 G``
    quantiles serves all cells. Whole numbers are ranked by counting them, others by sorting.

    An empty cell, a cell whose values are all equal, and a matrix with one gene have no order:
    all their scores are 0. Explicit zeros count as zeros and duplicate entries are summed.
    Zeros rank between negative and positive values.

    Examples
    --------
    >>> import numpy as np
    >>> rank_normalize(np.array([[0.0, 0.0, 1.0, 5.0]])).toarray().round(3)
    array([[-0.456, -0.456,  0.22 ,  0.732]], dtype=float32)
    """
    if isinstance(X, Iterator):
        return RankMatrix.stack(map(rank_normalize, X))
    cells, genes = (X.obs_names, X.var_names) if _is_anndata(X) else (None, None)
    X = opened(X.X if _is_anndata(X) else X, genes)
    return gather(map_cells(partial(_ranked, cells=cells, genes=genes), X))


class RankMatrix:
    """A cells x genes matrix that is a sparse part plus one number per cell.

    ``Z[i, g] = sparse[i, g] + offset[i]``. Products, sums and slices work on the two parts.
    What would make a dense array of it, such as ``np.asarray``, is refused.
    An AnnData takes no such matrix as a layer: :func:`sclin.pp.rank_normalize` stores the parts.

    Parameters
    ----------
    sparse
        CSR matrix, cells x genes: the score minus the cell's offset where a gene is seen.
    offset
        The score that all unseen genes of a cell share, shape (cells,).

    Examples
    --------
    >>> import numpy as np
    >>> Z = rank_normalize(np.array([[0, 0, 3], [1, 0, 0]]))
    >>> Z.shape, Z.nnz
    ((2, 3), 2)
    >>> (Z @ np.eye(3)).round(2)
    array([[-0.39, -0.39,  0.83],
           [ 0.83, -0.39, -0.39]])
    """

    ndim = 2
    # NumPy then leaves `array @ RankMatrix` to __rmatmul__ below.
    __array_ufunc__ = None

    def __init__(self, sparse: sp.csr_matrix, offset: ArrayLike):
        self.sparse = sp.csr_matrix(sparse)
        self.offset = np.asarray(offset, dtype=np.float64)
        if self.offset.shape != (sparse.shape[0],):
            raise InputError(
                f"The offset has shape {self.offset.shape} for {sparse.shape[0]} cells. "
                "Give one number per cell."
            )

    @classmethod
    def stack(cls, blocks: Iterable[RankMatrix]) -> RankMatrix:
        """Put blocks of cells on top of each other.

        Parameters
        ----------
        blocks
            At least one RankMatrix; all with the same genes.

        Returns
        -------
        RankMatrix
            All cells, in order.

        Raises
        ------
        InputError
            There is no block, or the blocks differ in their number of genes.
        """
        parts = list(blocks)
        if len({part.shape[1] for part in parts}) != 1:
            raise InputError("Give at least one block of cells, and the same genes in each.")
        if len(parts) == 1:
            return parts[0]
        return cls(
            sp.csr_matrix(sp.vstack([part.sparse for part in parts], format="csr")),
            np.concatenate([part.offset for part in parts]),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.sparse.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored scores."""
        return self.sparse.dtype

    @property
    def nnz(self) -> int:
        """Number of stored scores."""
        return self.sparse.nnz

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[RankMatrix]:
        return (self[cell] for cell in range(len(self)))

    def __repr__(self) -> str:
        cells, genes = self.shape
        return f"RankMatrix({cells:,} cells x {genes:,} genes, {self.nnz:,} stored scores)"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        cells, genes = self.shape
        raise InputError(
            f"A dense copy of this {cells:,} x {genes:,} RankMatrix was asked for "
            f"({cells * genes * 4 / 1e9:.2g} GB).\n"
            "If that is meant, use RankNormalizer(dense=True) or .toarray(); "
            "estimators of sclin.linear read it as it is."
        )

    def __getitem__(self, key: Any) -> RankMatrix:
        """Select cells, and genes after a comma; a single index keeps two dimensions."""
        rows, columns = key if isinstance(key, tuple) else (key, Ellipsis)
        sparse, offset = self.sparse, self.offset
        if not _is_everything(rows):
            rows = _positions(rows, self.shape[0], "cell")
            sparse, offset = sparse[rows], offset[rows]
        if not _is_everything(columns):
            sparse = sparse[:, _positions(columns, self.shape[1], "gene")]
        return RankMatrix(sparse, offset)

    def toarray(self) -> np.ndarray:
        """Return the dense matrix.

        Returns
        -------
        ndarray
            Cells x genes, in the type of the stored scores.
        """
        dense = self.sparse.toarray()
        dense += self.offset[:, None].astype(dense.dtype)
        return dense

    def dot(self, B: ArrayLike) -> np.ndarray:
        """Multiply from the right: ``Z @ B``.

        Parameters
        ----------
        B
            Genes x k, or a vector of length genes.

        Returns
        -------
        ndarray
            Cells x k, or a vector of length cells.

        Raises
        ------
        InputError
            The number of rows of ``B`` is not the number of genes.
        """
        right = _right_side(B, self.shape[1], "genes")
        columns = right.reshape(len(right), -1)
        product = _product(self.sparse, columns, transpose=False)
        product += np.outer(self.offset, columns.sum(axis=0, dtype=np.float64))
        return product.reshape((self.shape[0], *right.shape[1:]))

    def T_dot(self, A: ArrayLike) -> np.ndarray:
        """Multiply the transpose from the right: ``Z.T @ A``.

        Parameters
        ----------
        A
            Cells x k, or a vector of length cells.

        Returns
        -------
        ndarray
            Genes x k, or a vector of length genes.

        Raises
        ------
        InputError
            The number of rows of ``A`` is not the number of cells.
        """
        right = _right_side(A, self.shape[0], "cells")
        columns = right.reshape(len(right), -1)
        product = _product(self.sparse, columns, transpose=True)
        product += self.offset @ columns
        return product.reshape((self.shape[1], *right.shape[1:]))

    def __matmul__(self, B: ArrayLike) -> np.ndarray:
        return self.dot(B)

    def __rmatmul__(self, A: ArrayLike) -> np.ndarray:
        return self.T_dot(np.asarray(A).T).T

    def group_sums(
        self, codes: np.ndarray, n_groups: int, centre: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sum the scores by group of cells, about a common centre.

        Parameters
        ----------
        codes
            Group of each cell, 0 to ``n_groups - 1``, shape (cells,).
        n_groups
            Number of groups.
        centre
            A number near the offsets. Taking it out first keeps rounding errors small.

        Returns
        -------
        sums : ndarray
            Groups x genes: sum of ``Z - centre`` over the cells of each group.
        squares : ndarray
            Sum of ``(Z - centre) ** 2`` over all cells, shape (genes,).
        """
        shift = self.offset - centre
        codes = np.ascontiguousarray(codes, dtype=np.int64)
        csr = self.sparse.indptr, self.sparse.indices, self.sparse.data
        sums, squares = _group_sums(*csr, shift, codes, n_groups, self.shape[1])
        sums += np.bincount(codes, weights=shift, minlength=n_groups)[:, None]
        squares += float(shift @ shift)
        return sums, squares

    def mean(self, axis: int) -> np.ndarray:
        """Average over cells (``axis=0``) or over genes (``axis=1``), in ``float64``."""
        return self._moments(axis)[0]

    def var(self, axis: int) -> np.ndarray:
        """Population variance over cells (``axis=0``) or genes (``axis=1``), in ``float64``."""
        return self._moments(axis)[1]

    def _moments(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        cells = len(self)
        if axis in (0, -2):
            centre = float(self.offset.mean()) if cells else 0.0
            sums, squares = self.group_sums(np.zeros(cells, dtype=np.int64), 1, centre)
            mean = sums[0] / cells
            return mean + centre, np.maximum(squares / cells - mean**2, 0.0)
        if axis in (1, -1):
            mean, variance = mean_variance_axis(self.sparse.astype(np.float64), axis=1)
            return mean + self.offset, variance
        raise InputError(f"axis={axis!r} is not an axis of a matrix. Use 0 (cells) or 1 (genes).")


class RankNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Rank normal scores as a scikit-learn transformer.

    Each cell is transformed on its own: ``fit`` learns nothing but the number of genes.

    Parameters
    ----------
    dense
        Return a plain array instead of a RankMatrix: for small data, for estimators that need
        one, and for ``set_output(transform="pandas")``.

    Examples
    --------
    >>> import numpy as np
    >>> RankNormalizer().fit_transform(np.array([[0, 2, 1], [0, 0, 4]]))
    RankMatrix(2 cells x 3 genes, 3 stored scores)
    """

    def __init__(self, *, dense: bool = False):
        self.dense = dense

    def fit(self, X: Any, y: Any = None) -> RankNormalizer:
        """Record the number of genes.

        Parameters
        ----------
        X
            Cells x genes: CSR, array, AnnData or RankMatrix.
        y
            Ignored.

        Returns
        -------
        RankNormalizer
            The transformer itself.
        """
        _validated(self, X, reset=True)
        return self

    def transform(self, X: Any) -> RankMatrix | np.ndarray:
        """Compute rank normal scores.

        Parameters
        ----------
        X
            Cells x genes: CSR, array, AnnData, RankMatrix, or a matrix on disk or of Dask.

        Returns
        -------
        RankMatrix, Blocks or ndarray
            Cells x genes; of a matrix that is not in memory a `sclin.chunks.Blocks`, unless
            dense.
        """
        check_is_fitted(self, "n_features_in_")
        scores = map_cells(_ranked, _validated(self, X, reset=False))
        return gather(scores).toarray() if self.dense else scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # scores are float32 whatever comes in
        return tags


# --- reading -----------------------------------------------------------------------------------


def _is_anndata(X: Any) -> bool:
    return hasattr(X, "obs_names") and hasattr(X, "var_names") and hasattr(X, "layers")


def _validated(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Check `X` as scikit-learn does, letting RankMatrix and AnnData through.

    An AnnData leaves its gene names in the estimator; a later one is put in their order.
    Returns a RankMatrix, a CSR matrix, an array, or `Blocks` of these.
    """
    names, seen = None, None if reset else getattr(estimator, "feature_names_in_", None)
    genes = order = None
    if _is_anndata(X):
        genes, X = X.var_names, X.X
        order = None if seen is None else positions(genes, seen, type(estimator).__name__)
        names = genes.to_numpy(dtype=object) if order is None else seen
    X = opened(X, genes)
    X = X if order is None else X[:, order]
    known = isinstance(X, RankMatrix | Blocks)
    if names is not None or known:  # scikit-learn would miss their names
        vars(estimator).pop("feature_names_in_", None)
    if known:
        wanted = X.shape[1] if reset else getattr(estimator, "n_features_in_", None)
        if X.shape[1] != wanted:
            raise InputError(
                f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
                f"{wanted} features as input. Give the genes it was fitted on, in their order."
            )
        estimator.n_features_in_ = wanted
    else:
        check: Any = {"accept_sparse": "csr", "dtype": "numeric", "ensure_all_finite": False}
        try:
            X = validate_data(estimator, X, reset=reset, **check)
        except ValueError as error:
            said = f"{error} ({type(estimator).__name__} reads cells x genes.)"
            raise InputError(said) from error
        refuse_not_finite(X)
    if (kept := names if reset else seen) is not None:
        estimator.feature_names_in_ = kept
    return X


def _two_parts(X: Any) -> Any:
    """See a sparse matrix as a RankMatrix whose offsets are 0; leave the rest as it is."""
    X = opened(X.X if _is_anndata(X) else X)
    if isinstance(X, Blocks):
        return X.then(_two_parts)
    if not sp.issparse(X):
        return X
    X = sp.csr_matrix(X)
    if X.dtype.kind != "f":
        X = X.astype(float_type(X.data))
    return RankMatrix(X, np.zeros(X.shape[0]))


# --- ranking -----------------------------------------------------------------------------------


def _ranked(X: Any, cells: Any = None, genes: Any = None) -> RankMatrix:
    """Rank cells in memory; their names are for errors."""
    if isinstance(X, RankMatrix):
        return X
    X = matrix(X)
    X = canonical(X if sp.issparse(X) else sp.csr_matrix(X.astype(float_type(X), copy=False)))
    n_cells, n_genes = X.shape
    scores = np.empty(X.nnz, dtype=np.float32)
    offset = np.empty(n_cells)
    bad = np.zeros(n_cells, dtype=np.bool_)
    # As whole numbers, the bits of floats from 0 on have the order of the floats; those of
    # negative numbers, NaN and infinity are larger.
    bits = X.data.view(f"u{X.dtype.itemsize}")
    limit = X.dtype.type(_COUNT_LIMIT).view(bits.dtype)
    table, n_blocks = _quantiles(n_genes), min(n_cells, 8 * get_num_threads())
    _rank_rows(X.indptr, X.data, bits, limit, n_genes, table, n_blocks, scores, offset, bad)
    if bad.any():
        refuse_not_finite(X, cells=cells, genes=genes)
    return RankMatrix(sp.csr_matrix((scores, X.indices, X.indptr), shape=X.shape), offset)


@lru_cache(4)
def _quantiles(n_genes: int) -> np.ndarray:
    """Normal quantile of the average rank r / 2, as entry r."""
    return ndtri(np.arange(2 * n_genes + 1) / 2 / (n_genes + 1))


@njit(parallel=True)
def _rank_rows(indptr, data, bits, limit, n_genes, table, n_blocks, scores, offset, bad):
    n_cells = len(indptr) - 1
    for block in prange(n_blocks):
        tally = np.zeros((_COUNT_LIMIT, _LANES), dtype=np.int32)
        quantile, score = np.empty(_COUNT_LIMIT), np.empty(_COUNT_LIMIT, dtype=np.float32)
        for cell in range(block * n_cells // n_blocks, (block + 1) * n_cells // n_blocks):
            low, high = indptr[cell], indptr[cell + 1]
            values = data[low:high]
            if _are_counts(values, bits[low:high], limit):
                offset[cell] = _rank_by_counting(
                    values, n_genes, table, tally, quantile, score, scores[low:high]
                )
            elif np.isfinite(values).all():
                offset[cell] = _rank_by_sorting(
                    values, bits[low:high], n_genes, table, scores[low:high]
                )
            else:
                bad[cell] = True


@njit()
def _are_counts(values, bits, limit):
    """Tell whether all values are whole numbers from 0 to below the limit, in one vector loop."""
    largest, n_broken = limit - limit, np.uint32(0)
    for i in range(len(values)):
        largest = max(largest, bits[i])
        n_broken += np.uint32(np.floor(values[i]) != values[i])
    return n_broken == 0 and largest < limit


@njit()
def _rank_by_counting(values, n_genes, table, tally, quantile, score, scores):
    top = np.uint32(0)
    whole = len(values) // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            seen = np.uint32(values[start + lane])
            tally[seen, lane] += 1
            top = max(top, seen)
    for value in values[whole:]:
        tally[np.uint32(value), 0] += 1
        top = max(top, np.uint32(value))
    n_zero = n_genes - len(values) + tally[0].sum()
    zero = table[n_zero + 1] if n_zero > 0 else 0.0
    below, square = n_zero, n_zero * zero * zero
    tally[0], quantile[0] = 0, zero
    for count in range(1, top + 1):
        n = 0
        for lane in range(_LANES):
            n += tally[count, lane]
            tally[count, lane] = 0
        if n > 0:
            quantile[count] = table[2 * below + n + 1]
            square += n * quantile[count] * quantile[count]
            below += n
    scale = 1.0 / np.sqrt(square) if square > 0 else 0.0
    for count in range(top + 1):
        score[count] = (quantile[count] - zero) * scale
    for i in range(len(values)):
        scores[i] = score[np.uint32(values[i])]
    return zero * scale


@njit()
def _rank_by_sorting(values, bits, n_genes, table, scores):
    n_zero, n_negative = n_genes - np.count_nonzero(values), np.count_nonzero(values < 0)
    zero = table[2 * n_negative + n_zero + 1] if n_zero > 0 else 0.0
    order, quantile = _ascending(bits), np.empty(len(values))
    below, square, start = 0, n_zero * zero * zero, 0
    while start < len(values):
        value = values[order[start]]
        stop = start + 1
        while stop < len(values) and values[order[stop]] == value:
            stop += 1
        if start == n_negative:
            below += n_zero
        mine = zero
        if value != 0:
            mine = table[2 * below + stop - start + 1]
            square += (stop - start) * mine**2
            below += stop - start
        for place in range(start, stop):
            quantile[order[place]] = mine
        start = stop
    scale = 1.0 / np.sqrt(square) if square > 0 else 0.0
    for i in range(len(values)):
        scores[i] = (quantile[i] - zero) * scale
    return zero * scale


@njit()
def _ascending(bits):
    """Order of floats from their bits: a radix sort by bytes, which beats comparisons."""
    keys = np.empty_like(bits)
    sign = bits.dtype.type(1) << bits.dtype.type(8 * bits.itemsize - 1)
    for i in range(len(bits)):
        keys[i] = ~bits[i] if bits[i] & sign else bits[i] | sign
    order = np.arange(len(bits)).astype(np.int32)
    spare = np.empty_like(order)
    for shift in range(0, 8 * bits.itemsize, 8):
        ends = np.zeros(256, dtype=np.int32)
        for key in keys:
            ends[np.uint8(key >> shift)] += 1
        if ends.max() == len(bits):  # all keys have this byte in common
            continue
        ends = np.cumsum(ends)
        for place in order[::-1]:
            digit = np.uint8(keys[place] >> shift)
            ends[digit] -= 1
            spare[ends[digit]] = place
        order, spare = spare, order
    return order


# --- products ----------------------------------------------------------------------------------


def _right_side(B: ArrayLike, rows: int, what: str) -> np.ndarray:
    right = np.asarray(B)
    if right.dtype.kind != "f":
        right = right.astype(np.float64)
    if right.ndim not in (1, 2) or right.shape[0] != rows:
        raise InputError(
            f"The matrix has {rows} {what}; an array of shape {right.shape} cannot be multiplied "
            f"with it. Give {rows} rows."
        )
    return right


def _product(X: sp.csr_matrix, B: np.ndarray, *, transpose: bool) -> np.ndarray:
    """Return ``X @ B`` or ``X.T @ B``, in tiles of columns and genes, on all cores."""
    dtype = np.result_type(X.dtype, B.dtype)
    out = np.zeros((X.shape[int(transpose)], B.shape[1]), dtype=dtype)
    bounds = np.searchsorted(X.indptr, np.linspace(0, X.nnz, _GROUPS + 1))
    for tile in gen_batches(B.shape[1], _TILE):
        right = np.ascontiguousarray(B[:, tile], dtype=dtype)
        n_genes = _CACHE // (dtype.itemsize * right.shape[1])
        n_genes = n_genes if X.has_sorted_indices else X.shape[1]
        starts = X.indptr[:-1].copy()
        if not transpose:
            part = np.zeros((len(out), right.shape[1]), dtype=dtype)
            _plain_product(X.indptr, X.indices, X.data, right, starts, n_genes, part)
            out[:, tile] = part
            continue
        for genes in gen_batches(len(out), n_genes):
            parts = np.zeros((_GROUPS, genes.stop - genes.start, right.shape[1]), dtype=dtype)
            _transposed_product(
                X.indices, X.data, right, bounds, starts, X.indptr, genes.start, parts
            )
            out[genes, tile] = parts.sum(axis=0)
    return out


@njit(parallel=True, fastmath={"contract"})
def _plain_product(indptr, indices, data, right, starts, n_genes, out):
    for block in prange((len(out) + _ROWS - 1) // _ROWS):
        rows = range(block * _ROWS, min((block + 1) * _ROWS, len(out)))
        for last in range(n_genes, len(right) + n_genes, n_genes):
            for row in rows:
                mine, place = out[row], starts[row]
                stop = place + np.searchsorted(indices[place : indptr[row + 1]], last)
                starts[row] = stop
                # Four genes at a time, so that the row is read and written once for them.
                while place + 4 <= stop:
                    a, b, c, d = data[place], data[place + 1], data[place + 2], data[place + 3]
                    A, B = right[indices[place]], right[indices[place + 1]]
                    C, D = right[indices[place + 2]], right[indices[place + 3]]
                    for k in range(len(mine)):
                        mine[k] = mine[k] + a * A[k] + b * B[k] + c * C[k] + d * D[k]
                    place += 4
                for rest in range(place, stop):
                    value, column = data[rest], indices[rest]
                    for k in range(len(mine)):
                        mine[k] += value * right[column, k]


@njit(parallel=True, fastmath={"contract"})
def _transposed_product(indices, data, right, bounds, starts, indptr, first, out):
    for group in prange(len(bounds) - 1):
        mine = out[group]
        for row in range(bounds[group], bounds[group + 1]):
            start, end = starts[row], indptr[row + 1]
            starts[row] = start + np.searchsorted(indices[start:end], first + len(mine))
            for place in range(start, starts[row]):
                value, column = data[place], np.uint32(indices[place] - first)
                for k in range(right.shape[1]):
                    mine[column, k] += value * right[row, k]


@njit()
def _group_sums(indptr, indices, data, shift, codes, n_groups, n_genes):
    sums = np.zeros((n_groups, n_genes))
    squares = np.zeros(n_genes)
    for row in range(len(indptr) - 1):
        group, double = codes[row], 2.0 * shift[row]
        for place in range(indptr[row], indptr[row + 1]):
            value = np.float64(data[place])
            sums[group, indices[place]] += value
            squares[indices[place]] += value * (value + double)
    return sums, squares


# --- selection ---------------------------------------------------------------------------------


def _is_everything(key: Any) -> bool:
    return key is Ellipsis or (isinstance(key, slice) and key == slice(None))


def _positions(key: Any, size: int, what: str) -> np.ndarray:
    """Turn an integer, slice, mask or list into positions."""
    try:
        return np.atleast_1d(np.arange(size)[key])
    except IndexError as error:
        raise InputError(f"Select some of the {size} {what}s: {error}.") from error
