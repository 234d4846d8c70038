"""Cells for the benchmarks: datasets by name, class lists, splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sclin.errors import InputError, nearest
from sclin.evaluation import (
    Interval,
    Split,
    classification_metrics,
    leave_one_donor_out,
    macro_f1_interval,
    result,
    split_cells,
)
from sclin.representations import Predictions, column

__all__ = [
    "dataset_name",
    "donor_values",
    "fold_rows",
    "is_published",
    "keep_classes",
    "open_cells",
    "open_many",
    "pooled_rows",
    "splits_for",
]


def is_published(protocol: str) -> bool:
    """Tell whether the protocol is the published one; any name but the two is an error."""
    if protocol not in ("corrected", "as_published"):
        raise InputError(
            f"protocol is {protocol!r}; give 'corrected' or 'as_published'."
            + nearest(protocol, ("corrected", "as_published"))
        )
    return protocol == "as_published"


def dataset_name(adata: AnnData, default: str = "unnamed") -> str:
    """Name of a dataset, as its loader wrote it down."""
    return str(adata.uns.get("sclin", {}).get("dataset", default))


def open_cells(dataset: str | AnnData) -> tuple[str, AnnData]:
    """Load a dataset, or take cells as they are.

    Parameters
    ----------
    dataset
        A name of the catalogue, a path to an ``.h5ad`` file, a name with options such as
        ``"tabula_sapiens:tissue=lung"``, or an AnnData.

    Returns
    -------
    name : str
    adata : AnnData

    Raises
    ------
    InputError
        When gene names repeat, or an option is not of the form ``key=value``.
    """
    if isinstance(dataset, AnnData):
        adata = dataset
        name = dataset_name(adata, "cells")
    else:
        from sclin import datasets

        name, _, text = dataset.partition(":") if "=" in dataset else (dataset, "", "")
        options: dict[str, object] = {}
        for part in filter(None, text.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise InputError(f"{part!r} in {dataset!r} is not of the form key=value.")
            options[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
        adata = datasets.load(name, **options)
        name = dataset if text else dataset_name(adata, name)
    repeated = adata.var_names[adata.var_names.duplicated()].unique()
    if len(repeated):
        raise InputError(
            f"{len(repeated)} gene names of {name} occur more than once, such as "
            f"{str(repeated[0])!r}; sum these columns or call adata.var_names_make_unique() first."
        )
    return name, adata


def open_many(datasets: str | AnnData | Sequence[str | AnnData]) -> dict[str, AnnData]:
    """Load one dataset or several, by name.

    Parameters
    ----------
    datasets
        What `open_cells` takes, or a list of it.

    Returns
    -------
    dict
        Cells by name; a name that comes twice gets a number.
    """
    entries = [datasets] if isinstance(datasets, str | AnnData) else list(datasets)
    if not entries:
        raise InputError("The list of datasets is empty; name at least one, such as baron_human.")
    cells: dict[str, AnnData] = {}
    for entry in entries:
        name, adata = open_cells(entry)
        cells[name if name not in cells else f"{name} #{len(cells) + 1}"] = adata
    return cells


def keep_classes(adata: AnnData, label: str, *, min_cells: int) -> tuple[AnnData, pd.DataFrame]:
    """Keep the cells of classes with enough cells, and list what is left out.

    Parameters
    ----------
    adata
        Annotated cells.
    label
        Column of ``obs`` with the class.
    min_cells
        Smallest number of cells of a class.

    Returns
    -------
    kept : AnnData
    left_out : DataFrame
        Columns ``class``, ``n_cells``, ``reason``; cells without a label have class ``""``.

    Raises
    ------
    InputError
        When the column is missing or fewer than two classes are left.
    """
    labels = column(adata, label).astype(object)
    missing = labels.isna().to_numpy()
    sizes = labels[~missing].astype(str).value_counts().sort_index()
    few = sizes[sizes < min_cells]
    if (len(sizes) - len(few)) < 2:
        raise InputError(
            f"{label!r} has {len(sizes) - len(few)} classes with {min_cells} cells or more "
            f"(the largest: {sizes.nlargest(3).to_dict()}); lower min_cells or use another column."
        )
    rows = [{"class": c, "n_cells": int(n), "reason": "too few"} for c, n in few.items()]
    if missing.any():
        rows.append({"class": "", "n_cells": int(missing.sum()), "reason": "no label"})
    keep = ~missing & ~labels.astype(str).isin(few.index).to_numpy()
    kept = adata if keep.all() else adata[keep].copy()
    return kept, pd.DataFrame(rows, columns=["class", "n_cells", "reason"])


def donor_values(adata: AnnData, donor: str | None) -> np.ndarray | None:
    """Donor of each cell, or ``None`` when cells are to be split without donors.

    Parameters
    ----------
    adata
        Annotated cells.
    donor
        Column of ``obs``; ``None`` or ``""`` for none; ``"auto"`` for ``donor`` or else ``batch``,
        whichever holds two values or more.

    Returns
    -------
    ndarray or None
    """
    if not donor:
        return None
    if donor != "auto":
        return column(adata, donor).astype(object).to_numpy()
    for name in ("donor", "batch"):
        if name in adata.obs and adata.obs[name].notna().all() and adata.obs[name].nunique() > 1:
            return adata.obs[name].astype(str).to_numpy()
    return None


def splits_for(
    y: np.ndarray, donors: np.ndarray | None, *, n_splits: int = 5, seed: int = 0
) -> tuple[list[Split], str]:
    """One donor held out at a time, or folds of cells where there are no donors.

    Parameters
    ----------
    y
        Class of each cell, shape ``(n_cells,)``.
    donors
        Donor of each cell, or ``None``.
    n_splits
        Folds of cells when there are no donors.
    seed
        Seed of the folds.

    Returns
    -------
    splits : list of Split
    name : str
        What the results table says in its column ``split``.
    """
    if donors is None:
        return split_cells(y, n_splits=n_splits, seed=seed), f"{n_splits} folds of cells"
    return leave_one_donor_out(donors), "one donor held out"


def fold_rows(
    p: Predictions,
    fields: Mapping[str, Any],
    metrics: Sequence[str],
    *,
    keep: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Mean and sd over splits, as the reference code reports them.

    Parameters
    ----------
    p
        Predictions of several splits.
    fields
        Fields of the results table; the note is completed.
    metrics
        Names of `sclin.evaluation.classification_metrics`.
    keep
        Predictions that count, one truth value each; all when ``None``.

    Returns
    -------
    list of dict
        Rows of the results table, whose ends are the mean less and plus one sd. Without a split
        that holds a counted cell the values are missing.
    """
    used = np.ones(p.y_true.size, dtype=bool) if keep is None else keep
    masks = [(p.split == s) & used for s in dict.fromkeys(p.split)]
    folds = pd.DataFrame(
        [classification_metrics(p.y_true[m], p.y_pred[m]) for m in masks if m.any()],
        columns=list(metrics),
    )
    mean, sd = folds.mean(), folds.std(ddof=1)
    note = f"{fields['note']}; ends are the mean less and plus one sd over splits"
    return [
        result(**{
            **fields,
            "metric": m,
            "value": Interval(mean[m], mean[m] - sd[m], mean[m] + sd[m], len(folds)),
            "note": note,
        })
        for m in metrics
    ]  # fmt: skip


def pooled_rows(
    p: Predictions,
    donors: np.ndarray | None,
    fields: Mapping[str, Any],
    *,
    n_boot: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Macro F1 over all splits at once with its interval, and its companions.

    Parameters
    ----------
    p
        Predictions.
    donors
        Donor of each cell of the AnnData, or ``None``; the interval resamples donors first.
    fields
        Fields of the results table.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    list of dict
        Rows of the results table; AUROC where there are probabilities.
    """
    groups = None if donors is None else donors[p.cell]
    interval = macro_f1_interval(p.y_true, p.y_pred, groups=groups, n_boot=n_boot, seed=seed)
    scores = classification_metrics(p.y_true, p.y_pred, proba=p.proba, classes=list(p.classes))
    names = [m for m in ("accuracy", "balanced_accuracy", "auroc") if m in scores]
    return [
        result(metric="macro_f1", value=interval, **fields),
        *(result(metric=m, value=scores[m], n=p.y_true.size, **fields) for m in names),
    ]
