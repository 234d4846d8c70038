"""Trajectory: how well a representation puts cells in the order in which they were made.

`score` compares diffusion pseudotime with the time that was measured, from many roots, inside each
donor. The published protocol compares with `reference_pca` of the same cells, from one root, and
has the padding of `padded_overlap`; chapter 12 walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from sclin.chunks import dense
from sclin.compiled import keep_neighbors
from sclin.errors import InputError
from sclin.representations import labels
from sclin.statistics import bootstrap, spearman

_MIN_CELLS = 20  # below this, a rank correlation inside one donor is noise
_HOURS = {"min": 1 / 60, "minute": 1 / 60, "h": 1, "hr": 1, "hour": 1, "d": 24, "day": 24}
_HOURS |= {"w": 168, "wk": 168, "week": 168, "month": 730.5, "y": 8766, "yr": 8766, "year": 8766}
_TIME_WORDS = r"(?<![a-z])(?:time|hour|day|week|month|stage)"


def _numbers_in(text: ArrayLike) -> NDArray[np.float64] | None:
    """Numbers of labels such as ``24h``, ``day 3`` or ``E8.5``: one each, in alike words.

    Words that differ must be units of time; they become hours. A hyphen is a sign where nothing
    stands before it, since ``day-3`` is a day after another.
    """
    pattern = r"(?P<before>\D*?)(?P<number>(?:^-)?\d+(?:\.\d+)?)(?P<after>\D*)"
    parts = pd.Series(np.asarray(text, dtype=object)).str.strip()
    found = parts.str.extract(f"^{pattern}$")
    if found.isna().any(axis=None):
        return None
    words = (found["before"] + found["after"]).str.strip().str.lower()
    numbers = found["number"].astype(float)
    if words.nunique() > 1:
        numbers = numbers * words.str.removesuffix("s").map(_HOURS)
    return None if numbers.isna().any() else np.asarray(numbers)


def time_column(cells: AnnData, name: str = "auto") -> str:
    """Find the column of ``obs`` with the measured time.

    Parameters
    ----------
    cells
        Cells.
    name
        The column; ``"auto"`` takes the one whose name has a word of time, no pseudotime, and
        which `measured_time` can read.

    Raises
    ------
    InputError
        There is none, or there are several.
    """
    if name != "auto":
        return name
    words = cells.obs.columns.astype(str).str.lower()
    named = words.str.contains(_TIME_WORDS) & ~words.str.contains("pseudo|latent")
    found = []
    for column in cells.obs.columns[named]:
        with suppress(InputError):  # what cannot be read is no time
            measured_time(cells, column)
            found.append(column)
    if len(found) != 1:
        raise InputError(
            f"{len(found)} columns of obs can be the time ({', '.join(found) or 'none'}); "
            f"there are {', '.join(cells.obs)}.\nName the one with the measured time."
        )
    return found[0]


def measured_time(
    cells: AnnData, column: str = "time", *, order: Sequence[Any] = ()
) -> NDArray[np.float64]:
    """Measured time of each cell as a number.

    Parameters
    ----------
    cells
        Cells.
    column
        Column of ``obs``.
    order
        Values of a text column from earliest to latest; they become 0, 1, 2, ...
        Without it text must hold one number each, as ``"24h"`` or ``"day 3"`` do.

    Returns
    -------
    ndarray
        Shape ``(n_cells,)``, in the column's unit, or the position in ``order``.

    Raises
    ------
    InputError
        The column is absent, lacks values, is text without an order, or has fewer than three time
        points.
    """
    text, values = labels(cells, column), cells.obs[column]
    if not order and isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        order = list(values.cat.categories)
    if order:
        time = pd.Index(map(str, order)).get_indexer(pd.Index(text)).astype(float)
        strangers = np.unique(text[time < 0])
        if strangers.size:
            raise InputError(
                f"Column {column!r} holds {', '.join(map(repr, strangers[:5]))}, which the order "
                f"{list(map(str, order))} does not name; name every value once."
            )
    elif pd.api.types.is_numeric_dtype(values.dtype):
        time = values.to_numpy(dtype=float)
    elif (read := _numbers_in(text)) is not None:
        time = read
    else:
        raise InputError(
            f"Column {column!r} holds text ({', '.join(map(repr, np.unique(text)[:6]))}), which "
            "is no time;\ngive numbers, texts such as 24h, an ordered category, or `order`."
        )
    points = np.unique(time)
    if points.size < 3:
        raise InputError(
            f"Column {column!r} has {points.size} time points ({', '.join(map(str, points))}); "
            "a trajectory needs three or more.\nTwo points are a comparison of conditions."
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


def neighbor_graph(embedding: Any, *, n_neighbors: int = 30, seed: int = 0) -> AnnData:
    """Scanpy's graph of nearest neighbours.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_features)``.
    n_neighbors
        Neighbours per cell, as scanpy counts them: the cell itself included.
    seed
        Seed of the graph.

    Returns
    -------
    AnnData
        The embedding in ``X``, the graph in ``obsp``.

    Raises
    ------
    InputError
        There are no more cells than neighbours.
    """
    import scanpy as sc  # takes long to import

    keep_neighbors()
    cells = AnnData(np.asarray(dense(embedding), dtype=np.float32))
    if cells.n_obs <= n_neighbors:
        raise InputError(f"{cells.n_obs} cells cannot have {n_neighbors} neighbours; lower it.")
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    return cells


def _places(cells: AnnData, seed: int) -> NDArray[np.float64]:
    """Coordinates, in one connected part of a graph, whose distances are pseudotime."""
    import scanpy as sc

    sc.tl.diffmap(cells, n_comps=min(15, cells.n_obs - 2), random_state=seed)
    # Values are float32, so one just below 1 may be rounded up to it.
    values = np.minimum(cells.uns["diffmap_evals"][1:10].astype(float), 1 - 1e-6)
    return cells.obsm["X_diffmap"][:, 1:10] * (values / (1 - values))


def pseudotime(
    embedding: Any, roots: ArrayLike, *, n_neighbors: int = 30, seed: int = 0
) -> NDArray[np.float64]:
    """Diffusion pseudotime from each root, on one graph and its first ten diffusion components.

    Scanpy takes any component with an eigenvalue of 0.9994 or more as stationary and gives it
    almost no weight. On cells along a thin line that can be the one component that follows time,
    so only the first is dropped here, and each connected part of the graph is taken by itself.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_features)``.
    roots
        Row numbers of the roots, shape ``(n_roots,)``.
    n_neighbors
        Neighbours per cell, as scanpy counts them: the cell itself included.
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
    cells = neighbor_graph(embedding, n_neighbors=n_neighbors, seed=seed)
    _, part = connected_components(cells.obsp["connectivities"], directed=False)
    starts = np.atleast_1d(np.asarray(roots, dtype=int))
    times = np.full((starts.size, cells.n_obs), np.inf)
    for own in np.unique(part[starts]):
        at = np.flatnonzero(part == own)
        places = _places(cells[at].copy(), seed)
        for i in np.flatnonzero(part[starts] == own):
            away = np.linalg.norm(places - places[at == starts[i]], axis=1)
            times[i, at] = away / max(away.max(), np.finfo(float).tiny)
    return times


def _agreement(rows: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman of each row's finite values, times their share: cells without a place add nothing.

    So a representation that orders half of the cells perfectly gets 0.5, and leaving cells out
    never pays. Restricting all to cells that all reach would let one that falls apart decide on
    which cells the others are judged.
    """
    rows = np.atleast_2d(rows)
    return np.nan_to_num(spearman(rows, target)) * np.isfinite(rows).mean(axis=1)


def _mean_agreement(columns: NDArray[Any], target: NDArray[Any]) -> float:
    return float(_agreement(columns.T, target).mean())


def _nearest(X: NDArray[Any], n_neighbors: int) -> sparse.csr_matrix:
    """Graph of the nearest other cells of each cell."""
    return NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors_graph()


def _random_pairs(n_cells: int, n_pairs: int, seed: int) -> NDArray[np.intp]:
    """Random pairs of different cells, shape (2, n_pairs): the same for every representation."""
    rng = np.random.default_rng(seed)
    first = rng.integers(n_cells, size=n_pairs)
    return np.array([first, (first + rng.integers(1, n_cells, n_pairs)) % n_cells])


def _blocks(cells: AnnData, time: NDArray[np.float64], donor: str) -> dict[str, NDArray[np.intp]]:
    """Rows of each donor with cells of two times or more; all rows without two such donors.

    A donor seen at one time only says nothing on order: then time and donor cannot be told apart.
    """
    if donor in cells.obs:
        names = labels(cells, donor)
        rows = {str(d): np.flatnonzero(names == d) for d in np.unique(names)}
        usable = {
            d: at
            for d, at in rows.items()
            if at.size >= _MIN_CELLS and np.unique(time[at]).size > 1
        }
        if len(usable) > 1:
            return usable
    return {"all cells": np.arange(time.size)}


def reference_pca(cells: AnnData, *, seed: int = 0) -> NDArray[np.float32]:
    """PCA as the published reference has it: counts to 10,000, log1p, 2,500 variable genes.

    Parameters
    ----------
    cells
        Cells; ``X`` is normalised and logged whatever it holds, as the published code does.
    seed
        Seed of the eigensolver.

    Returns
    -------
    ndarray
        Shape ``(n_cells, 50)``.
    """
    import scanpy as sc

    cells = cells.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    cells.uns.pop("log1p", None)  # logs are taken whatever the file says it holds
    sc.pp.log1p(cells)
    if cells.n_vars > 2500:
        with np.errstate(invalid="ignore"):  # rounding leaves constant genes a variance below zero
            sc.pp.highly_variable_genes(cells, n_top_genes=2500, subset=True)
    sc.pp.pca(cells, n_comps=min(50, min(cells.shape) - 1), random_state=seed)
    return np.asarray(cells.obsm["X_pca"], dtype=np.float32)


def score(
    embedding: Any, cells: AnnData, *, time: str = "time", order: Sequence[Any] = (),
    donor: str = "donor", reference: Any = None, n_roots: int = 20, n_neighbors: int = 30,
    n_pairs: int = 5000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Score an embedding by the order of cells in measured time, for `sclin.measure`.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_features)``.
    cells
        The same cells.
    time, order
        Column of ``obs`` and, for text, its values from earliest to latest.
    donor
        Column of ``obs`` with donors or replicates; without two of them that each hold two times,
        intervals run over cells.
    reference
        Another embedding, such as `reference_pca`, to share neighbours with.
    n_roots, n_neighbors, n_pairs
        Roots of pseudotime, neighbours in the graph, pairs of cells.
    seed
        Seed of roots, pairs, graph and bootstrap.

    Returns
    -------
    dict
        ``pseudotime_time_spearman``; ``neighbor_time`` (1 when neighbours are of one age, 0 when as
        random pairs of a donor); ``global_geometry`` (distance against difference in time);
        ``neighborhood_overlap`` with the reference; all by donor, or with an interval over cells.
        ``pseudotime_by_root``, ``root_sd`` (spread of the first over roots) and ``unreachable``
        (share of cells that no path leads to; they count as not ordered: the correlation of the
        others is multiplied by the others' share).
    """
    clock, X = measured_time(cells, time, order=order), dense(embedding)
    blocks = _blocks(cells, clock, donor)
    roots = early_roots(clock, n_roots, seed=seed)
    places = pseudotime(X, roots, n_neighbors=n_neighbors, seed=seed)
    share = n_pairs // len(blocks)
    pairs = {d: at[_random_pairs(at.size, share, seed)] for d, at in blocks.items()}
    far = {d: np.linalg.norm(X[i] - X[j], axis=1) for d, (i, j) in pairs.items()}
    gap = {d: np.abs(clock[i] - clock[j]) for d, (i, j) in pairs.items()}
    graph = _nearest(X, n_neighbors)
    age = np.abs(clock[graph.indices.reshape(len(X), -1)] - clock[:, None]).mean(axis=1)
    local = 1 - age / np.concatenate(list(gap.values())).mean()
    parts: dict[str, tuple[Callable[..., float], dict[str, tuple[Any, ...]]]] = {
        "pseudotime_time_spearman": (
            _mean_agreement, {d: (places[:, at].T, clock[at]) for d, at in blocks.items()}),
        "neighbor_time": (np.mean, {d: (local[at],) for d, at in blocks.items()}),
        "global_geometry": (_mean_agreement, {d: (far[d], gap[d]) for d in blocks}),
    }  # fmt: skip
    if reference is not None:
        shared = graph.multiply(_nearest(dense(reference), n_neighbors)).getnnz(axis=1)
        overlap = {d: (shared[at] / n_neighbors,) for d, at in blocks.items()}
        parts["neighborhood_overlap"] = np.mean, overlap
    found: dict[str, Any] = {}
    for metric, (statistic, arrays) in parts.items():
        if len(blocks) > 1:
            values = pd.Series({d: statistic(*a) for d, a in arrays.items()})
            found[metric] = values.rename_axis(donor)
        else:
            found[metric] = bootstrap(statistic, *arrays["all cells"], n_boot=200, seed=seed)
    by_donor = [_agreement(places[:, at], clock[at]) for at in blocks.values()]
    by_root = np.mean(by_donor, axis=0)
    return found | {
        "pseudotime_by_root": pd.Series(by_root, index=pd.Index(roots, name="root")),
        "root_sd": float(by_root.std(ddof=1)) if roots.size > 1 else 0.0,
        "unreachable": float(1 - np.isfinite(places).mean()),
    }


def padded_overlap(a: Any, b: Any, *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Neighbourhood overlap with the slot that the published code left at zero.

    The published table has ``n_neighbors`` columns that start at zero.
    Scanpy stores one neighbour fewer, since it counts the cell itself, so the last column keeps
    its zero on both sides and every cell gets one match, with cell 0, for nothing.

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
    n = a.shape[0]
    padding = sparse.csr_matrix((np.ones(n), np.zeros(n, dtype=int), np.arange(n + 1)), a.shape)
    tables = []
    for graph in (a, b):
        stored = sparse.csr_matrix((np.ones(graph.nnz), graph.indices, graph.indptr), a.shape)
        tables.append(stored + padding)
    return tables[0].multiply(tables[1]).getnnz(axis=1) / n_neighbors
