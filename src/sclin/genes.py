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


def in_order(adata: AnnData, names: Any, who: str) -> AnnData:
    """Cells with the genes of a fit, in their order.

    Parameters
    ----------
    adata
        Cells; genes that the fit did not see are left out.
    names
        Names of the genes of the fit.
    who
        What was fitted, for the error.

    Raises
    ------
    InputError
        A gene of the fit is not there, or names repeat.
    """
    if adata.var_names.equals(pd.Index(names)):
        return adata
    order = unique_names(adata.var_names, f"The AnnData given to {who}").get_indexer(names)
    if (order < 0).any():
        raise InputError(
            f"{who} was fitted on {len(order)} genes, and these cells lack "
            f"{int((order < 0).sum())} of them, such as {np.asarray(names)[order < 0][0]!r}. "
            "Give all genes, in any order."
        )
    return adata[:, order]
