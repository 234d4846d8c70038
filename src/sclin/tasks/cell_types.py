"""Cell types: name the cells of a donor that was never seen.

The published protocol splits cells at random and keeps types with 100 cells or more.
The corrected one holds out whole donors, keeps one class list for all methods, and chooses what
there is to choose inside the training part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from sclin.benchmarks import cross_species
from sclin.benchmarks._cells import (
    donor_values,
    fold_rows,
    is_published,
    keep_classes,
    open_many,
    pooled_rows,
    splits_for,
)
from sclin.errors import InputError
from sclin.evaluation import (
    Interval,
    PairedTest,
    calibration_curve,
    classification_metrics,
    leave_one_donor_out,
    macro_f1_difference,
    macro_f1_interval,
    paired_test,
    per_class_f1,
    result,
    results_table,
    split_cells,
)
from sclin.linear import AnovaSelector, ImplicitPCA
from sclin.normalization import rank_normalize
from sclin.projection import CentroidProjection, match_genes
from sclin.representations import Predictions, column, grid, head, log_normalize

__all__ = [
    "CellTypesOutcome",
    "NestedChoice",
    "between",
    "compare",
    "compare_datasets",
    "gene_weights",
    "nested_choice",
    "run",
    "split_effect",
    "threshold_curve",
]

_TASK = "cell_types"
_REPRESENTATIONS = ("lognorm", "hvg_pca", "rank", "rank_pca")
_HEADS = ("logistic", "projection", "knn", "centroid")
Pair = tuple[str, str]


@dataclass(frozen=True)
class CellTypesOutcome:
    """What `run` found.

    Attributes
    ----------
    results
        The tidy results table.
    predictions
        `Predictions` by ``(dataset, representation, head)``; shuffled labels under the
        representation name with ``" (shuffled labels)"``.
    donors
        Donor of each cell of the class list, by dataset; ``None`` where cells were split.
    per_class
        Precision, recall, F1 with a bootstrap interval over cells, and n of every class.
    per_donor
        Macro F1 of every donor (or fold) held out.
    calibration
        Confidence against accuracy, for heads that give probabilities.
    left_out
        Classes and cells that never entered, with the reason.
    """

    results: pd.DataFrame
    predictions: dict[tuple[str, str, str], Predictions]
    donors: dict[str, NDArray[Any] | None]
    per_class: pd.DataFrame
    per_donor: pd.DataFrame
    calibration: pd.DataFrame
    left_out: pd.DataFrame


def _class_intervals(scores: pd.DataFrame, *, n_boot: int, seed: int) -> pd.DataFrame:
    """Add the bootstrap interval over cells of each class's F1.

    F1 rests on hits, misses and false alarms, so resampling cells is a multinomial draw of these.
    """
    rng = np.random.default_rng(seed)
    hits = scores["recall"] * scores["n"]
    called = (hits / scores["precision"]).where(scores["precision"] > 0, 0)
    low, high = np.full((2, len(scores)), np.nan)
    for i, (tp, true, alarms) in enumerate(zip(hits, scores["n"], called - hits, strict=True)):
        counts = np.rint([tp, true - tp, max(alarms, 0)]).astype(int)
        if counts.sum():
            draw = rng.multinomial(counts.sum(), counts / counts.sum(), size=n_boot)
            f1 = 2 * draw[:, 0] / np.maximum(draw @ [2, 1, 1], 1)
            low[i], high[i] = np.quantile(f1, [0.025, 0.975])
    return scores.assign(ci_low=low, ci_high=high)


def run(
    datasets: str | AnnData | Sequence[str | AnnData] = "baron_human",
    *,
    label: str = "cell_type",
    donor: str | None = "donor",
    protocol: str = "corrected",
    representations: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    controls: bool = True,
    min_cells: int | None = None,
    n_splits: int = 5,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> CellTypesOutcome:
    """Classify cell types with every representation and head.

    Parameters
    ----------
    datasets
        One dataset or a list (tissues): a name, a path, ``"name:key=value"`` or an AnnData.
    label
        Column of ``obs`` with the cell type.
    donor
        Column of ``obs`` with the donor; ``None`` splits by cells; ``"auto"`` looks for one.
        Not used by ``as_published``.
    protocol
        ``corrected`` holds out one donor at a time and pools the predictions.
        ``as_published`` repeats random 80/20 splits of cells, keeps types with 100 cells, and
        reports mean and standard deviation over the repeats.
    representations, heads
        Names. The defaults are all four of each (``rank`` with ``logistic`` and ``projection``
        when ``as_published``).
    controls
        Add ``library_size``, ``random`` and the first pair with shuffled training labels.
    min_cells
        Smallest class; 20, or 100 when ``as_published``.
    n_splits
        Repeats when ``as_published``, folds of cells when there are no donors.
    options
        Options by representation or head, see `sclin.representations.grid`.
    n_boot
        Bootstrap resamples of every interval.
    seed
        Seed of splits, PCA and bootstrap.

    Returns
    -------
    CellTypesOutcome

    Raises
    ------
    InputError
        When a column is missing, one donor or one class only, or gene names repeat.

    References
    ----------
    Souza and Mehta, arXiv 2602.16696, 2026.
    """
    published = is_published(protocol)
    if representations is None:
        representations = ("rank",) if published else _REPRESENTATIONS
    if heads is None:
        heads = ("logistic", "projection") if published else _HEADS
    smallest = (100 if published else 20) if min_cells is None else min_cells
    predictions: dict[tuple[str, str, str], Predictions] = {}
    donors_of: dict[str, NDArray[Any] | None] = {}
    rows: list[dict[str, Any]] = []
    details: dict[str, list[pd.DataFrame]] = {"class": [], "donor": [], "calibration": []}
    left_out: list[pd.DataFrame] = []
    for dataset, cells in open_many(datasets).items():
        adata, dropped = keep_classes(cells, label, min_cells=smallest)
        left_out.append(dropped.assign(dataset=dataset))
        y = column(adata, label).astype(str).to_numpy()
        donors = None if published else donor_values(adata, donor)
        donors_of[dataset] = donors
        if published:
            splits = split_cells(y, n_splits=n_splits, test_size=0.2, seed=seed)
            split_name = f"{n_splits} random 80/20 splits of cells"
        else:
            splits, split_name = splits_for(y, donors, n_splits=n_splits, seed=seed)
        common: dict[str, Any] = {"splits": splits, "options": options, "seed": seed}
        found = grid(adata, label, representations=representations, heads=heads, **common)
        if controls:
            simple = ("library_size", "random")
            found |= grid(adata, label, representations=simple, heads=("logistic",), **common)
            # The cheapest pair will do: no representation can learn labels that mean nothing.
            cheap = "hvg_pca" if "hvg_pca" in representations else representations[0]
            common |= {"representations": (cheap,), "heads": heads[:1], "shuffle_labels": True}
            null = grid(adata, label, **common)
            found |= {(f"{name} (shuffled labels)", kind): p for (name, kind), p in null.items()}
        note = f"{int(dropped['n_cells'].sum())} cells of {len(dropped)} classes left out"
        for (name, kind), p in found.items():
            predictions[dataset, name, kind] = p
            where = {"dataset": dataset, "representation": name, "head": kind}
            fields: dict[str, Any] = where | {
                "task": _TASK,
                "protocol": protocol,
                "split": split_name,
                "seed": seed,
                "note": note
                + ("; training labels shuffled" if "shuffled" in name else "")
                + (f"; {p.n_unseen} cells of unseen classes" if p.n_unseen else ""),
            }
            if published:
                rows += fold_rows(p, fields, ("macro_f1", "accuracy", "balanced_accuracy"))
            else:
                rows += pooled_rows(p, donors, fields, n_boot=n_boot, seed=seed)
            scores = _class_intervals(per_class_f1(p.y_true, p.y_pred), n_boot=n_boot, seed=seed)
            details["class"].append(scores.reset_index().assign(**where))
            for kind_of, s in scores.iterrows():
                interval = Interval(s["f1"], s["ci_low"], s["ci_high"], int(s["n"]))
                rows.append(result(metric=f"f1[{kind_of}]", value=interval, **fields))
            details["donor"].append(
                pd.DataFrame(
                    [
                        {"held_out": s, "n": int((p.split == s).sum())}
                        | classification_metrics(p.y_true[p.split == s], p.y_pred[p.split == s])
                        for s in dict.fromkeys(p.split)
                    ]
                ).assign(**where)
            )
            if p.proba is not None:
                curve = calibration_curve(p.y_true, p.proba, list(p.classes))
                details["calibration"].append(curve.assign(**where))
                gap = {"value": curve.attrs["ece"], "n": p.y_true.size, "higher_is_better": False}
                rows.append(result(metric="ece", **gap, **fields))
    tables = {
        k: pd.concat(v, ignore_index=True) if v else pd.DataFrame() for k, v in details.items()
    }
    return CellTypesOutcome(
        results=results_table(rows),
        predictions=predictions,
        donors=donors_of,
        per_class=tables["class"],
        per_donor=tables["donor"],
        calibration=tables["calibration"],
        left_out=pd.concat(left_out, ignore_index=True),
    )


def compare(
    outcome: CellTypesOutcome,
    dataset: str,
    *,
    reference: Pair = ("lognorm", "logistic"),
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every representation and head with one of them, on the same cells.

    Parameters
    ----------
    outcome
        What `run` returned.
    dataset
        One of its datasets.
    reference
        Representation and head to compare with.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    DataFrame
        ``representation``, ``head``, ``value`` (macro F1 less that of the reference), ``ci_low``,
        ``ci_high`` (bootstrap over donors and cells), ``p_value`` (sign flips of the donors'
        differences; with n donors not below ``2 ** (1 - n)``), ``n`` cells and ``n_donors``.

    Raises
    ------
    InputError
        When the reference was not run.
    """
    pairs = {key[1:]: p for key, p in outcome.predictions.items() if key[0] == dataset}
    if reference not in pairs:
        raise InputError(f"{reference} was not run on {dataset!r}; there are {sorted(pairs)}.")
    base = pairs[reference]
    donors = outcome.donors[dataset]
    groups = None if donors is None else donors[base.cell]
    per_donor = outcome.per_donor[outcome.per_donor["dataset"] == dataset].pivot(
        index="held_out", columns=["representation", "head"], values="macro_f1"
    )
    rows = []
    for (name, kind), p in pairs.items():
        if (name, kind) == reference or "shuffled" in name:
            continue
        gap = macro_f1_difference(
            base.y_true, p.y_pred, base.y_pred, groups=groups, n_boot=n_boot, seed=seed
        )
        test = paired_test(per_donor[name, kind], per_donor[reference], seed=seed)
        rows.append(
            {
                "representation": name, "head": kind,
                "value": gap.value, "ci_low": gap.low, "ci_high": gap.high,
                "p_value": np.nan if donors is None else test.p_value,
                "n": gap.n, "n_donors": 0 if donors is None else len(per_donor),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def compare_datasets(
    results: pd.DataFrame, a: Pair, b: Pair, *, metric: str = "macro_f1", seed: int = 0
) -> tuple[pd.DataFrame, PairedTest]:
    """Test one representation and head against another over datasets (tissues).

    Parameters
    ----------
    results
        Results of `run` on several datasets, one protocol.
    a, b
        Representation and head of the two methods.
    metric
        Metric to compare.
    seed
        Seed of the interval.

    Returns
    -------
    scores : DataFrame
        Index dataset; columns ``a``, ``b`` and their ``difference``.
    test : PairedTest
        Over datasets: with n of them the p value is not below ``2 ** (1 - n)``.

    Raises
    ------
    InputError
        When fewer than two datasets have both methods.
    """
    table = results[results["metric"] == metric]
    if table["protocol"].nunique() > 1:
        raise InputError(
            "The results hold both protocols; select one before comparing over datasets."
        )
    columns = {}
    for side, (name, kind) in {"a": a, "b": b}.items():
        chosen = table[(table["representation"] == name) & (table["head"] == kind)]
        columns[side] = chosen.set_index("dataset")["value"]
    scores = pd.DataFrame(columns).dropna()
    if len(scores) < 2:
        raise InputError(
            f"{len(scores)} datasets have both {a} and {b}; a paired test over datasets needs two "
            "or more."
        )
    scores["difference"] = scores["a"] - scores["b"]
    return scores, paired_test(scores["a"], scores["b"], seed=seed)


def between(
    datasets: str | AnnData | Sequence[str | AnnData],
    *,
    label: str = "cell_type",
    batch: str = "batch",
    representations: Sequence[str] = ("lognorm", "hvg_pca", "rank"),
    heads: Sequence[str] = ("logistic", "projection"),
    min_cells: int = 20,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> cross_species.CrossSpeciesOutcome:
    """Learn types in one experiment and name the cells of another, both ways.

    Each pair is cut to the genes that both measure, by name, and to the types that both hold.

    Parameters
    ----------
    datasets
        Two datasets or more; one alone is divided into its batches.
    label, batch
        Columns of ``obs``.
    representations, heads
        Names.
    min_cells
        Smallest type, on both sides.
    options
        Options by representation or head.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    CrossSpeciesOutcome
        With experiments in the place of species.

    Raises
    ------
    InputError
        When a pair shares no gene or fewer than two types, or one dataset has one batch.
    """
    cells = open_many(datasets)
    if len(cells) == 1:
        ((_, whole),) = cells.items()
        of = column(whole, batch).astype(str).to_numpy()
        cells = {name: whole[of == name].copy() for name in np.unique(of)}

    def same_names(one: str, other: str) -> pd.DataFrame:
        here, _ = match_genes(cells[one].var_names, cells[other].var_names)
        return pd.DataFrame(dict.fromkeys(("source", "target"), cells[one].var_names[here]))

    found = cross_species.run(
        cells, same_names, label=label, representations=representations, heads=heads,
        types=("shared",), min_cells=min_cells, options=options, n_boot=n_boot, seed=seed,
    )  # fmt: skip
    notes = found.results["note"].str.replace("0 ortholog pairs lost, ", "")
    return replace(found, results=found.results.assign(task=_TASK, note=notes))


def split_effect(
    dataset: str | AnnData,
    *,
    label: str = "cell_type",
    donor: str = "donor",
    representations: Sequence[str] = ("lognorm", "rank"),
    heads: Sequence[str] = ("logistic", "projection"),
    min_cells: int = 20,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    held_out: CellTypesOutcome | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """What the split alone changes: the same cells, classes and heads, two ways to divide them.

    Both ways have as many folds as there are donors, so that training parts are alike in size.

    Parameters
    ----------
    dataset
        Name or AnnData.
    label, donor
        Columns of ``obs``.
    representations, heads
        Names.
    min_cells
        Smallest class.
    options
        Options by representation or head.
    held_out
        What `run` returned for the same cells with donors held out; spares fitting it again.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    DataFrame
        Results rows (``macro_f1``): the score by folds of cells, by donor, and the score by cells
        less that by donor as ``macro_f1_difference``, with a paired interval over donors and
        cells.
    """
    ((name, cells),) = open_many(dataset).items()
    adata, _ = keep_classes(cells, label, min_cells=min_cells)
    y = column(adata, label).astype(str).to_numpy()
    donors = column(adata, donor).astype(str).to_numpy()
    by_donor = leave_one_donor_out(donors)
    by_cell = split_cells(y, n_splits=len(by_donor), seed=seed)
    ways = {"cells": by_cell, "donors": by_donor}
    found: dict[str, dict[Pair, Predictions]] = {}
    if held_out is not None:
        found["donors"] = {key[1:]: p for key, p in held_out.predictions.items() if key[0] == name}
    for split in set(ways) - set(found):
        found[split] = grid(
            adata, label, representations=representations, heads=heads, splits=ways[split],
            options=options, seed=seed,
        )  # fmt: skip
    rows = []
    for pair in found["cells"]:
        if pair not in found["donors"]:
            raise InputError(f"held_out has no predictions of {pair}; run it, or leave it out.")
        aligned = {s: _in_order(found[s][pair]) for s in ways}
        fields: dict[str, Any] = {
            "task": _TASK, "dataset": name, "representation": pair[0], "head": pair[1],
            "seed": seed,
        }  # fmt: skip
        draws: dict[str, Any] = {"groups": donors, "n_boot": n_boot, "seed": seed}
        rows += [
            result(
                metric="macro_f1",
                value=macro_f1_interval(y, predicted, **draws),
                protocol="as_published" if split == "cells" else "corrected",
                split=f"{len(by_donor)} folds of {split}",
                note="split alone differs: same classes, heads and number of folds",
                **fields,
            )
            for split, predicted in aligned.items()
        ]
        rows.append(
            result(
                metric="macro_f1_difference",
                value=macro_f1_difference(y, aligned["cells"], aligned["donors"], **draws),
                protocol="corrected",
                split="folds of cells less donors held out",
                note="how much a split by cells adds to the score",
                **fields,
            )
        )
    return results_table(rows)


def _in_order(p: Predictions) -> NDArray[Any]:
    """Predictions of disjoint folds, in the order of the cells."""
    return p.y_pred[np.argsort(p.cell)].astype(str)


def threshold_curve(
    dataset: str | AnnData,
    *,
    thresholds: Sequence[int] = (10, 20, 30, 50, 100),
    pairs: Sequence[Pair] = (("lognorm", "logistic"), ("rank", "logistic"), ("rank", "projection")),
    label: str = "cell_type",
    donor: str = "donor",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Macro F1 against the smallest class that is kept, one donor held out at a time.

    Parameters
    ----------
    dataset
        Name or AnnData.
    thresholds
        Smallest numbers of cells of a class, over all donors.
    pairs
        Representation and head of each curve.
    label, donor
        Columns of ``obs``.
    options
        Options by representation or head.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    DataFrame
        Results rows with the columns ``min_cells``, ``n_classes`` and ``left_out`` (cells) added.
    """
    ((_, cells),) = open_many(dataset).items()
    tables = []
    for threshold, (name, kind) in product(sorted(thresholds), pairs):
        found = run(
            cells, label=label, donor=donor, representations=[name], heads=[kind],
            controls=False, min_cells=threshold, options=options, n_boot=n_boot, seed=seed,
        )  # fmt: skip
        counts = {
            "min_cells": threshold,
            "n_classes": found.per_class["class"].nunique(),
            "left_out": int(found.left_out["n_cells"].sum()),
        }
        tables.append(found.results[found.results["metric"] == "macro_f1"].assign(**counts))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class NestedChoice:
    """What `nested_choice` found.

    Attributes
    ----------
    results
        Results rows: the score of the nested choice.
    chosen
        Genes and components chosen for each donor held out, and the inner score of the choice.
    inner
        Inner score of every setting, by donor held out.
    """

    results: pd.DataFrame
    chosen: pd.DataFrame
    inner: pd.DataFrame


def nested_choice(
    dataset: str | AnnData,
    *,
    representation: str = "rank",
    n_genes: Sequence[int] = (1000, 5000),
    n_components: Sequence[int] = (20, 50, 100),
    label: str = "cell_type",
    donor: str = "donor",
    min_cells: int = 20,
    n_boot: int = 1000,
    seed: int = 0,
) -> NestedChoice:
    """Choose genes and components inside the training part, then score the donor held out.

    For each donor held out, the other donors are held out in turn to score every setting; the best
    one is fitted on all of them and predicts the donor that no choice has seen.

    Parameters
    ----------
    dataset
        Name or AnnData with three donors or more.
    representation
        ``rank`` or ``lognorm``.
    n_genes
        Numbers of genes to try, kept by ANOVA F.
    n_components
        Numbers of whitened components to try.
    label, donor
        Columns of ``obs``.
    min_cells
        Smallest class.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    NestedChoice

    Raises
    ------
    InputError
        When there are fewer than three donors, or the representation is neither of the two.
    """
    if representation not in ("rank", "lognorm"):
        raise InputError(f"representation is {representation!r}; give 'rank' or 'lognorm'.")
    ((name, cells),) = open_many(dataset).items()
    adata, dropped = keep_classes(cells, label, min_cells=min_cells)
    y = column(adata, label).astype(str).to_numpy()
    donors = column(adata, donor).astype(str).to_numpy()
    if np.unique(donors).size < 3:
        raise InputError(
            f"{donor!r} has {np.unique(donors).size} values; a nested choice needs three donors: "
            "one to report on and two to choose with."
        )
    values = rank_normalize(adata.X) if representation == "rank" else log_normalize(adata)
    predicted = np.empty(y.size, dtype=object)
    inner_rows, chosen = [], []
    for outer in leave_one_donor_out(donors):
        folds = leave_one_donor_out(donors[outer.train])
        guesses = {
            setting: np.empty(outer.train.size, dtype=object)
            for setting in product(n_genes, n_components)
        }
        for fold in folds:
            train, test = outer.train[fold.train], outer.train[fold.test]
            for k in n_genes:
                for c, guess in _by_components(values, y, train, test, k, n_components, seed):
                    guesses[k, c][fold.test] = guess
        scores = {
            setting: classification_metrics(y[outer.train], guess.astype(str))["macro_f1"]
            for setting, guess in guesses.items()
        }
        best = max(scores, key=lambda setting: (scores[setting], -setting[1], -setting[0]))
        inner_rows += [
            {"held_out": outer.name, "n_genes": k, "n_components": c, "macro_f1": score}
            for (k, c), score in scores.items()
        ]
        picked = dict(zip(("n_genes", "n_components"), best, strict=True))
        chosen.append({"held_out": outer.name, **picked, "inner_macro_f1": scores[best]})
        ((_, guess),) = _by_components(values, y, outer.train, outer.test, best[0], [best[1]], seed)
        predicted[outer.test] = guess
    interval = macro_f1_interval(y, predicted.astype(str), groups=donors, n_boot=n_boot, seed=seed)
    picks = ", ".join(f"{r['held_out']}: {r['n_genes']}/{r['n_components']}" for r in chosen)
    row = result(
        task=_TASK, dataset=name, protocol="corrected", representation=representation,
        head="logistic", split="one donor held out", metric="macro_f1", value=interval, seed=seed,
        note=f"genes/components chosen inside the training donors ({picks}); "
        f"{int(dropped['n_cells'].sum())} cells of {len(dropped)} classes left out",
    )  # fmt: skip
    return NestedChoice(results_table([row]), pd.DataFrame(chosen), pd.DataFrame(inner_rows))


def _by_components(
    values: Any,
    y: NDArray[Any],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    k: int,
    n_components: Sequence[int],
    seed: int,
) -> list[tuple[int, NDArray[Any]]]:
    """Predict test cells with the first c whitened components, for several c and one PCA."""
    selector = AnovaSelector(k=min(k, values.shape[1])).fit(values[train], y[train])
    X_train, X_test = selector.transform(values[train]), selector.transform(values[test])
    most = min(max(n_components), X_train.shape[0] - 1, X_train.shape[1])
    pca = ImplicitPCA(n_components=most, whiten=True, seed=seed).fit(X_train)
    P_train, P_test = pca.transform(X_train), pca.transform(X_test)
    return [
        (c, head("logistic").fit(P_train[:, :c], y[train]).predict(P_test[:, :c]))
        for c in n_components
    ]


def gene_weights(
    dataset: str | AnnData,
    *,
    label: str = "cell_type",
    min_cells: int = 20,
    n_top: int = 10,
) -> pd.DataFrame:
    """Genes that carry each type: the parts of its cells' mean coefficient in the projection.

    The contributions of all genes sum to the mean coefficient of the type's cells on their own
    class. From each, the mean contribution in the cells of all other types is taken away, so that
    genes that every cell shows do not lead the list; genes that rank lower in the type than in
    the others are not listed.

    Parameters
    ----------
    dataset
        Name or AnnData with counts.
    label
        Column of ``obs``.
    min_cells
        Smallest class.
    n_top
        Genes per type.

    Returns
    -------
    DataFrame
        Columns ``class``, ``gene`` (symbol), ``contribution`` (dimensionless), ``place`` (from 1).
    """
    ((_, cells),) = open_many(dataset).items()
    adata, _ = keep_classes(cells, label, min_cells=min_cells)
    y = column(adata, label).astype(str).to_numpy()
    counts = sparse.csr_matrix(adata.X)
    model = CentroidProjection().fit(counts, y)
    symbols = adata.var["symbol"] if "symbol" in adata.var else pd.Series(adata.var_names)
    ranks = rank_normalize(counts)
    rows = []
    for i, kind in enumerate(model.classes_):
        own, other = ranks[y == kind].mean(axis=0), ranks[y != kind].mean(axis=0)
        part = np.where(own > other, model.projector_[i] * (own - other), -np.inf)
        top = np.argsort(-part)[:n_top]
        rows += [
            {"class": kind, "gene": str(symbols.iloc[g]), "contribution": part[g], "place": place}
            for place, g in enumerate(top, start=1)
        ]
    return pd.DataFrame(rows)
