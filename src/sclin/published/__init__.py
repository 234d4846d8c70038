"""The numbers of the two papers, each with its source and how certain it is.

They are shown as published and never enter a computation of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from sclin.errors import unknown

#: Published tables by name.
TABLES = {
    "classification": "scores of both papers and of the models compared, with confidence",
    "crossspecies": "spermatogenesis of 8 mammals: matrix, averages, cell and gene numbers",
    "layers": "stored score of every layer of scFoundation and Tahoe-x1",
    "best_layers": "best, first and final layer of each score, derived from `layers`",
    "perturbation_genes": "perturbed genes of each T cell state in the stored scores",
    "claims": "what the papers claim: in which words, where, and by which rule it is tested",
}
#: Methods of the papers that run here: representation and head.
METHODS = {
    "scTOP": ("rank", "projection"),
    "normalise+ANOVA+PCA+LR": ("rank", "pipeline"),
    "raw expression (labelled PCA Baseline)": ("counts", "knn, Euclidean"),
    "ANOVA+PCA+Leiden+local LR": ("counts", "clusterwise"),
}


@cache
def _read(name: str) -> pd.DataFrame:
    with files(__package__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def table(name: str) -> pd.DataFrame:
    """Read a table of published numbers.

    Parameters
    ----------
    name
        One of `TABLES`.

    Returns
    -------
    DataFrame
        One row per number, or per claim; every table has a column that names its source, except
        ``best_layers``, which is derived from ``layers``.

    Raises
    ------
    InputError
        When there is no such table.

    Examples
    --------
    >>> sorted(table("layers")["model"].unique())
    ['Tahoe-x1-1b', 'scFoundation']
    """
    if name not in TABLES:
        raise unknown("published table", name, TABLES)
    return _read(name).copy()


def counterpart(method: str) -> tuple[str, str]:
    """Representation and head that a published method has here; both empty where it has none.

    The papers count blocks from 0; here layer 0 is the embedding, and their block 0 gives layer 1.

    Examples
    --------
    >>> counterpart("scTOP")
    ('rank', 'projection')
    >>> counterpart("scFoundation layer 3")
    ('layer:scfoundation/4', '')
    """
    model, _, block = method.partition(" layer ")
    if block.isdigit():
        return f"layer:{model.lower()}/{int(block) + 1}", ""
    return METHODS.get(method, ("", ""))


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, *, on: Sequence[str]) -> pd.DataFrame:
    """Rows of ours that a published number stands beside, with it in a column ``published``.

    Parameters
    ----------
    ours, theirs
        Rows of `sclin.results`.
    on
        Columns in which both must agree; ``theirs`` has one row for each of their values.
    """
    named = theirs.set_index(list(on))["value"].rename("published")
    return ours.merge(named, left_on=list(on), right_index=True, validate="many_to_one")


def at_depth(ours: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Rows of blocks with a published curve, read at the depth of each, in ``published``.

    Depth runs from the first block to the last; between two published blocks a line is drawn.
    The embedding and ``final`` are left out, since the papers have no number of theirs.
    A column ``block`` says which of how many blocks a row is of.

    Parameters
    ----------
    ours
        Rows of `sclin.results` with ``model`` and ``layer``.
    curve
        Rows of one model, dataset and metric of the table ``layers``.
    """
    blocks = ours[ours["layer"].str.isdigit() & ours["layer"].ne("0")]
    block = blocks["layer"].astype(int)
    last = block.groupby(blocks["model"]).transform("max")
    known = curve.sort_values("relative_depth")
    read = np.interp((block - 1) / (last - 1), known["relative_depth"], known["value"])
    return blocks.assign(published=read, block=block.astype(str) + " of " + last.astype(str))
