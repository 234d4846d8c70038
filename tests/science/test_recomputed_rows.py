"""Rows of the frozen tables, computed again from their definition on dense arrays.

Nothing here goes through the package's representations, heads, folds, engine or tasks.
Tables keep six digits, and so do the numbers that they are held against.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.datasets import make_swiss_roll
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, recall_score

from sclin import datasets, results
from sclin.datasets import simulate
from sclin.errors import InputError

OFFLINE = Path(__file__).parents[2] / "results" / "offline"
METRICS = {
    "f1_macro": lambda y, told: f1_score(y, told, average="macro", zero_division=0),
    "accuracy": accuracy_score,
    "balanced_accuracy": lambda y, told: recall_score(
        y, told, labels=np.unique(y), average="macro", zero_division=0
    ),
}


@pytest.fixture(scope="module")
def frozen() -> pd.DataFrame:
    try:
        return results.load(OFFLINE)
    except InputError as error:
        pytest.skip(str(error))


def hold(frozen: pd.DataFrame, chapter: str, value: float, **key: str) -> None:
    """The one row of a chapter that has this key says this value."""
    rows = frozen[frozen["chapter"].eq(chapter)]
    for column, word in {"protocol": "corrected", "variant": "", **key}.items():
        rows = rows[rows[column].eq(word)]
    assert len(rows) == 1, key
    told = rows["value"].iloc[0]
    assert abs(float(f"{value:.6g}") - told) <= 1e-6 * max(1, abs(told)), (key, value, told)


def hold_scores(frozen, chapter, y, predicted, metrics=tuple(METRICS), **key) -> None:
    for metric in metrics:
        hold(frozen, chapter, METRICS[metric](y, predicted), metric=metric, **key)


# Representations and heads, written out ---------------------------------------------------------


def log_values(X):
    return np.log1p(1e4 * X / X.sum(axis=1, keepdims=True)).astype(np.float32)


def rank_scores(X, dtype=np.float32):
    quantile = stats.norm.ppf(np.arange(2 * X.shape[1] + 1) / 2 / (X.shape[1] + 1))
    Z = np.empty(X.shape, dtype)
    for row, z in zip(X, Z, strict=True):
        seen = row > 0
        n_zero = row.size - seen.sum()
        rank = np.full(row.size, (n_zero + 1) / 2)  # zeros tie, and no value is below them
        rank[seen] = n_zero + stats.rankdata(row[seen])
        score = quantile[(2 * rank).astype(int)]
        z[:] = score / np.linalg.norm(score)
    return Z


def depth(X):
    return np.log1p(np.column_stack([X.sum(axis=1), (X > 0).sum(axis=1)]))


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def averages(X, y):
    return np.array([X[y == kind].mean(axis=0, dtype=float) for kind in np.unique(y)])


def centroid(Z, y, T):
    centre = Z.mean(axis=0, dtype=float)
    axes = unit(averages(Z, y) - centre).T
    # The length of a cell does not change which cosine is the largest.
    cosine = T @ axes.astype(T.dtype) - centre @ axes
    return np.unique(y)[cosine.argmax(axis=1)]


def projection(Z, y, T, basis=None):
    """Least squares on class averages: of unit cells, or of counts before ranking."""
    basis = unit(averages(unit(Z), y) if basis is None else basis)
    along = basis.astype(T.dtype) @ T.T  # the length of a cell changes no order
    return np.unique(y)[np.linalg.solve(basis @ basis.T, along).argmax(axis=0)]


def logistic(Z, y, T):
    """Balanced L2 logistic regression, C = 1, at a mean squared norm of 100.

    On the coordinates of the cells along the singular vectors of the training cells.
    """
    centre = Z.mean(axis=0)
    scale = np.sqrt(Z.var(axis=0).sum()) / 10
    Z, T = (Z - centre) / scale, (T - centre) / scale
    if Z.shape[1] > Z.shape[0]:
        squares, U = np.linalg.eigh(Z @ Z.T)
        keep = squares > 1e-9 * squares[-1]
        axes = Z.T @ (U[:, keep] / np.sqrt(squares[keep]))
        Z, T = Z @ axes, T @ axes
    model = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=10_000)
    return model.fit(Z, y).predict(T)


def by_group(groups):
    return [(np.flatnonzero(groups != g), np.flatnonzero(groups == g)) for g in np.unique(groups)]


def predict(method, Z, y, folds):
    predicted = np.empty_like(y)
    for train, test in folds:
        predicted[test] = method(Z[train], y[train], Z[test])
    return predicted


def counts_basis(X, y):
    """Averages of depth-normalised counts, ranked: the basis of rank scores."""
    return rank_scores(averages(X / X.sum(axis=1, keepdims=True), y), float)


# Chapters 01 and 05: classes, donors held out -----------------------------------------------


def test_cell_types(frozen) -> None:
    cells = datasets.load("baron_human")
    sizes = cells.obs["cell_type"].value_counts()
    cells = cells[cells.obs["cell_type"].isin(sizes.index[sizes >= 20])]
    X, y = cells.X.toarray(), cells.obs["cell_type"].astype(str).to_numpy()
    folds = by_group(cells.obs["donor"].astype(str).to_numpy())
    ask = {"dataset": "baron_human"}
    Z = depth(X)
    hold_scores(frozen, "01_first_run", y, predict(logistic, Z, y, folds),
                representation="library_size", head="logistic", **ask)  # fmt: skip
    for name, Z in (("lognorm", log_values(X)), ("rank", rank_scores(X))):
        told = {"centroid": predict(centroid, Z, y, folds), "projection": np.empty_like(y)}
        for train, test in folds:
            basis = counts_basis(X[train], y[train]) if name == "rank" else None
            told["projection"][test] = projection(Z[train], y[train], Z[test], basis)
        for head, predicted in told.items():
            ask |= {"representation": name, "head": head}
            hold_scores(frozen, "05_cell_types", y, predicted, **ask)


# Chapter 07: transfers --------------------------------------------------------------------------


def test_cross_species(frozen) -> None:
    sides = {"human": datasets.load("baron_human"), "mouse": datasets.load("baron_mouse")}
    pairs = datasets.orthologs("human", "mouse", ids="symbol", kind=None)
    pairs = pairs[pairs["kind"].eq("one2one") & pairs["target"].isin(sides["mouse"].var_names)]
    for side in ("source", "target"):
        alone = pairs.groupby(side)[side].transform("size").eq(1)
        pairs = pairs.assign(**{side + "_alone": alone})
    pairs = pairs[pairs["source_alone"] & pairs["target_alone"]]
    pairs = pairs[pairs["source"].isin(sides["human"].var_names)]
    X = {n: c[:, pairs[s]].X.toarray()
         for (n, c), s in zip(sides.items(), ("source", "target"), strict=True)}  # fmt: skip
    y = {n: c.obs["cell_ontology_class"].astype(str).to_numpy() for n, c in sides.items()}
    large = [set(k[n >= 20]) for k, n in (np.unique(v, return_counts=True) for v in y.values())]
    kept = {n: np.isin(v, list(large[0] & large[1])) for n, v in y.items()}
    X, y = ({n: v[kept[n]] for n, v in part.items()} for part in (X, y))
    of = {"lognorm": {n: log_values(v) for n, v in X.items()},
          "rank": {n: rank_scores(v) for n, v in X.items()}}  # fmt: skip
    means = {}
    for a, b in (("human", "mouse"), ("mouse", "human")):
        for name, Z in of.items():
            basis = counts_basis(X[a], y[a]) if name == "rank" else None
            told = {"centroid": centroid(Z[a], y[a], Z[b]),
                    "projection": projection(Z[a], y[a], Z[b], basis)}  # fmt: skip
            for head, predicted in told.items():
                key = {"representation": name, "head": head}
                hold_scores(frozen, "07_cross_species", y[b], predicted, ("f1_macro", "accuracy"),
                            dataset=f"{a} to {b}", **key)  # fmt: skip
                means.setdefault((name, head), []).append(METRICS["f1_macro"](y[b], predicted))
    for (name, head), values in means.items():
        hold(frozen, "07_cross_species", np.mean(values), dataset="human + mouse", head=head,
             representation=name, metric="mean_f1_macro")  # fmt: skip


# Chapter 08: averages of species ----------------------------------------------------------------


def test_structure(frozen) -> None:
    """As published: any kind of ortholog, every cell ranked and then averaged."""
    made = simulate.species(n_cells=400, n_genes=2500, seed=0)
    first, *others = made.adatas
    partner = {first: dict(zip(*[made.adatas[first].var_names] * 2, strict=True))}
    for name in others:
        pairs = made.pairs(first, name, kind=None)
        pairs = pairs[pairs["target"].isin(made.adatas[name].var_names)]
        pairs = pairs.drop_duplicates("target").drop_duplicates("source")
        partner[name] = dict(zip(pairs["source"], pairs["target"], strict=True))
    genes = [g for g in partner[first] if all(g in found for found in partner.values())]
    types = sorted(set.intersection(*(set(a.obs["cell_type"]) for a in made.adatas.values())))
    mean = {}
    for name, cells in made.adatas.items():
        cells = cells[cells.obs["cell_type"].isin(types), [partner[name][g] for g in genes]]
        Z = rank_scores(cells.X.toarray(), float)
        mean[name] = unit(averages(Z, cells.obs["cell_type"].astype(str).to_numpy()))
    cosine = {name: (mean[name] * mean[first]).sum(axis=1) for name in others}
    ask = {"dataset": "sim_species", "protocol": "as_published", "representation": "rank"}
    for name, values in cosine.items():
        hold(frozen, "08_structure", values.mean(), metric="cosine_with_human", variant=name, **ask)
    myr = made.divergence_myr.loc[first, others].to_numpy()
    by_species = np.array([values.mean() for values in cosine.values()])
    rho = stats.spearmanr(myr, by_species).statistic
    orders = np.array([*permutations(range(1, 8))])
    null = 1 - 6 * ((orders - stats.rankdata(myr)) ** 2).sum(axis=1) / (7 * 48)
    each = stats.spearmanr(np.repeat(myr, len(types)), np.concatenate([*cosine.values()]))
    metric = "spearman_divergence_cosine"
    hold(frozen, "08_structure", rho, metric=metric, **ask)
    hold(
        frozen,
        "08_structure",
        np.mean(np.abs(null) >= abs(rho) - 1e-9),
        metric=f"{metric}_p",
        **ask,
    )
    hold(frozen, "08_structure", each.statistic, metric=metric, variant="types as units", **ask)
    hold(frozen, "08_structure", each.pvalue, metric=f"{metric}_p", variant="types as units", **ask)


# Chapter 09: Fisher's law of one table ----------------------------------------------------------


def test_regulation(frozen) -> None:
    net = simulate.regulation(n_cells=1500, n_genes=1000, seed=0)
    truth, names = net.uns["sclin"]["truth"], np.asarray(net.var_names)
    X, factors = net.X.toarray(), names[net.var["tf"]]
    on, edges = X > 0, truth["edges"]
    tested = (on.mean(axis=0) >= 0.05) & (on.mean(axis=0) <= 0.95)
    log = np.corrcoef(log_values(X).astype(float), rowvar=False)
    precision, unlinked = {"correlation": [], "not matched": []}, []
    for tf in factors:
        genes = tested & (names != tf)
        active = on[:, names == tf].ravel()
        n, m, k = len(on), active.sum(), on[:, genes].sum(axis=0)
        a = on[active][:, genes].sum(axis=0)
        law = stats.hypergeom(n, m, k)
        p = np.minimum(1, 2 * np.minimum(law.cdf(a), law.sf(a - 1)))
        up = np.sign(np.log((a * (n - m - k + a) / n + 0.5) / ((m - a) * (k - a) / n + 0.5)))
        mine = edges[edges["tf"].eq(tf)]
        linked = {*mine["target"], *truth["cycle_genes"], *factors}
        unlinked.append(p[~np.isin(names[genes], list(linked))])
        target = np.isin(names[genes], mine.loc[mine["sign"] > 0, "target"])
        if target.any():
            scores = {"correlation": log[names == tf][0, genes],
                      "not matched": -np.log10(p + 1e-300) * up}  # fmt: skip
            for name, score in scores.items():
                precision[name].append(average_precision_score(target, score))
    ask = {"dataset": "sim_regulation", "representation": "counts"}
    for name, values in precision.items():
        hold(frozen, "09_gene_regulation", np.mean(values), metric="average_precision",
             variant=name, **ask)  # fmt: skip
    ask["variant"] = "unlinked genes, not matched"
    for level in (0.01, 0.05, 0.5):
        share = np.mean(np.concatenate(unlinked) <= level)
        hold(frozen, "09_gene_regulation", share, metric=f"share_p_below_{level}", **ask)


# Chapter 10: paths on a graph -------------------------------------------------------------------


def geodesics(distance, k):
    """Shortest paths over the k nearest neighbours of either point."""
    near = np.argsort(distance, axis=1, kind="stable")[:, 1 : k + 1]
    graph = np.zeros_like(distance)
    np.put_along_axis(graph, near, np.take_along_axis(distance, near, axis=1), axis=1)
    return dijkstra(np.maximum(graph, graph.T), directed=False)


def test_manifold(frozen) -> None:
    cells = datasets.load("baron_human")
    kind, draw = cells.obs["cell_type"].astype(str).to_numpy(), np.random.default_rng(0)
    chosen = [draw.permutation(np.flatnonzero(kind == name))[:60] for name in np.unique(kind)]
    X = cells.X[np.sort(np.concatenate(chosen))].toarray().astype(float)
    ask = {"dataset": "baron_human", "representation": "counts", "protocol": "as_published"}
    loud = np.argsort(-X.var(axis=0))[:10]
    far, few, size = pdist(X), pdist(X[:, loud]), pdist(X.sum(axis=1)[:, None])
    for metric, value in {
        "variance_of_ten_genes": X[:, loud].var(axis=0).sum() / X.var(axis=0).sum(),
        "pearson_ten_genes_all": np.corrcoef(few, far)[0, 1],
        "pearson_depth_distance cells": np.corrcoef(size, far)[0, 1],
    }.items():
        hold(frozen, "10_manifold", value, metric=metric, **ask)
    ask |= {"variant": "cells"}
    straight = squareform(far)
    for k in (15, 45):
        along = geodesics(straight, k)
        assert np.isfinite(along).all()
        centre = np.eye(len(X)) - 1 / len(X)
        values, axes = np.linalg.eigh(-0.5 * centre @ along**2 @ centre)
        placed = pdist(axes[:, -5:] * np.sqrt(values[-5:]))
        upper = squareform(along, checks=False)
        hold(frozen, "10_manifold", 1 - np.corrcoef(upper, placed)[0, 1] ** 2,
             metric="isomap_residual_variance", split=f"k={k}", **ask)  # fmt: skip
        hold(frozen, "10_manifold", np.corrcoef(straight.ravel(), along.ravel())[0, 1],
             metric="pearson_euclid_geodesic_square", split=f"k={k}", **ask)  # fmt: skip
    roll = cdist(*[make_swiss_roll(1000, random_state=0)[0]] * 2)
    along = squareform(geodesics(roll, 10), checks=False)
    straight = squareform(roll, checks=False)
    told = {"pearson_euclid_geodesic": np.corrcoef(along, straight)[0, 1],
            "stretch": np.median(along / straight)}  # fmt: skip
    for metric, value in told.items():
        hold(frozen, "10_manifold", value, metric=metric, dataset="baron_human",
             representation="rank", variant="Swiss roll", split="k=10")  # fmt: skip


# Chapters 12 and 13: cells with a clock, and with perturbations ---------------------------------


def test_trajectory(frozen) -> None:
    """Age of neighbours, and distance against difference in time on drawn pairs, by donor."""
    cells = datasets.load("sim_trajectory", n_cells=1600, n_genes=1000, n_donors=8, seed=0)
    counts, clock = cells.X.toarray(), cells.obs["time"].to_numpy(float)
    donor = cells.obs["donor"].astype(str).to_numpy()
    for name, Z in (("lognorm", log_values(counts)), ("library_size", depth(counts))):
        far = cdist(Z, Z)
        geometry, gaps = [], []
        for one in np.unique(donor):
            at, rng = np.flatnonzero(donor == one), np.random.default_rng(0)
            i = rng.integers(len(at), size=5000 // 8)
            j = (i + rng.integers(1, len(at), 5000 // 8)) % len(at)
            gaps.append(np.abs(clock[at[i]] - clock[at[j]]))
            geometry.append(stats.spearmanr(far[at[i], at[j]], gaps[-1]).statistic)
        ask = {"dataset": "sim_trajectory", "representation": name}
        hold(frozen, "12_layers_trajectory", np.mean(geometry), metric="global_geometry", **ask)
        if name == "lognorm":
            np.fill_diagonal(far, np.inf)
            near = np.argsort(far, axis=1)[:, :30]
            age = np.abs(clock[near] - clock[:, None]).mean(axis=1)
            local = 1 - age / np.concatenate(gaps).mean()
            by_donor = [local[donor == one].mean() for one in np.unique(donor)]
            hold(frozen, "12_layers_trajectory", np.mean(by_donor), metric="neighbor_time", **ask)


def test_perturbation(frozen) -> None:
    """As published: t statistics of counts and means of the representation, on the same cells."""
    cells = datasets.load("sim_perturbation", n_cells_per=60, n_perturbations=20, n_genes=1000,
                          effect=1.5, seed=0)  # fmt: skip
    counts, names = cells.X.toarray().astype(float), cells.obs["perturbation"].astype(str)
    of = {"lognorm": log_values(counts).astype(float), "library_size": depth(counts)}
    kinds = sorted({*names} - {"control"})
    for state in cells.obs["condition"].unique():
        here = cells.obs["condition"].eq(state).to_numpy()
        groups = [counts[here & names.eq(k).to_numpy()] for k in [*kinds, "control"]]
        *sums, base = [X.sum(axis=0) for X in groups]
        *sizes, n = [len(X) for X in groups]
        # Whole numbers until the division, so that equal differences tie.
        change = np.array([(s * n - base * m) / (n * m) for s, m in zip(sums, sizes, strict=True)])
        *error, rest = [X.var(axis=0, ddof=1) / len(X) for X in groups]
        t = change / (np.sqrt(np.array(error) + rest) + 1e-8)
        top = np.argsort(-np.round(np.abs(t), 9), axis=1, kind="stable")[:, :500]
        kept = np.where([np.isin(np.arange(t.shape[1]), row) for row in top], change, 0)
        reference = unit(stats.rankdata(kept[:, np.unique(top)], axis=1))
        for name, Z in of.items():
            means = unit(np.array([Z[here & names.eq(k).to_numpy()].mean(axis=0) for k in kinds]))
            pairs = [squareform(M @ M.T, checks=False) for M in (reference, means)]
            found = stats.spearmanr(*pairs)
            ask = {"protocol": "as_published", "split": state, "representation": name}
            told = {"effect_similarity": found.statistic, "pair_p": found.pvalue}
            for metric, value in told.items():
                hold(frozen, "13_layers_perturbation", value, dataset="sim_perturbation",
                     metric=metric, **ask)  # fmt: skip
