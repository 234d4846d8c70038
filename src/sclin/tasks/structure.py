"""Similarity of class averages against biology: lineage, divergence time, the tree of types.

The unit of every test is what evolved or differentiated: a species, a stage, a type.
Cells and (species, type) pairs are not independent repeats of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.cluster.hierarchy import cophenet, linkage, to_tree
from scipy.spatial.distance import squareform
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import pairwise

from sclin.benchmarks._cells import dataset_name, is_published
from sclin.errors import InputError
from sclin.evaluation import Interval, bootstrap, result, results_table
from sclin.projection import CentroidProjection
from sclin.representations import column, representation

__all__ = [
    "PermutationTest",
    "StructureOutcome",
    "align_species",
    "class_averages",
    "cosine_similarity",
    "divergence",
    "lineage",
    "match_depth",
    "permutation_test",
    "tree_recovery",
]


class PermutationTest(NamedTuple):
    """A rank correlation, its two-sided p over permuted units, and the numbers of both."""

    value: float
    p_value: float
    n: int
    n_permutations: int


@dataclass
class StructureOutcome:
    """Results of one structure task.

    Attributes
    ----------
    results
        Tidy results table.
    similarity
        Cosine between averages: classes by classes, or reference classes by species.
    points
        One row per point of the figure.
    details
        What else the task computed, by name.
    """

    results: pd.DataFrame
    similarity: pd.DataFrame
    points: pd.DataFrame
    details: dict[str, Any] = field(default_factory=dict)


def class_averages(
    adata: AnnData,
    label: str = "cell_type",
    *,
    of: str = "rank",
    order: str = "average_then_rank",
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
        If the column is missing, the order is unknown, or ranks are asked of one class only.
    """
    labels = column(adata, label)
    keep = labels.notna().to_numpy()
    y = labels[keep].astype(str).to_numpy()
    if of == "rank":
        basis = CentroidProjection(order=order).fit(sp.csr_matrix(adata.X)[keep], y)
        return pd.DataFrame(basis.basis_.T, index=basis.classes_, columns=adata.var_names)
    names, codes = np.unique(y, return_inverse=True)
    share = sp.csr_matrix(
        (1.0 / np.bincount(codes)[codes], (codes, np.flatnonzero(keep))),
        shape=(len(names), adata.n_obs),
    )
    values = share @ representation(of).fit(adata).transform(adata)
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    same = values.shape[1] == adata.n_vars
    features = adata.var_names if same else [f"feature{i}" for i in range(values.shape[1])]
    return pd.DataFrame(values, index=names, columns=features)


def cosine_similarity(a: pd.DataFrame, b: pd.DataFrame | None = None) -> pd.DataFrame:
    """Cosine between the rows of two tables of averages.

    Parameters
    ----------
    a, b
        Averages, rows are classes; ``b`` defaults to ``a``.

    Returns
    -------
    DataFrame
        Rows of ``a`` by rows of ``b``.
    """
    other = a if b is None else b
    return pd.DataFrame(pairwise.cosine_similarity(a, other), index=a.index, columns=other.index)


def _orders(n: int, n_permutations: int, seed: int) -> np.ndarray:
    """All orders of n units when they are few enough, else random ones with the observed first."""
    if factorial(n) <= n_permutations:
        return np.array(list(permutations(range(n))))
    rng = np.random.default_rng(seed)
    return np.vstack(
        [np.arange(n), rng.permuted(np.tile(np.arange(n), (n_permutations, 1)), axis=1)]
    )


def permutation_test(
    x: Any, y: Any, *, n_permutations: int = 50_000, seed: int = 0
) -> PermutationTest:
    """Spearman correlation with a two-sided permutation p, exact for up to eight units.

    Vectors: the values of one are permuted over the units.
    Square matrices: rows and columns of one are permuted together (Mantel's test) and the
    correlation is over the upper triangle, so pairs that share a unit are not taken as independent.

    Parameters
    ----------
    x, y
        Two vectors of shape (n,) or two symmetric matrices of shape (n, n).
    n_permutations
        All orders are listed when there are no more than this many, else this many are drawn.
    seed
        Seed of drawn orders.

    Returns
    -------
    PermutationTest

    Raises
    ------
    InputError
        If shapes differ, fewer than three units are given or values are missing.

    References
    ----------
    Mantel, Cancer Research 27, 1967.

    Examples
    --------
    >>> permutation_test([1, 2, 3, 4], [4, 3, 2, 1])
    PermutationTest(value=-1.0, p_value=0.08333333333333333, n=4, n_permutations=24)
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim not in (1, 2) or len(a) < 3 or len(set(a.shape)) > 1:
        raise InputError(
            f"Shapes {a.shape} and {b.shape}: give two vectors or two square matrices of one size, "
            "three units or more."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("There are missing values: leave these units out first.")
    n = len(a)
    orders = _orders(n, n_permutations, seed)
    if a.ndim == 1:
        left, right = rankdata(a), rankdata(b)
        drawn = right[orders]
    else:
        upper = np.triu_indices(n, 1)
        left, ranks = rankdata(a[upper]), rankdata(b[upper])
        full = np.zeros((n, n))
        full[upper] = ranks
        full += full.T
        drawn = full[orders[:, upper[0]], orders[:, upper[1]]]
    left = left - left.mean()
    drawn = drawn - drawn.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(left) * np.linalg.norm(drawn[0])
    rho = drawn @ left / norm if norm > 0 else np.zeros(len(orders))
    p_value = float(np.mean(np.abs(rho) >= abs(rho[0]) - 1e-12))
    return PermutationTest(float(np.round(rho[0], 12)), p_value, n, len(orders))


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
        If no cell of a set has that many molecules.
    """
    from scanpy.preprocessing import downsample_counts

    totals = {name: np.asarray(a.X.sum(axis=1)).ravel() for name, a in adatas.items()}
    if depth is None:
        depth = max(1, int(min(np.median(total) for total in totals.values()) / 2))
    matched, dropped = {}, 0
    for name, adata in adatas.items():
        enough = totals[name] >= depth
        if not enough.any():
            raise InputError(
                f"No cell of {name!r} holds {depth} molecules (most: {totals[name].max():.0f}): "
                "lower depth."
            )
        dropped += int((~enough).sum())
        part = AnnData(sp.csr_matrix(adata.X[enough]), obs=adata.obs[enough], var=adata.var)
        part.uns = dict(adata.uns)
        downsample_counts(part, counts_per_cell=int(depth), random_state=seed)
        matched[name] = part
    return matched, int(depth), dropped


def lineage(
    adata: AnnData,
    stages: Sequence[str],
    *,
    label: str = "cell_type",
    protocol: str = "corrected",
    of: str = "rank",
    n_boot: int = 100,
    seed: int = 0,
) -> StructureOutcome:
    """Cosine between averages of successive stages against the number of steps between them.

    ``as_published`` averages, then ranks, at the depth of the data, and draws the matrix.
    ``corrected`` downsamples all cells to one depth first.
    Both get the Spearman correlation of cosine with steps, a Mantel permutation over stages, and
    an interval from resampled cells.

    Parameters
    ----------
    adata
        Counts.
    stages
        Classes in order of differentiation, three or more.
    label
        Column with the stage.
    protocol
        ``corrected`` or ``as_published``.
    of
        Representation to average.
    n_boot
        Bootstrap resamples of cells within stages.
    seed
        Seed of downsampling and bootstrap.

    Returns
    -------
    StructureOutcome
        ``points``: stage_a, stage_b, steps, cosine.

    Raises
    ------
    InputError
        If a stage has no cells.
    """
    published = is_published(protocol)
    labels = column(adata, label).astype(str).to_numpy()
    if missing := [stage for stage in stages if stage not in labels]:
        raise InputError(
            f"No cell of {missing} in obs[{label!r}], which holds {sorted(set(labels))}: "
            "name stages that exist."
        )
    cells = adata[np.isin(labels, list(stages))]
    dropped, depth = 0, None
    if not published:
        matched, depth, dropped = match_depth({"cells": cells}, seed=seed)
        cells = matched["cells"]
    steps = np.abs(np.subtract.outer(np.arange(len(stages)), np.arange(len(stages)))).astype(float)

    def similarity(part: AnnData) -> pd.DataFrame:
        return cosine_similarity(class_averages(part, label, of=of).loc[list(stages)])

    cosine = similarity(cells)
    test = permutation_test(steps, cosine.to_numpy(), seed=seed)
    upper = np.triu_indices(len(stages), 1)
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(cells.obs[label].astype(str) == stage) for stage in stages]
    index = [str(i) for i in range(cells.n_obs)]
    draws = []
    for _ in range(n_boot):
        drawn = np.concatenate([rng.choice(r, len(r)) for r in rows])
        part = AnnData(cells.X[drawn], obs=cells.obs.iloc[drawn].set_axis(index))
        draws.append(spearmanr(steps[upper], similarity(part).to_numpy()[upper]).statistic)
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    names = np.asarray(stages, dtype=object)
    points = pd.DataFrame(
        {
            "stage_a": names[upper[0]],
            "stage_b": names[upper[1]],
            "steps": steps[upper].astype(int),
            "cosine": cosine.to_numpy()[upper],
        }
    )
    note = f"{test.n_permutations} orders of stages, p = {test.p_value:.3g}"
    if depth is not None:
        note += f"; {depth} molecules a cell, {dropped} cells left out"
    rows_out = [
        result(
            task="structure",
            dataset=dataset_name(adata),
            protocol=protocol,
            representation=of,
            metric="spearman_steps_vs_cosine",
            value=Interval(test.value, float(low), float(high), len(stages)),
            higher_is_better=False,
            seed=seed,
            note=note,
        )
    ]
    return StructureOutcome(results_table(rows_out), cosine, points, {"test": test})


def align_species(
    adatas: Mapping[str, AnnData], pairs: Mapping[str, pd.DataFrame], *, reference: str = "human"
) -> dict[str, AnnData]:
    """Restrict every species to the genes with an ortholog in all, under the reference's names.

    Parameters
    ----------
    adatas
        Counts per species, own gene ids.
    pairs
        For each other species, a table with columns source (reference gene) and target.
        Repeated genes are refused: choose the kind of ortholog first.
    reference
        Species that names the genes.

    Returns
    -------
    dict
        AnnData per species, same genes in the same order.

    Raises
    ------
    InputError
        If a species has no table, a table repeats genes, or no gene is common to all.
    """
    if reference not in adatas:
        raise InputError(f"The reference {reference!r} is not among {sorted(adatas)}.")
    if missing := [name for name in adatas if name != reference and name not in pairs]:
        raise InputError(
            f"No ortholog table for {missing}: give pairs with columns source and target."
        )
    common = pd.Index(adatas[reference].var_names)
    tables = {}
    for name, adata in adatas.items():
        if name == reference:
            continue
        table = pairs[name]
        if table["source"].duplicated().any() or table["target"].duplicated().any():
            raise InputError(
                f"The orthologs of {name!r} repeat genes: keep one2one pairs before aligning."
            )
        table = table[table["target"].isin(adata.var_names)]
        tables[name] = table.set_index("source")["target"]
        common = common[common.isin(tables[name].index)]
    if common.empty:
        raise InputError("No gene has an ortholog in all species: check the gene ids.")
    out = {}
    for name, adata in adatas.items():
        ids = common if name == reference else tables[name].loc[common]
        part = adata[:, np.asarray(ids)].copy()
        part.var_names = common
        out[name] = part
    return out


def divergence(
    data: Any,
    *,
    pairs: Mapping[str, pd.DataFrame] | None = None,
    myr: Mapping[str, float] | None = None,
    reference: str = "human",
    label: str = "cell_type",
    protocol: str = "corrected",
    of: str = "rank",
    depth: int | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> StructureOutcome:
    """Cosine of a type's average with the reference species' against divergence time.

    ``as_published``: first ortholog of each gene, ranks then averages, one Spearman over all
    (species, type) points with a p that takes them as independent.
    ``corrected``: one2one orthologs, all cells at one depth, the same number of cells per type in
    every species, the mean over types of each species, and an exact permutation over species.

    Parameters
    ----------
    data
        :class:`~sclin.datasets.simulate.SpeciesData`, or a mapping from species to AnnData.
    pairs, myr
        With a mapping: orthologs of each species (source, target, optional kind) and million years
        from the reference.
    reference
        Species all others are compared with.
    label
        Column with the class; classes found in every species are used.
    protocol
        ``corrected`` or ``as_published``.
    of
        Representation to average: ``rank``, ``lognorm`` or ``counts``.
    depth
        Molecules per cell of the corrected protocol, on the common genes.
    n_boot
        Bootstrap resamples of species for the interval.
    seed
        Seed of downsampling and bootstrap.

    Returns
    -------
    StructureOutcome
        ``similarity``: types by species; ``points``: species, type, myr, cosine; ``details``:
        test, species means, genes, depth, cells per type, spearman with median depth.

    Raises
    ------
    InputError
        If orthologs or times are missing, or no class is shared by all species.
    """
    published = is_published(protocol)
    adatas = dict(data.adatas) if hasattr(data, "adatas") else dict(data)
    if hasattr(data, "divergence_myr"):
        myr = data.divergence_myr.loc[reference].to_dict()
        pairs = {
            name: data.pairs(reference, name, kind=None) for name in adatas if name != reference
        }
    if pairs is None or myr is None or set(adatas) - set(myr) - {reference}:
        raise InputError(
            "Species without ortholog table or divergence time: give pairs and myr for "
            f"{sorted(set(adatas) - {reference})}."
        )
    tables = {}
    for name, table in pairs.items():
        if published:
            table = table.drop_duplicates("target").drop_duplicates("source")
        elif "kind" in table:
            table = table[table["kind"] == "one2one"]
        tables[name] = table
    aligned = align_species(adatas, tables, reference=reference)
    shared = set.intersection(
        *(set(column(a, label).dropna().astype(str)) for a in adatas.values())
    )
    if not shared:
        kinds = {name: sorted(map(str, a.obs[label].unique()))[:3] for name, a in adatas.items()}
        raise InputError(
            f"No class of {label!r} is shared by all species, which hold such as {kinds}. "
            "Give them one vocabulary."
        )
    chosen = sorted(shared)
    aligned = {
        name: a[column(a, label).astype(str).isin(chosen).to_numpy()] for name, a in aligned.items()
    }
    deep = {name: float(np.median(np.asarray(a.X.sum(1)))) for name, a in aligned.items()}
    dropped, per_type = 0, None
    if not published:
        aligned, depth, dropped = match_depth(aligned, depth=depth, seed=seed)
        aligned, per_type = _same_cells(aligned, label, chosen, seed)
    order = "rank_then_average" if published else "average_then_rank"
    averages = {
        name: class_averages(a, label, of=of, order=order).loc[chosen]
        for name, a in aligned.items()
    }
    others = [name for name in aligned if name != reference]
    similarity = pd.DataFrame(
        {name: np.diag(cosine_similarity(averages[reference], averages[name])) for name in others},
        index=chosen,
    )
    points = similarity.T.rename_axis("species").reset_index()
    points = points.melt("species", var_name="type", value_name="cosine")
    points["myr"] = points["species"].map(myr)
    means = similarity.mean()
    times = pd.Series({name: float(myr[name]) for name in others})
    test = permutation_test(times, means[others], seed=seed)
    by_depth = float(spearmanr([deep[name] for name in others], means[others]).statistic)
    n_genes = aligned[reference].n_vars
    common: dict[str, Any] = {
        "task": "structure",
        "dataset": dataset_name(adatas[reference]),
        "protocol": protocol,
        "representation": of,
        "higher_is_better": False,
        "seed": seed,
    }
    what = f"{n_genes} genes, {len(chosen)} types"
    if published:
        naive = spearmanr(points["myr"], points["cosine"])
        rows = [
            result(
                metric="spearman_myr_vs_cosine_points",
                value=float(naive.statistic),
                n=len(points),
                note=f"{what}; p = {naive.pvalue:.2g} takes {len(points)} points as independent",
                **common,
            )
        ]
    else:
        what += f", {depth} molecules a cell ({dropped} cells left out), {per_type} cells a type"
        rows = []

    def rho(t: np.ndarray, c: np.ndarray) -> float:
        distinct = len(set(t)) > 1 and len(set(c)) > 1
        return float(spearmanr(t, c).statistic) if distinct else float("nan")

    interval = bootstrap(rho, times.to_numpy(), means[others].to_numpy(), n_boot=n_boot, seed=seed)
    rows.append(
        result(
            metric="spearman_myr_vs_cosine_species",
            value=interval,
            note=f"{what}; p = {test.p_value:.3g} over {test.n_permutations} orders of species",
            **common,
        )
    )
    rows.append(
        result(
            metric="spearman_depth_vs_cosine_species",
            value=by_depth,
            n=len(others),
            note="control: median molecules on the common genes before matching",
            **common,
        )
    )
    details = {
        "test": test,
        "means": means,
        "n_genes": n_genes,
        "depth": depth,
        "cells_per_type": per_type,
        "median_depth": pd.Series(deep),
        "averages": averages,
    }
    return StructureOutcome(results_table(rows), similarity, points, details)


def _same_cells(
    adatas: Mapping[str, AnnData], label: str, types: Sequence[str], seed: int
) -> tuple[dict[str, AnnData], int]:
    """Keep the same number of cells of each type in every species."""
    rng = np.random.default_rng(seed)
    rows = {
        name: [np.flatnonzero(a.obs[label].astype(str) == kind) for kind in types]
        for name, a in adatas.items()
    }
    size = min(len(r) for groups in rows.values() for r in groups)
    if size == 0:
        raise InputError("Depth matching leaves a type of a species without cells: lower depth.")
    return {
        name: adatas[name][np.concatenate([rng.choice(r, size, replace=False) for r in groups])]
        for name, groups in rows.items()
    }, size


def _clades(newick: str) -> tuple[set[frozenset[str]], list[str]]:
    """Sets of leaves below each inner node of a rooted tree, without the root's."""
    stack: list[set[str]] = []
    found: list[frozenset[str]] = []
    leaves: list[str] = []
    for token in re.findall(r"[(),;]|[^(),;]+", newick):
        if token == "(":
            stack.append(set())
        elif token == ")":
            done = stack.pop()
            found.append(frozenset(done))
            if stack:
                stack[-1] |= done
        elif token not in ",;" and (name := token.split(":")[0].strip()):
            leaves.append(name)
            stack[-1].add(name)
    return {clade for clade in found if 1 < len(clade) < len(leaves)}, leaves


def tree_recovery(
    similarity: pd.DataFrame,
    newick: str,
    distance: pd.DataFrame | None = None,
    *,
    n_permutations: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Hold the dendrogram of averages against a known rooted tree.

    Average linkage on 1 - cosine.
    The Robinson-Foulds distance counts clades found in one tree only, over all clades of both: 0
    is the same tree, 1 shares no clade.

    Parameters
    ----------
    similarity
        Cosine, classes by classes.
    newick
        Known tree over the same names.
    distance
        Path lengths of the known tree; adds the cophenetic correlation.
    n_permutations
        Random relabelings of the leaves for both p values.
    seed
        Seed of the relabelings.

    Returns
    -------
    dict
        linkage, robinson_foulds, rf_p_value, rf_null_mean, n; cophenetic
        (:class:`PermutationTest` of dendrogram against known path lengths).

    Raises
    ------
    InputError
        If names differ between matrix and tree.
    """
    truth, leaves = _clades(newick)
    names = [str(name) for name in similarity.index]
    if set(names) != set(leaves) or len(names) < 4:
        raise InputError(
            f"The matrix names {sorted(names)}, the tree {sorted(leaves)}: both must name the same "
            "four or more classes."
        )
    gap = 1 - similarity.to_numpy(dtype=float)
    gap = np.clip((gap + gap.T) / 2, 0, None)
    np.fill_diagonal(gap, 0)
    merged = linkage(squareform(gap, checks=False), "average")
    nodes = to_tree(merged, rd=True)[1][len(names) : -1]
    found = [node.pre_order() for node in nodes]

    def rf(order: Sequence[str]) -> float:
        clades = {frozenset(order[i] for i in rows) for rows in found}
        return len(clades ^ truth) / (len(clades) + len(truth))

    rng = np.random.default_rng(seed)
    null = np.array([rf(list(rng.permutation(names))) for _ in range(n_permutations)])
    value = rf(names)
    out: dict[str, Any] = {
        "linkage": merged,
        "names": names,
        "robinson_foulds": value,
        "rf_p_value": (1 + (null <= value).sum()) / (1 + n_permutations),
        "rf_null_mean": float(null.mean()),
        "n": len(names),
    }
    if distance is not None:
        known = distance.loc[names, names].to_numpy(dtype=float)
        out["cophenetic"] = permutation_test(known, squareform(cophenet(merged)), seed=seed)
    return out
