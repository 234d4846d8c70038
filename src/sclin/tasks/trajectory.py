"""Trajectory: how well a representation puts cells in the order in which they were made.

``as_published`` compares the diffusion pseudotime of a representation with that of PCA on the same
cells, from one root, and keeps the padding of the neighbourhood overlap.
``corrected`` compares with the time that was measured, from many roots, inside each donor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata, spearmanr
from sklearn.neighbors import NearestNeighbors

from sclin.benchmarks._cells import dataset_name, is_published
from sclin.benchmarks._embeddings import embeddings, relative_depths
from sclin.errors import InputError, nearest
from sclin.evaluation import Interval, bootstrap, result, results_table

__all__ = [
    "TrajectoryOutcome",
    "early_roots",
    "measured_time",
    "nearest_neighbors",
    "neighbor_graph",
    "neighborhood_overlap",
    "padded_overlap",
    "pseudotime",
    "random_pairs",
    "reference_pca",
    "row_spearman",
    "run",
    "undo_padding",
]

_MIN_CELLS = 20  # below this, a rank correlation inside one donor is noise


# Time and roots ----------------------------------------------------------------------------------


def measured_time(
    adata: Any, column: str = "time", *, order: Sequence[Any] | None = None
) -> NDArray[np.float64]:
    """Measured time of each cell as a number.

    Parameters
    ----------
    adata
        AnnData, cells x genes.
    column
        Column of ``adata.obs``.
    order
        Values of a text column from earliest to latest; they become 0, 1, 2, ...
        Text has no order of its own: ``"d10"`` sorts before ``"d2"``.

    Returns
    -------
    ndarray
        Shape ``(n_cells,)``, in the column's unit, or the position in ``order``.

    Raises
    ------
    InputError
        When the column is absent, is text without an order, has missing values, or has fewer than
        three time points.
    """
    if column not in adata.obs:
        raise InputError(
            f"The cells have no column {column!r} in obs; name the column of measured time "
            f"(present: {', '.join(map(str, adata.obs.columns)) or 'none'})."
            + nearest(column, adata.obs.columns)
        )
    values = adata.obs[column]
    if order is None and isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        order = list(values.cat.categories)
    if order is not None:
        places = {value: float(i) for i, value in enumerate(order)}
        strangers = sorted(set(map(str, values.dropna().unique())) - set(map(str, places)))
        if strangers:
            raise InputError(
                f"Column {column!r} holds {', '.join(map(repr, strangers[:5]))}, which the order "
                f"{list(map(str, order))} does not name; name every value once."
            )
        numbers = values.map(places).astype(float)
    elif pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.astype(float)
    else:
        seen = list(map(str, values.dropna().unique()))[:6]
        raise InputError(
            f"Column {column!r} holds text ({', '.join(map(repr, seen))}), which has no order; "
            "give `order`, its values from earliest to latest, or turn it into numbers."
        )
    missing = int(numbers.isna().sum())
    if missing:
        raise InputError(
            f"Column {column!r} lacks a value for {missing} of {len(numbers)} cells; "
            "drop these cells first."
        )
    time = numbers.to_numpy()
    points = np.unique(time)
    if points.size < 3:
        raise InputError(
            f"Column {column!r} has {points.size} time points ({', '.join(map(str, points))}); "
            "a trajectory needs three or more. Two points are a comparison of conditions."
        )
    return time


def early_roots(time: ArrayLike, n_roots: int = 20, *, seed: int = 0) -> NDArray[np.intp]:
    """Random cells of the earliest time point, to start pseudotime from.

    Parameters
    ----------
    time
        Measured time, shape ``(n_cells,)``.
    n_roots
        How many; all early cells when there are fewer.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        Row numbers, sorted, without repeats.

    Examples
    --------
    >>> early_roots([2, 1, 1, 3], 5)
    array([1, 2])
    """
    values = np.asarray(time)
    early = np.flatnonzero(values == values.min())
    chosen = np.random.default_rng(seed).choice(early, min(n_roots, early.size), replace=False)
    return np.sort(chosen)


# Pseudotime --------------------------------------------------------------------------------------


def neighbor_graph(matrix: ArrayLike, *, n_neighbors: int = 30, seed: int = 0) -> Any:
    """Scanpy's neighbour graph of a representation, by euclidean distance.

    Parameters
    ----------
    matrix
        Representation, shape ``(n_cells, n_features)``.
    n_neighbors
        Neighbours per cell, as scanpy counts them: the cell itself included.
    seed
        Seed of the graph.

    Returns
    -------
    AnnData
        ``obsp["distances"]`` stores ``n_neighbors - 1`` cells per row.
    """
    import anndata as ad
    import scanpy as sc

    cells = ad.AnnData(np.asarray(matrix, dtype=np.float32))
    if cells.n_obs <= n_neighbors:
        raise InputError(
            f"{cells.n_obs} cells cannot have {n_neighbors} neighbours; lower n_neighbors."
        )
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    return cells


def _scanpy_pseudotime(cells: Any, root: int, seed: int) -> NDArray[np.float64]:
    """Scanpy's own DPT from one root, shape ``(n_cells,)``, as the published code calls it."""
    import scanpy as sc

    sc.tl.diffmap(cells, n_comps=min(15, cells.n_obs - 2), random_state=seed)
    cells.uns["iroot"] = root
    sc.tl.dpt(cells, n_dcs=10)
    return cells.obs["dpt_pseudotime"].to_numpy(dtype=float)


def pseudotime(
    matrix: ArrayLike,
    roots: ArrayLike,
    *,
    n_neighbors: int = 30,
    n_components: int = 15,
    n_dcs: int = 10,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Diffusion pseudotime from each root, on one graph and one set of diffusion components.

    Scanpy takes any component with an eigenvalue of 0.9994 or more as stationary and gives it
    almost no weight. On cells along a thin line that can be the one component that follows time,
    so only as many components are dropped here as the graph has connected parts.

    Parameters
    ----------
    matrix
        Representation, shape ``(n_cells, n_features)``.
    roots
        Row numbers of the roots, shape ``(n_roots,)``.
    n_neighbors
        Neighbours per cell, as scanpy counts them: the cell itself included.
    n_components, n_dcs
        Diffusion components computed, and used.
    seed
        Seed of the graph and of the eigensolver.

    Returns
    -------
    ndarray
        Shape ``(n_roots, n_cells)``, from 0 to 1; ``inf`` where no path leads from the root.

    References
    ----------
    Haghverdi et al., Nature Methods 13, 845 (2016).
    """
    import scanpy as sc

    cells = neighbor_graph(matrix, n_neighbors=n_neighbors, seed=seed)
    sc.tl.diffmap(cells, n_comps=min(n_components, cells.n_obs - 2), random_state=seed)
    n_parts, part = connected_components(cells.obsp["connectivities"], directed=False)
    # Values are float32, so one just below 1 may be rounded up to it.
    values = np.minimum(cells.uns["diffmap_evals"][n_parts:n_dcs].astype(float), 1 - 1e-6)
    places = cells.obsm["X_diffmap"][:, n_parts:n_dcs] * (values / (1 - values))
    times = []
    for root in np.atleast_1d(np.asarray(roots, dtype=int)):
        away = np.linalg.norm(places - places[root], axis=1)
        away[part != part[root]] = np.inf
        times.append(away / max(away[np.isfinite(away)].max(), np.finfo(float).tiny))
    return np.array(times)


def row_spearman(rows: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation of each row with the target, over the row's finite values.

    Parameters
    ----------
    rows
        Shape ``(n_rows, n_cells)``.
    target
        Shape ``(n_cells,)``.

    Returns
    -------
    ndarray
        Shape ``(n_rows,)``; NaN where fewer than three values are finite, 0 where one side is
        constant: a constant orders nothing.

    Examples
    --------
    >>> row_spearman([[1, 2, 3], [3, 2, np.inf]], [1, 2, 3]).round(2)
    array([ 1., nan])
    """
    values, goal = np.atleast_2d(np.asarray(rows, dtype=float)), np.asarray(target, dtype=float)
    scores = np.full(values.shape[0], np.nan)
    for i, row in enumerate(values):
        finite = np.isfinite(row)
        if finite.sum() >= 3:
            a, b = rankdata(row[finite]), rankdata(goal[finite])
            a, b = a - a.mean(), b - b.mean()
            norm = np.sqrt((a @ a) * (b @ b))
            scores[i] = a @ b / norm if norm > 0 else 0.0
    return scores


# Neighbourhoods and global geometry --------------------------------------------------------------


def nearest_neighbors(matrix: ArrayLike, k: int = 30) -> NDArray[np.intp]:
    """The k nearest other cells of each cell, by euclidean distance.

    Parameters
    ----------
    matrix
        Representation, shape ``(n_cells, n_features)``.
    k
        Neighbours per cell, the cell itself not counted.

    Returns
    -------
    ndarray
        Row numbers, shape ``(n_cells, k)``.
    """
    values = np.asarray(matrix)
    if values.shape[0] <= k:
        raise InputError(f"{values.shape[0]} cells cannot have {k} other cells as neighbours.")
    return NearestNeighbors(n_neighbors=k).fit(values).kneighbors(return_distance=False)


def neighborhood_overlap(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Share of neighbours that two representations have in common, cell by cell.

    Parameters
    ----------
    a, b
        Neighbours of each cell, shape ``(n_cells, k)``, without repeats in a row.

    Returns
    -------
    ndarray
        Shape ``(n_cells,)``, from 0 to 1; two unrelated representations of n cells have
        ``k / (n - 1)`` on average.

    Examples
    --------
    >>> neighborhood_overlap([[1, 2], [0, 2], [0, 1]], [[1, 2], [2, 0], [1, 3]])
    array([1. , 1. , 0.5])
    """
    left, right = np.asarray(a), np.asarray(b)
    if left.shape != right.shape:
        raise InputError(f"Neighbour tables have shapes {left.shape} and {right.shape}.")
    shared = [
        np.intersect1d(x, y, assume_unique=True).size for x, y in zip(left, right, strict=True)
    ]
    return np.array(shared) / left.shape[1]


def padded_overlap(a: Any, b: Any, *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Neighbourhood overlap with the slot that the published code left at zero.

    The published table has ``n_neighbors`` columns that start at zero.
    Scanpy stores one neighbour fewer, since it counts the cell itself, so the last column keeps
    its zero on both sides and every cell gets one match for nothing.

    Parameters
    ----------
    a, b
        Sparse distance matrices of scanpy's neighbour graphs, shape ``(n_cells, n_cells)``.
    n_neighbors
        The number given to scanpy.

    Returns
    -------
    ndarray
        Shape ``(n_cells,)``.
    """
    tables = []
    for graph in (a, b):
        padded = np.zeros((graph.shape[0], n_neighbors), dtype=int)
        for cell in range(graph.shape[0]):
            stored = graph.indices[graph.indptr[cell] : graph.indptr[cell + 1]][:n_neighbors]
            padded[cell, : stored.size] = stored
        tables.append(padded)
    shared = [np.intersect1d(x, y).size for x, y in zip(*tables, strict=True)]
    return np.array(shared) / n_neighbors


def undo_padding(value: ArrayLike, *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Take the false match out of a published neighbourhood overlap.

    Parameters
    ----------
    value
        Overlap with ``n_neighbors`` slots of which one is padding.
    n_neighbors
        Number of slots, k.

    Returns
    -------
    ndarray
        ``(k v - 1) / (k - 1)``.

    Examples
    --------
    >>> undo_padding(1 / 30)
    array(0.)
    """
    k = n_neighbors
    return np.asarray((k * np.asarray(value, dtype=float) - 1) / (k - 1))


def random_pairs(
    n_cells: int, n_pairs: int = 5000, *, groups: ArrayLike | None = None, seed: int = 0
) -> NDArray[np.intp]:
    """Random pairs of different cells, drawn once and used for every representation.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_pairs
        Number of pairs.
    groups
        When given, both cells of a pair come from one group (donor).
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        Row numbers, shape ``(n_pairs, 2)``.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        first = rng.integers(n_cells, size=n_pairs)
        return np.column_stack([first, (first + rng.integers(1, n_cells, n_pairs)) % n_cells])
    values = np.asarray(groups)
    names = np.unique(values)
    pairs = []
    for name in names:
        rows = np.flatnonzero(values == name)
        pairs.append(rows[random_pairs(rows.size, n_pairs // names.size, seed=seed)])
    return np.concatenate(pairs)


def _distances(matrix: NDArray[np.floating], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.array([np.linalg.norm(matrix[i] - matrix[j]) for i, j in pairs])


# The two protocols -------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrajectoryOutcome:
    """What a trajectory run found.

    Attributes
    ----------
    results
        Rows of the results table.
    units
        Score of each unit (donor): index unit, columns representations; the mean over units is the
        score in ``results``. One row ``all cells`` when there are no donors to separate.
        Empty for ``as_published``.
    roots
        Score from each root: index row number of the root, columns representations.
    time
        Measured time of each cell.
    """

    results: pd.DataFrame
    units: pd.DataFrame
    roots: pd.DataFrame
    time: NDArray[np.float64]


def reference_pca(
    adata: Any, *, n_genes: int = 2500, n_components: int = 50, seed: int = 0
) -> NDArray[np.float32]:
    """PCA of variable genes as the published reference has it: counts to 10,000, log1p, always.

    Parameters
    ----------
    adata
        AnnData; ``X`` is normalised and logged whatever it holds, as the published code does.
    n_genes, n_components
        Highly variable genes, and components kept.
    seed
        Seed of the eigensolver.

    Returns
    -------
    ndarray
        Shape ``(n_cells, n_components)``.
    """
    import scanpy as sc

    cells = adata.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    # The published code takes logs whatever the file says it holds.
    cells.uns.pop("log1p", None)
    sc.pp.log1p(cells)
    if cells.n_vars > n_genes:
        sc.pp.highly_variable_genes(cells, n_top_genes=n_genes, subset=True)
    sc.pp.pca(cells, n_comps=min(n_components, min(cells.shape) - 1), random_state=seed)
    return np.asarray(cells.obsm["X_pca"], dtype=np.float32)


def run(
    adata: Any,
    representations: Mapping[str, Any] | Iterable[str],
    *,
    protocol: str = "corrected",
    time: str = "time",
    time_order: Sequence[Any] | None = None,
    donor: str = "donor",
    n_roots: int = 20,
    n_neighbors: int = 30,
    n_pairs: int = 5000,
    dataset: str | None = None,
    seed: int = 0,
) -> TrajectoryOutcome:
    """Score representations by the order of cells in time.

    Parameters
    ----------
    adata
        AnnData with counts and a column of measured time.
    representations
        Names, or a mapping from name to array of shape ``(n_cells, n_features)``.
    protocol
        ``corrected``: Spearman of pseudotime with measured time inside each donor, mean over
        ``n_roots`` roots, bootstrap interval over donors; neighbours and distances against
        measured time; overlap with the neighbours in PCA; share of cells no root reaches.
        ``as_published``: agreement with pseudotime on PCA of the same cells from the first early
        cell of the file.
    time, time_order
        Column of ``obs`` and, for text, its values from earliest to latest.
    donor
        Column of ``obs`` with donors or replicates; without it, cells are the units.
    n_roots
        Roots of the corrected protocol.
    n_neighbors
        Neighbours of each cell in the graph.
    n_pairs
        Pairs of cells for global geometry.
    dataset
        Name in the results; by default what ``adata.uns["sclin"]`` says.
    seed
        Seed of roots, pairs, graph and bootstrap.

    Returns
    -------
    TrajectoryOutcome

    Raises
    ------
    InputError
        When time, representations or options cannot be used.
    """
    score = _published if is_published(protocol) else _corrected
    times = measured_time(adata, time, order=time_order)
    arrays = embeddings(adata, representations)
    pca = reference_pca(adata, seed=seed)
    depths = relative_depths(arrays)
    common: dict[str, Any] = {
        "task": "trajectory",
        "dataset": dataset or dataset_name(adata),
        "protocol": protocol,
        "seed": seed,
    }
    options = {"n_neighbors": n_neighbors, "n_pairs": n_pairs, "n_roots": n_roots, "seed": seed}
    groups = adata.obs[donor].to_numpy() if donor in adata.obs else None
    found = score(arrays, pca, times, groups, **options)
    rows = []
    for name, metrics in found["metrics"].items():
        extra: dict[str, Any] = {"representation": name, "relative_depth": depths.get(name, np.nan)}
        rows += [result(**common, **extra, metric=m, **fields) for m, fields in metrics.items()]
    return TrajectoryOutcome(results_table(rows), found["units"], found["roots"], times)


def _published(
    arrays: Mapping[str, NDArray[np.floating]],
    pca: NDArray[np.floating],
    time: NDArray[np.float64],
    groups: NDArray[Any] | None,
    *,
    n_neighbors: int,
    n_pairs: int,
    n_roots: int,
    seed: int,
) -> dict[str, Any]:
    """One root, agreement with PCA; donors and the number of roots play no part."""
    root = int(np.argmin(time))
    reference = neighbor_graph(pca, n_neighbors=n_neighbors, seed=seed)
    goal = _scanpy_pseudotime(reference, root, seed)
    pairs = random_pairs(time.size, n_pairs, seed=seed)
    apart = np.abs(goal[pairs[:, 0]] - goal[pairs[:, 1]])
    metrics, scores = {}, {}
    for name, matrix in arrays.items():
        cells = neighbor_graph(matrix, n_neighbors=n_neighbors, seed=seed)
        order = _scanpy_pseudotime(cells, root, seed)
        both = np.isfinite(order) & np.isfinite(goal)
        overlap = padded_overlap(
            reference.obsp["distances"], cells.obsp["distances"], n_neighbors=n_neighbors
        ).mean()
        near = np.isfinite(apart)
        geometry = row_spearman(apart[near], _distances(matrix, pairs[near]))[0]
        scores[name] = row_spearman(order[both], goal[both])[0]
        lost = f"{int((~both).sum())} of {time.size} cells not reached and left out"
        metrics[name] = {
            "pseudotime_corr": {"value": scores[name], "n": int(both.sum()), "note": lost},
            "neighborhood_overlap": {
                "value": float(overlap),
                "n": time.size,
                "note": "one of the k slots is padding",
            },
            "neighborhood_overlap_recovered": {
                "value": float(undo_padding(overlap, n_neighbors=n_neighbors)),
                "n": time.size,
            },
            "global_geom_corr": {"value": geometry, "n": int(near.sum()), "note": "seeded pairs"},
        }
    return {
        "metrics": metrics,
        "units": pd.DataFrame(),
        "roots": pd.DataFrame(scores, index=pd.Index([root], name="root")),
    }


def _blocks(
    groups: NDArray[Any] | None, time: NDArray[np.float64]
) -> tuple[dict[str, NDArray[np.intp]], str]:
    """Rows of each donor that can order its own cells in time, and what was left out.

    A donor seen at one time only says nothing on order: then time and donor cannot be told apart.
    """
    if groups is not None:
        frame = pd.DataFrame({"donor": groups, "time": time})
        stats = frame.groupby("donor", observed=True)["time"].agg(["size", "nunique"])
        usable = stats.index[(stats["size"] >= _MIN_CELLS) & (stats["nunique"] >= 2)]
        if len(usable) >= 2:
            blocks = {str(d): np.flatnonzero(groups == d) for d in usable}
            out = len(stats) - len(usable)
            return blocks, f"{out} donors left out (too few cells or times)" if out else ""
    return {"all cells": np.arange(time.size)}, "no donors to separate; interval over cells"


def _corrected(
    arrays: Mapping[str, NDArray[np.floating]],
    pca: NDArray[np.floating],
    time: NDArray[np.float64],
    groups: NDArray[Any] | None,
    *,
    n_neighbors: int,
    n_pairs: int,
    n_roots: int,
    seed: int,
) -> dict[str, Any]:
    blocks, note = _blocks(groups, time)
    unit = np.full(time.size, -1)
    for u, rows in enumerate(blocks.values()):
        unit[rows] = u
    inside = np.flatnonzero(unit >= 0)
    roots = early_roots(time, n_roots, seed=seed)
    pairs = inside[random_pairs(inside.size, n_pairs, groups=unit[inside], seed=seed)]
    gap = np.abs(time[pairs[:, 0]] - time[pairs[:, 1]])
    expected = gap.mean()
    chance = n_neighbors / (time.size - 1)
    reference = nearest_neighbors(pca, n_neighbors)

    def per_unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.array([values[rows].mean() for rows in blocks.values()])

    def interval(scores: NDArray[np.floating]) -> Interval:
        return bootstrap(np.nanmean, scores, seed=seed)

    metrics: dict[str, dict[str, Any]] = {}
    by_unit, by_root = {}, {}
    for name, matrix in arrays.items():
        order = pseudotime(matrix, roots, n_neighbors=n_neighbors, seed=seed)
        table = np.array([row_spearman(order[:, r], time[r]) for r in blocks.values()])
        by_root[name] = np.nanmean(table, axis=0)
        by_unit[name] = np.nanmean(table, axis=1)
        neighbors = nearest_neighbors(matrix, n_neighbors)
        overlap = neighborhood_overlap(reference, neighbors)
        local = 1 - np.abs(time[neighbors] - time[:, None]).mean(axis=1) / expected
        far = _distances(matrix, pairs)
        inside_unit = [unit[pairs[:, 0]] == u for u in range(len(blocks))]
        geometry = np.array([row_spearman(far[at], gap[at])[0] for at in inside_unit])
        if len(blocks) > 1:
            scored = {
                "pseudotime_time_spearman": interval(by_unit[name]),
                "neighbor_time": interval(per_unit(local)),
                "global_geometry": interval(geometry),
                "neighborhood_overlap": interval(per_unit(overlap)),
            }
        else:
            mean_order = np.where(np.isfinite(order), order, np.nan)
            scored = _over_cells(mean_order, time, local, overlap, far, gap, seed)
        metrics[name] = {m: {"value": v, "note": note} for m, v in scored.items()}
        metrics[name]["neighborhood_overlap"]["note"] = "; ".join(
            filter(None, (f"agreement with PCA; chance {chance:.4f}", note))
        )
        metrics[name]["root_sd"] = {
            "value": float(np.nanstd(by_root[name], ddof=1)) if roots.size > 1 else 0.0,
            "n": roots.size,
            "higher_is_better": False,
            "note": "sd of pseudotime_time_spearman over roots",
        }
        metrics[name]["unreachable"] = {
            "value": float(1 - np.isfinite(order).mean()),
            "n": time.size,
            "higher_is_better": False,
            "note": "share of cells that a root does not reach, mean over roots; they are left out",
        }
    return {
        "metrics": metrics,
        "units": pd.DataFrame(by_unit, index=pd.Index(list(blocks), name="unit")),
        "roots": pd.DataFrame(by_root, index=pd.Index(roots, name="root")),
    }


def _over_cells(
    order: NDArray[np.float64],
    time: NDArray[np.float64],
    local: NDArray[np.float64],
    overlap: NDArray[np.float64],
    far: NDArray[np.float64],
    gap: NDArray[np.float64],
    seed: int,
) -> dict[str, Interval]:
    """Intervals over cells (and pairs of cells), for data without donors."""

    def correlation(cells: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
        return float(np.nanmean(row_spearman(cells.T, goal)))

    def mean(values: NDArray[np.float64]) -> float:
        return float(values.mean())

    few = {"n_boot": 200, "seed": seed}
    return {
        "pseudotime_time_spearman": bootstrap(correlation, order.T, time, **few),
        "neighbor_time": bootstrap(mean, local, **few),
        "global_geometry": bootstrap(lambda a, b: float(spearmanr(a, b)[0]), far, gap, **few),
        "neighborhood_overlap": bootstrap(mean, overlap, **few),
    }
