"""Similarity of class averages against biology: lineage and divergence time.

The unit of every test is what evolved or differentiated: a species, a stage, a type.
Cells and (species, type) pairs are not independent repeats of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import pairwise

from sclin.errors import InputError
from sclin.projection import CentroidProjection
from sclin.representations import labels, representation


class RankCorrelation(NamedTuple):
    """Spearman's correlation, its two-sided permutation p, and the number of units."""

    value: float
    p_value: float
    n: int


def class_averages(
    adata: AnnData, label: str = "cell_type", *, of: str = "rank", order: str = "average_then_rank"
) -> pd.DataFrame:
    """Average profile of each class in a representation.

    Parameters
    ----------
    adata
        Cells; counts in ``X`` for ``rank``.
    label
        Column of ``obs`` with the class.
    of
        Name of a representation.
    order
        For ``rank``: rank the class's mean of depth-normalised counts, or average the cells'
        ranks (``rank_then_average``). The two give different cosines.

    Returns
    -------
    DataFrame
        Classes by features; ranks are scaled to unit length.

    Raises
    ------
    InputError
        The column is missing, the order is unknown, or ranks are asked of one class only.
    """
    y = labels(adata, label)
    if of == "rank":
        basis = CentroidProjection(order=order).fit(sp.csr_matrix(adata.X), y)
        return pd.DataFrame(basis.basis_.T, index=basis.classes_, columns=adata.var_names)
    names, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    members = sp.csr_matrix((1 / sizes[codes], (codes, np.arange(len(y)))))
    values = members @ representation(of).fit(adata).transform(adata)
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    features = adata.var_names if values.shape[1] == adata.n_vars else None
    return pd.DataFrame(values, index=names, columns=features)


def cosine_similarity(a: pd.DataFrame, b: pd.DataFrame | None = None) -> pd.DataFrame:
    """Cosine between the rows of two tables of averages; ``b`` defaults to ``a``."""
    other = a if b is None else b
    return pd.DataFrame(pairwise.cosine_similarity(a, other), index=a.index, columns=other.index)


def match_depth(
    adatas: Mapping[str, AnnData], *, depth: int | None = None, seed: int = 0
) -> tuple[dict[str, AnnData], int, int]:
    """Downsample the molecules of every cell of every set to one number.

    Parameters
    ----------
    adatas
        Sets of cells with counts.
    depth
        Molecules per cell; by default half the median of the shallowest set.
        Cells with fewer are left out.
    seed
        Seed of the draw, which is without replacement.

    Returns
    -------
    matched, depth, dropped
        New AnnData, the molecules per cell, and how many cells were left out.

    Raises
    ------
    InputError
        No cell of a set has that many molecules.
    """
    from scanpy.preprocessing import downsample_counts

    totals = {name: np.asarray(a.X.sum(axis=1)).ravel() for name, a in adatas.items()}
    if depth is None:
        depth = max(1, int(min(np.median(total) for total in totals.values()) / 2))
    matched = {}
    for name, adata in adatas.items():
        enough = totals[name] >= depth
        if not enough.any():
            raise InputError(
                f"No cell of {name!r} holds {depth} molecules (most: {totals[name].max():.0f}): "
                "lower depth."
            )
        part = AnnData(sp.csr_matrix(adata.X[enough]), obs=adata.obs[enough], var=adata.var)
        part.uns = dict(adata.uns)
        downsample_counts(part, counts_per_cell=int(depth), random_state=seed)
        matched[name] = part
    return matched, depth, sum(int((total < depth).sum()) for total in totals.values())


def equal_cells(
    adatas: Mapping[str, AnnData], label: str = "cell_type", *, seed: int = 0
) -> tuple[dict[str, AnnData], int]:
    """Keep the classes that all sets share, and as many cells of each in every set.

    Parameters
    ----------
    adatas
        Sets of cells.
    label
        Column of ``obs`` with the class.
    seed
        Seed of the draw.

    Returns
    -------
    sets, size
        Sets of cells, classes in order, and the cells of one class in one set.

    Raises
    ------
    InputError
        No class is shared by all.
    """
    of = {name: labels(a, label) for name, a in adatas.items()}
    shared = sorted(set.intersection(*(set(y) for y in of.values())))
    if not shared:
        kinds = {name: sorted(set(y))[:3] for name, y in of.items()}
        raise InputError(
            f"No class of {label!r} is shared by all sets, which hold such as {kinds}. "
            "Give them one vocabulary, or a lower depth."
        )
    rng = np.random.default_rng(seed)
    size = min(int((y == kind).sum()) for y in of.values() for kind in shared)
    sets = {}
    for name, y in of.items():
        rows = [rng.choice(np.flatnonzero(y == kind), size, replace=False) for kind in shared]
        sets[name] = adatas[name][np.concatenate(rows)]
    return sets, size


def rank_correlation(
    x: ArrayLike, y: ArrayLike, *, n_permutations: int = 50_000, seed: int = 0
) -> RankCorrelation:
    """Spearman correlation whose p permutes the units; exact where there are few.

    Parameters
    ----------
    x, y
        One value per unit, shape ``(n,)``.
    n_permutations
        All orders are listed when there are no more than this many, else this many are drawn.
    seed
        Seed of drawn orders.

    Returns
    -------
    RankCorrelation

    Raises
    ------
    InputError
        Shapes differ, there are fewer than three units, or values are missing.

    Examples
    --------
    >>> rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]).p_value
    0.08333333333333333
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or a.size < 3:
        raise InputError(f"Shapes {a.shape}, {b.shape}: give two vectors of three units or more.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("There are missing values: leave these units out first.")
    ranks = stats.zscore(stats.rankdata(b))

    def strength(values: np.ndarray, axis: int) -> np.ndarray:
        rho = np.abs(stats.zscore(stats.rankdata(values, axis=axis), axis=axis) @ ranks) / a.size
        return np.round(rho, 12)

    test = stats.permutation_test(
        (a,), strength, permutation_type="pairings", alternative="greater",
        n_resamples=n_permutations, vectorized=True, rng=seed,
    )  # fmt: skip
    return RankCorrelation(float(stats.spearmanr(a, b).statistic), float(test.pvalue), a.size)
