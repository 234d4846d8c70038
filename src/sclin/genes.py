"""Genes by name: what was fitted on named genes gets them in that order, or refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike

from sclin.errors import InputError


def unique_names(genes: ArrayLike, whose: str) -> pd.Index:
    """Gene names as an Index; names that repeat are refused."""
    names = pd.Index(np.asarray(genes))
    if names.has_duplicates:
        repeated = names[names.duplicated()].unique()
        raise InputError(
            f"{whose} has {len(repeated)} gene name(s) more than once, such as "
            f"{repeated[:3].tolist()}. Make names unique or sum these genes first."
        )
    return names


def positions(here: pd.Index, names: Any, who: str) -> np.ndarray | None:
    """Where the genes of a fit stand among those of some cells; None where the two are equal.

    Parameters
    ----------
    here
        Names of the genes of the cells.
    names
        Names of the genes of the fit.
    who
        What was fitted, for the error.

    Raises
    ------
    InputError
        A gene of the fit is not there, or names repeat.
    """
    if here.equals(pd.Index(names)):
        return None
    order = unique_names(here, f"The AnnData given to {who}").get_indexer(names)
    if (order < 0).any():
        raise InputError(
            f"{who} was fitted on {len(order)} genes, and these cells lack "
            f"{int((order < 0).sum())} of them, such as {np.asarray(names)[order < 0][0]!r}. "
            "Give all genes, in any order."
        )
    return order


def in_order(adata: AnnData, names: Any, who: str) -> AnnData:
    """Cells with the genes of a fit, in their order; genes that it did not see are left out.

    See `positions` for parameters and errors.
    """
    order = positions(adata.var_names, names, who)
    return adata if order is None else adata[:, order]
