"""Fewer cells, with every group still among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

#: Columns of ``obs`` whose groups a draw keeps.
GROUPS = ("cell_type", "donor", "batch", "condition", "time", "perturbation")


def _nth(values: pd.Series) -> NDArray[Any]:
    """How many cells of the same group stand before each cell."""
    return values.groupby(values.to_numpy()).cumcount().to_numpy()


def queue(groups: pd.DataFrame, *, seed: int = 0) -> NDArray[np.intp]:
    """Order rows for a draw in which every group of every column gives one random cell a turn.

    The first rows then hold small groups whole and large groups in part, wherever they are cut.

    Parameters
    ----------
    groups
        One column a grouping, one row a cell; cells without a value are a group.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray
        All rows, first drawn first.

    Examples
    --------
    >>> rows = queue(pd.DataFrame({"donor": ["a"] * 8 + ["b"] * 2}))
    >>> int((rows[:4] > 7).sum())
    2
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    mixed = groups.iloc[order].astype(str)
    turn = np.min([np.arange(len(order)), *(_nth(mixed[c]) for c in mixed)], axis=0)
    return order[np.argsort(turn, kind="stable")]


def draw(
    cells: AnnData,
    n_cells: int,
    *,
    groups: Iterable[str] = GROUPS,
    control: str = "control",
    seed: int = 0,
) -> AnnData:
    """Draw at most so many cells and keep donors, classes and perturbations, the small ones whole.

    Parameters
    ----------
    cells
        Annotated cells, in memory or backed by their file; only those drawn are read.
    n_cells
        Most cells to keep.
    groups
        Columns of ``obs``; those that are absent, or have as many groups as cells are drawn, do
        not count.
    control
        Label of unperturbed cells in ``perturbation``, which are drawn five times as often.
    seed
        Seed of the draw.

    Returns
    -------
    AnnData
        In memory, cells in their old order; the cells themselves where they are few enough.
    """
    if cells.n_obs <= n_cells:
        return cells
    kept = [c for c in groups if c in cells.obs and cells.obs[c].nunique() < n_cells]
    found = cells.obs[kept].astype(str)
    if "perturbation" in found:  # controls stand as five groups
        fifth = pd.Series(np.arange(cells.n_obs) % 5, found.index).astype(str)
        names = found["perturbation"]
        found["perturbation"] = names.where(names != control, names + fifth)
    rows = queue(found, seed=seed)[:n_cells]
    part = cells[np.sort(rows)]
    return part.to_memory() if part.isbacked else part.copy()
