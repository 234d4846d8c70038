"""Flatness of the cloud of cells: geodesics against straight lines, with controls.

A correlation of graph distance with Euclidean distance means little alone: it is high for noise and
rises with the number of neighbours by construction.
So every curve comes with a flat control (Gaussian of the same spectrum), a curved one (Swiss roll)
and noise of the same sequencing depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.stats import pearsonr, spearmanr
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

from sclin.benchmarks._cells import dataset_name, is_published
from sclin.errors import InputError
from sclin.evaluation import Interval, result, results_table
from sclin.normalization import RankMatrix
from sclin.representations import column, representation

__all__ = [
    "ManifoldOutcome",
    "balanced_sample",
    "depth_noise",
    "flatness",
    "intrinsic_dimension",
    "linear_gaussian",
    "principal_components",
    "run",
    "swiss_roll",
]


@dataclass
class ManifoldOutcome:
    """Results of the manifold task.

    Attributes
    ----------
    results
        Tidy results table.
    curves
        One row per cloud (cells, controls) and number of neighbours; see :func:`flatness`.
    residuals
        Variance that PCA leaves, components by cloud; before the cut to ``n_pcs``.
    dimensions
        Intrinsic dimension: estimators by cloud.
    rows
        Rows of the cells that were used.
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    residuals: pd.DataFrame
    dimensions: pd.DataFrame
    rows: NDArray[np.intp]


def balanced_sample(labels: Any, *, per_class: int, seed: int = 0) -> NDArray[np.intp]:
    """Rows of at most ``per_class`` cells of each class, sorted.

    Parameters
    ----------
    labels
        Class of each cell; missing values are left out.
    per_class
        Most cells of a class.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        Row numbers.
    """
    values = pd.Series(np.asarray(labels))
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.asarray(part))[:per_class]
        for part in values.groupby(values).groups.values()
    ]
    return np.sort(np.concatenate(rows))


def _points(X: Any, minimum: int) -> NDArray[np.floating]:
    points = np.asarray(X)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(
            f"Points have shape {points.shape}: give finite values, cells by features."
        )
    if len(points) <= minimum:
        raise InputError(
            f"{len(points)} cells are fewer than the {minimum + 1} that {minimum} neighbours need: "
            "lower k or give more cells."
        )
    return points


def flatness(
    X: Any,
    *,
    ks: Sequence[int] = (5, 10, 15, 30, 45),
    n_components: int = 5,
    n_boot: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Geodesic distance on the neighbours graph against Euclidean distance, over k.

    Parameters
    ----------
    X
        Points, cells by features.
    ks
        Numbers of neighbours.
    n_components
        Dimensions of the Isomap embedding behind ``residual_variance``.
    n_boot
        Bootstrap resamples of cells for the interval of ``pearson``.
    seed
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        k; pearson with ci_low and ci_high, and spearman, over the upper triangle within the
        largest component; pearson_square, over the whole square matrix with its zero diagonal, as
        published; stretch, the median geodesic over Euclidean; residual_variance, one minus the
        squared correlation of geodesic with embedded distance; share_connected, the share of cells
        in the largest component; n, its cells.

    Raises
    ------
    InputError
        If there are not more cells than neighbours or values are missing.

    References
    ----------
    Tenenbaum, de Silva and Langford, Science 290, 2000.
    """
    points = _points(X, max(ks))
    euclid_all = pairwise_distances(points)
    rng = np.random.default_rng(seed)
    rows = []
    for k in ks:
        graph = kneighbors_graph(points, k, mode="distance")
        part = connected_components(graph, directed=False)[1]
        keep = np.flatnonzero(part == np.bincount(part).argmax())
        euclid = euclid_all[np.ix_(keep, keep)]
        geodesic = shortest_path(graph[keep][:, keep], method="D", directed=False)
        upper = np.triu_indices(len(keep), 1)
        straight, along = euclid[upper], geodesic[upper]
        # A cell drawn twice adds no pair with itself.
        weights = rng.multinomial(len(keep), np.full(len(keep), 1 / len(keep)), size=n_boot)
        low, high = (
            np.quantile(_resampled_pearson(euclid, geodesic, weights), [0.025, 0.975])
            if n_boot
            else (np.nan, np.nan)
        )
        # Isomap's last step: classical scaling of the geodesics.
        scaling = KernelPCA(
            min(n_components, len(keep) - 2), kernel="precomputed", random_state=seed
        )
        embedded = pairwise_distances(scaling.fit_transform(-0.5 * geodesic**2))[upper]
        rows.append(
            {
                "k": int(k),
                "pearson": pearsonr(straight, along).statistic,
                "ci_low": low,
                "ci_high": high,
                "spearman": spearmanr(straight, along).statistic,
                "pearson_square": pearsonr(euclid.ravel(), geodesic.ravel()).statistic,
                "stretch": float(np.median(along / np.maximum(straight, 1e-300))),
                "residual_variance": 1 - pearsonr(along, embedded).statistic ** 2,
                "share_connected": len(keep) / len(points),
                "n": len(keep),
            }
        )
    return pd.DataFrame(rows)


def _resampled_pearson(a: NDArray, b: NDArray, weights: NDArray) -> NDArray[np.floating]:
    """Pearson over pairs of different cells, each pair weighted by both cells' draws.

    ``a`` and ``b`` are (cells, cells) with zero diagonals; ``weights`` is (draws, cells).
    """
    w = weights.astype(float)
    pairs = w.sum(axis=1) ** 2 - (w**2).sum(axis=1)

    def mean(values: NDArray) -> NDArray[np.floating]:
        return np.einsum("ij,ij->i", w @ values, w) / pairs

    ma, mb = mean(a), mean(b)
    spread = (mean(a * a) - ma**2) * (mean(b * b) - mb**2)
    return (mean(a * b) - ma * mb) / np.sqrt(spread)


def linear_gaussian(X: Any, *, seed: int = 0) -> NDArray[np.floating]:
    """Gaussian points with the mean and the covariance of others: a flat cloud.

    Parameters
    ----------
    X
        Points, cells by features.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        As many points, in the same space.
    """
    points = np.asarray(X, dtype=float)
    centred = points - points.mean(axis=0)
    draw = np.random.default_rng(seed).standard_normal((len(points), len(points)))
    return points.mean(axis=0) + draw @ centred / np.sqrt(len(points))


def swiss_roll(n: int, *, seed: int = 0) -> NDArray[np.floating]:
    """Points on a rolled sheet in three dimensions: a curved cloud.

    Parameters
    ----------
    n
        Points.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        Shape (n, 3); the gap between turns is about 6.
    """
    from sklearn.datasets import make_swiss_roll

    return make_swiss_roll(n, random_state=seed)[0]


def depth_noise(adata: AnnData, *, seed: int = 0) -> AnnData:
    """Draw cells of the same depths that differ by nothing but sampling noise.

    Parameters
    ----------
    adata
        Counts.
    seed
        Seed of the draw.

    Returns
    -------
    AnnData
        Multinomial counts from the mean profile, each cell with its own number of molecules.
    """
    X = sp.csr_matrix(adata.X)
    depth = np.asarray(X.sum(axis=1)).ravel().round().astype(int)
    profile = np.asarray(X.sum(axis=0), dtype=float).ravel()
    if profile.sum() == 0:
        raise InputError("There is no count in X: the noise control needs counts.")
    rng = np.random.default_rng(seed)
    drawn = sp.vstack(
        [
            sp.csr_matrix(rng.multinomial(n, profile / profile.sum()), dtype=np.float32)
            for n in depth
        ],
        format="csr",
    )
    out = AnnData(drawn, obs=adata.obs.copy(), var=adata.var[[]].copy())
    out.uns["sclin"] = {**adata.uns.get("sclin", {}), "values": "counts"}
    return out


def principal_components(
    X: Any, *, n_components: int = 100, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Scores on the principal components, and the variance that each number of them leaves.

    Parameters
    ----------
    X
        Points, cells by features.
    n_components
        Most components; fewer when the points do not bear as many.
    seed
        Seed of the randomised solver.

    Returns
    -------
    scores, residual
        Shapes (cells, components) and (components + 1,); the residual share falls from 1.
    """
    points = _points(X, 2)
    n = min(n_components, points.shape[1], len(points) - 1)
    model = PCA(n, svd_solver="randomized", random_state=seed)
    scores = model.fit_transform(points)
    return scores, np.r_[1.0, 1 - np.cumsum(model.explained_variance_ratio_)]


def intrinsic_dimension(X: Any, *, n_neighbors: int = 20, seed: int = 0) -> dict[str, float]:
    """Intrinsic dimension by three estimators of scikit-dimension.

    Parameters
    ----------
    X
        Points, cells by features; reduced to at most 50 principal components first.
    n_neighbors
        Neighbours of the maximum likelihood estimator.
    seed
        Seed of the PCA.

    Returns
    -------
    dict
        ``TwoNN`` and ``MLE`` look at neighbours, ``lPCA`` at the spectrum (Fukunaga-Olsen).

    Raises
    ------
    InputError
        If there are not more cells than neighbours.

    References
    ----------
    Facco et al., Sci. Rep. 7, 2017; Levina and Bickel, NIPS 2004; Bac et al., Entropy 23, 2021.
    """
    from skdim import id as estimators

    points = _points(X, n_neighbors)
    if points.shape[1] > 50:
        points = principal_components(points, n_components=50, seed=seed)[0]
    points = np.unique(points, axis=0)  # copies of a cell have no neighbour ratio
    return {
        "TwoNN": float(estimators.TwoNN().fit(points).dimension_),
        "MLE": float(estimators.MLE().fit(points, n_neighbors=n_neighbors).dimension_),
        "lPCA": float(estimators.lPCA().fit(points).dimension_),
    }


def _dense(adata: AnnData, of: str, seed: int) -> NDArray[np.floating]:
    Z: Any = representation(of, seed=seed).fit(adata).transform(adata)
    if isinstance(Z, RankMatrix) or sp.issparse(Z):
        return np.asarray(Z.toarray(), dtype=np.float32)
    return np.asarray(Z, dtype=float)


def run(
    adata: AnnData,
    *,
    label: str = "cell_type",
    of: str = "rank",
    protocol: str = "corrected",
    per_class: int = 100,
    ks: Sequence[int] = (5, 10, 15, 30, 45),
    n_pcs: int = 20,
    n_boot: int = 100,
    seed: int = 0,
) -> ManifoldOutcome:
    """Judge how flat the cloud of cells is, beside controls.

    ``as_published``: raw counts, correlation over the square matrix, no control.
    ``corrected``: principal components of a processed representation, the upper triangle, and three
    controls: the same number of Gaussian points of the same covariance, a Swiss roll (1,000 points
    or more: a sparser one is joined across its turns), and cells of the same depths that hold
    sampling noise only.

    Parameters
    ----------
    adata
        Counts.
    label, per_class
        At most ``per_class`` cells of each class of this column are used.
    of
        Representation of the corrected protocol.
    protocol
        ``corrected`` or ``as_published``.
    ks
        Numbers of neighbours.
    n_pcs
        Principal components that the corrected protocol keeps before it measures distances.
        In thousands of noisy genes all distances are nearly equal and no cloud looks flat, not
        even a Gaussian one.
    n_boot
        Bootstrap resamples of cells.
    seed
        Seed of all random steps.

    Returns
    -------
    ManifoldOutcome

    Raises
    ------
    InputError
        If there are not more cells than neighbours.
    """
    published = is_published(protocol)
    used = balanced_sample(column(adata, label), per_class=per_class, seed=seed)
    cells = adata[used].copy()
    of = "counts" if published else of
    points = _dense(cells, of, seed)
    scores, residual = principal_components(points, seed=seed)
    residuals = pd.DataFrame({"cells": residual})
    if published:
        clouds = {"cells": points}
    else:
        noise = _dense(depth_noise(cells, seed=seed), of, seed)
        noise_scores, residuals["depth noise"] = principal_components(noise, seed=seed)
        flat = scores[:, :n_pcs]
        clouds = {
            "cells": flat,
            "linear Gaussian": linear_gaussian(flat, seed=seed),
            "depth noise": noise_scores[:, :n_pcs],
            "Swiss roll": swiss_roll(max(len(flat), 1000), seed=seed),
        }
    curves = pd.concat(
        [
            flatness(cloud, ks=ks, n_boot=n_boot, seed=seed).assign(cloud=name)
            for name, cloud in clouds.items()
        ],
        ignore_index=True,
    )
    dimensions = pd.DataFrame(
        {name: intrinsic_dimension(cloud, seed=seed) for name, cloud in clouds.items()}
    ).rename_axis("estimator")
    fields = {
        "task": "manifold",
        "dataset": dataset_name(adata),
        "protocol": protocol,
        "representation": of,
        "seed": seed,
    }
    return ManifoldOutcome(
        results_table(_rows(curves, dimensions, fields, published)),
        curves,
        residuals.rename_axis("components"),
        dimensions,
        used,
    )


def _rows(
    curves: pd.DataFrame, dimensions: pd.DataFrame, fields: Mapping[str, Any], published: bool
) -> list[dict[str, Any]]:
    """Turn the curves and dimensions into rows of the results table."""
    rows = []
    for row in curves.to_dict("records"):
        note = f"{row['cloud']}, k = {row['k']}, {row['share_connected']:.0%} of cells connected"
        if published:
            value: Any = row["pearson_square"]
            metric, note = "pearson_euclid_geodesic_square", f"{note}, whole square matrix"
        else:
            value = Interval(row["pearson"], row["ci_low"], row["ci_high"], row["n"])
            metric = "pearson_euclid_geodesic"
        rows.append(result(metric=metric, value=value, n=row["n"], note=note, **fields))
        left = {"value": row["residual_variance"], "n": row["n"], "higher_is_better": False}
        rows.append(result(metric="isomap_residual_variance", note=note, **left, **fields))
    for cloud in dimensions:
        for estimator, value in dimensions[cloud].items():
            metric = f"intrinsic_dimension_{estimator}"
            rows.append(result(metric=metric, value=value, note=str(cloud), **fields))
    return rows
