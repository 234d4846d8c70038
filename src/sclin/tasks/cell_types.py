"""Cell types: name the cells of a donor that was never seen.

The two protocols are arguments of `sclin.evaluate`. The corrected one keeps types with 20 cells
and holds out one donor at a time: ``cv=LeaveOneGroupOut(), groups="donor", controls=True``.
The published one keeps types with 100 cells and repeats random splits of cells:
``cv=StratifiedShuffleSplit(5, test_size=0.2), protocol="as_published"``.
"""

from __future__ import annotations

import pandas as pd
from anndata import AnnData
from sklearn.pipeline import Pipeline, make_pipeline

from sclin.errors import InputError
from sclin.heads import head
from sclin.linear import AnovaSelector, ImplicitPCA
from sclin.representations import labels


def keep_classes(
    adata: AnnData,
    label: str,
    *,
    min_cells: int,
    within: str | None = None,
    groups: str | None = None,
) -> tuple[AnnData, pd.DataFrame]:
    """Keep the cells of classes with enough cells, and list what is left out.

    Every method then answers for the same classes.

    Parameters
    ----------
    adata
        Annotated cells.
    label
        Column of ``obs`` with the class.
    min_cells
        Smallest number of cells of a class.
    within
        Column of ``obs``: each of its groups must hold this many cells of the class.
    groups
        Column of ``obs`` with what will be held out: two of its groups must hold the class.

    Returns
    -------
    kept : AnnData
    left_out : DataFrame
        Columns ``class``, ``n_cells``, ``reason``; cells without a label have class ``""``.

    Raises
    ------
    InputError
        A column is missing, or fewer than two classes are left.
    """
    for column in filter(None, (label, within, groups)):
        labels(adata[:0], column)  # names the nearest column when there is none
    has = adata.obs[label].notna().to_numpy()
    y = adata.obs[label].astype(object).where(has, "").astype(str)
    sizes = y[has].value_counts().sort_index()
    smallest = sizes
    if within is not None:
        smallest = pd.crosstab(y[has], labels(adata[has], within)).min(axis="columns")
    reasons = dict.fromkeys(sizes.index[smallest.reindex(sizes.index) < min_cells], "too few")
    if groups is not None:
        seen = pd.crosstab(y[has], labels(adata[has], groups)).gt(0)
        alone = seen[seen.sum(axis="columns").eq(1)].idxmax(axis="columns")
        reasons = {c: f"only in {groups} {g!r}" for c, g in alone.items()} | reasons
    if len(sizes) - len(reasons) < 2:
        lost = "; ".join(f"{name!r} {why}" for name, why in [*reasons.items()][:3])
        raise InputError(
            f"{label!r} has {len(sizes) - len(reasons)} classes with {min_cells} cells or more"
            f"{f' in each {within}' if within else ''}{f' in two {groups}s' if groups else ''} "
            f"(the largest: {sizes.nlargest(3).to_dict()}; {lost}); "
            "lower min_cells or use another column."
        )
    rows = [
        {"class": name, "n_cells": int(sizes[name]), "reason": why}
        for name, why in sorted(reasons.items())
    ]
    if not has.all():
        rows.append({"class": "", "n_cells": int((~has).sum()), "reason": "no label"})
    left_out = pd.DataFrame(rows, columns=["class", "n_cells", "reason"])
    keep = has & ~y.isin(list(reasons)).to_numpy()
    return (adata if keep.all() else adata[keep].copy()), left_out


def donor_column(adata: AnnData, name: str = "auto") -> str | None:
    """Find the column of ``obs`` to hold out by.

    Parameters
    ----------
    adata
        Annotated cells.
    name
        The column; ``"auto"`` for ``donor`` or else ``batch``, whichever holds two values or more;
        ``""`` for none.

    Returns
    -------
    str or None
        ``None`` where cells have to be split without donors.
    """
    if name != "auto":
        if name:
            labels(adata[:0], name)  # names the nearest column when there is none
        return name or None
    for column in ("donor", "batch"):
        values = adata.obs.get(column)
        if values is not None and values.notna().all() and values.nunique() > 1:
            return column
    return None


def recommended(*, seed: int = 0) -> Pipeline:
    """Build the head that chapter 05 chose on human pancreas and judged on other cells.

    Parameters
    ----------
    seed
        Seed of the components.

    Returns
    -------
    Pipeline
        5,000 genes by ANOVA F, 100 principal components, neither scaled nor whitened, and
        logistic regression; for whole-genome matrices.
    """
    return make_pipeline(
        AnovaSelector(k=5000),
        ImplicitPCA(n_components=100, scale=False, seed=seed),
        head("logistic"),
    )
