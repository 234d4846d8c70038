"""Flatness of a cloud of cells: geodesics against straight lines, and clouds of known shape.

A correlation of graph distance with Euclidean distance means little alone: it is high for noise and
rises with the number of neighbours by construction.
So it is read beside a flat cloud (Gaussian of the same covariance), a curved one (scikit-learn's
Swiss roll) and cells of the same depths that hold sampling noise only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.stats import pearsonr
from sklearn.decomposition import KernelPCA
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

from sclin.chunks import dense
from sclin.errors import InputError
from sclin.statistics import Interval


def flatness(
    embedding: Any, cells: AnnData | None = None, *, k: int = 15, n_components: int = 5,
    n_boot: int = 100, seed: int = 0,
) -> dict[str, float | Interval]:  # fmt: skip
    """Geodesic distance on the graph of k nearest neighbours against Euclidean distance.

    A score for `sclin.measure`.

    Parameters
    ----------
    embedding
        Points, cells by features.
    cells
        Not used.
    k
        Number of neighbours.
    n_components
        Dimensions of the Isomap embedding behind ``isomap_residual_variance``.
    n_boot
        Bootstrap resamples of cells for the interval of the correlation.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        All within the largest component of the graph: pearson_euclid_geodesic, over the upper
        triangle, with its interval and number of cells; pearson_euclid_geodesic_square, over the
        whole square matrix with its zero diagonal, as published; stretch, the median geodesic over
        Euclidean; isomap_residual_variance, one minus the squared correlation of geodesic with
        embedded distance. share_connected is the share of cells in that component.

    Raises
    ------
    InputError
        If there are not more cells than neighbours.

    References
    ----------
    Tenenbaum, de Silva and Langford, Science 290, 2000.
    """
    points = dense(embedding)
    if len(points) <= k:
        raise InputError(f"{len(points)} cells are too few for {k} neighbours; lower k.")
    graph = kneighbors_graph(points, k, mode="distance")
    part = connected_components(graph, directed=False)[1]
    keep = np.flatnonzero(part == np.bincount(part).argmax())
    euclid = pairwise_distances(points)[np.ix_(keep, keep)]
    geodesic = shortest_path(graph[keep][:, keep], method="D", directed=False)
    upper = np.triu_indices(len(keep), 1)
    straight, along = euclid[upper], geodesic[upper]
    low, high = _resampled(euclid, geodesic, n_boot, seed) if n_boot else (np.nan, np.nan)
    # Isomap's last step: classical scaling of the geodesics.
    scaling = KernelPCA(min(n_components, len(keep) - 2), kernel="precomputed", random_state=seed)
    embedded = pairwise_distances(scaling.fit_transform(-0.5 * geodesic**2))[upper]
    pearson = float(pearsonr(straight, along).statistic)
    return {
        "pearson_euclid_geodesic": Interval(pearson, low, high, len(keep)),
        "pearson_euclid_geodesic_square": np.corrcoef(euclid.ravel(), geodesic.ravel())[0, 1],
        "stretch": float(np.median(along / np.maximum(straight, 1e-300))),
        "isomap_residual_variance": 1 - float(pearsonr(along, embedded).statistic) ** 2,
        "share_connected": len(keep) / len(points),
    }


def _resampled(a: NDArray[Any], b: NDArray[Any], n_boot: int, seed: int) -> NDArray[np.floating]:
    """Ends of the interval of Pearson over pairs of different cells, resampling cells.

    Each pair of ``a`` and ``b``, shape (cells, cells), is weighted by the draws of both cells; a
    cell drawn twice adds no pair with itself.
    """
    n = len(a)
    w = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot).astype(float)
    pairs = w.sum(axis=1) ** 2 - (w**2).sum(axis=1)

    def mean(values: NDArray[Any]) -> NDArray[np.floating]:
        return np.einsum("ij,ij->i", w @ values, w) / pairs

    ma, mb = mean(a), mean(b)
    spread = (mean(a * a) - ma**2) * (mean(b * b) - mb**2)
    return np.quantile((mean(a * b) - ma * mb) / np.sqrt(spread), [0.025, 0.975])


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
    profile = np.asarray(adata.X.sum(axis=0), dtype=float).ravel()
    if profile.sum() == 0:
        raise InputError("There is no count in X: the noise control needs counts.")
    depth = np.asarray(adata.X.sum(axis=1)).ravel().round().astype(int)
    draw = np.random.default_rng(seed).multinomial
    rows = [sparse.csr_matrix(draw(n, profile / profile.sum()), dtype=np.float32) for n in depth]
    return AnnData(sparse.vstack(rows, format="csr"), adata.obs, adata.var[[]], uns=dict(adata.uns))
