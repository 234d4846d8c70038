"""Cross-species transfer: learn cell types in one species, name the cells of another.

Both species are cut to one-to-one orthologs before anything else, joined in one AnnData, and
handed to `sclin.evaluate` with one fold: the cells of one species, the cells of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from sclin import datasets
from sclin.errors import InputError
from sclin.normalization import rank_normalize
from sclin.projection import CentroidProjection
from sclin.representations import labels
from sclin.statistics import Interval, bootstrap

#: Function of two species that returns their ortholog pairs: columns source, target and kind.
Orthologs: TypeAlias = Callable[[str, str], pd.DataFrame]


class Transfer(NamedTuple):
    """One species learnt from, another named, and what `sclin.evaluate` needs for that."""

    source: str
    target: str
    cells: AnnData
    fold: tuple[NDArray[np.intp], NDArray[np.intp]]

    def __str__(self) -> str:
        return f"{self.source} to {self.target}"


# Orthologs -------------------------------------------------------------------------------------


def read_orthologs(folder: str | Path) -> Orthologs:
    """Ortholog tables of your own, one file a pair of species.

    Parameters
    ----------
    folder
        Holds ``human_mouse.csv`` and the like: columns ``source`` (genes of the first species),
        ``target`` and ``kind``; Ensembl's ``ortholog_one2one`` is read as ``one2one``.
        A file serves both directions.

    Returns
    -------
    callable
        Function of two species that returns their table.

    Raises
    ------
    InputError
        By the function, when there is no file of the two species, or it lacks a column.
    """

    def pairs(source: str, target: str) -> pd.DataFrame:
        files = [Path(folder) / f"{a}_{b}.csv" for a, b in permutations((source, target))]
        found = next((file for file in files if file.exists()), None)
        if found is None:
            raise InputError(
                f"There is no ortholog table for {source} to {target}: neither {files[0].name} nor "
                f"{files[1].name} lies in {str(folder)!r}. Export it from Ensembl BioMart, with "
                "the columns source, target and kind."
            )
        table = pd.read_csv(found, dtype=str)
        if missing := {"source", "target", "kind"} - set(table):
            raise InputError(f"{found.name} lacks columns {sorted(missing)}; it has {list(table)}.")
        table["kind"] = table["kind"].str.removeprefix("ortholog_")
        swapped = {"source": "target", "target": "source"} if found == files[1] else {}
        return table.rename(columns=swapped)

    return pairs


def one_to_one(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of kind ``one2one`` whose genes occur once on each side."""
    pairs = pairs[pairs["kind"] == "one2one"]
    sides = (pairs["source"], pairs["target"])
    return pairs[~sides[0].duplicated(keep=False) & ~sides[1].duplicated(keep=False)]


def first_partners(pairs: pd.DataFrame) -> pd.DataFrame:
    """As published: pairs of any kind, and of each gene the partner that comes first."""
    return pairs.drop_duplicates("target").drop_duplicates("source")


def load_species(entries: Sequence[str], label: str) -> dict[str, AnnData]:
    """Load two species or more.

    Parameters
    ----------
    entries
        Name of a species and its dataset, such as ``"human baron_human"``.
    label
        Column of ``obs`` that all must have.

    Raises
    ------
    InputError
        An entry is no pair, there are fewer than two, or the column is missing.
    """
    pairs = [entry.split(maxsplit=1) for entry in entries]
    if len(pairs) < 2 or not all(len(pair) == 2 for pair in pairs):
        raise InputError(
            f"Species are {list(entries)}, but two or more are needed, each with its dataset, "
            "such as 'human baron_human'."
        )
    found = {name: datasets.load(data) for name, data in pairs}
    for cells in found.values():
        labels(cells[:0], label)  # names the nearest column when there is none
    return found


def align_species(
    species: Mapping[str, AnnData],
    orthologs: Orthologs,
    *,
    choose: Callable[[pd.DataFrame], pd.DataFrame] = one_to_one,
) -> dict[str, AnnData]:
    """Cut species to the genes with an ortholog in all, under the names of the first species.

    Do this before ranking: a rank depends on which other genes are ranked.

    Parameters
    ----------
    species
        Cells by species, own gene ids in ``var_names``.
    orthologs
        Function of two species that returns their pairs: columns source, target and kind.
    choose
        Which of the pairs count: `one_to_one` or `first_partners`.

    Returns
    -------
    dict
        AnnData by species, the same genes in the order of the first.

    Raises
    ------
    InputError
        A species is alone, or no gene is measured in all.
    """
    if len(species) < 2:
        raise InputError(f"Transfer needs two species or more; got {list(species)}.")
    first, *others = species
    common = species[first].var_names
    names = {first: pd.Series(common, common)}
    for name in others:
        pairs = orthologs(first, name)
        pairs = choose(pairs[pairs["target"].isin(species[name].var_names)])
        names[name] = pairs.set_index("source")["target"]
        if not common.isin(names[name].index).any():
            raise InputError(
                f"No ortholog of {first} is measured in {name}: the table has pairs like "
                f"{pairs.head(2)[['source', 'target']].to_numpy().tolist()}, {first} has genes "
                f"like {species[first].var_names[:2].tolist()}, {name} like "
                f"{species[name].var_names[:2].tolist()}. Use one kind of gene id in all."
            )
        common = common[common.isin(names[name].index)]
    aligned = {name: cells[:, names[name].loc[common]].copy() for name, cells in species.items()}
    for cells in aligned.values():
        cells.var_names = common
    return aligned


# Pairs of species ------------------------------------------------------------------------------


def transfers(
    species: Mapping[str, AnnData],
    orthologs: Orthologs,
    label: str,
    *,
    types: str = "shared",
    min_cells: int = 20,
) -> Iterator[Transfer]:
    """Every pair of species, both ways, cut to their one-to-one orthologs and joined.

    Parameters
    ----------
    species, orthologs
        See `align_species`.
    label
        Column of ``obs``, one vocabulary for all species.
    types
        ``shared``: types with enough cells on both sides, one list for both directions.
        ``all``: every type of the source with enough cells is learnt, every target cell named.
    min_cells
        Smallest type.

    Yields
    ------
    Transfer
        For ``sclin.evaluate(t.cells, label, cv=[t.fold], dataset=str(t))``.

    Raises
    ------
    InputError
        Two species share no gene or fewer than two types.
    """
    for pair in combinations(species, 2):
        aligned = align_species({name: species[name] for name in pair}, orthologs)
        cells = anndata.concat(aligned, label="species", index_unique=" ", uns_merge="same")
        y, of = labels(cells, label), cells.obs["species"].to_numpy()
        sizes = {name: Counter(y[of == name]) for name in pair}
        large = {a: {kind for kind, n in sizes[a].items() if n >= min_cells} for a in pair}
        for source, target in (pair, pair[::-1]):
            learnt = large[source] & large[target] if types == "shared" else large[source]
            if len(learnt) < 2:
                raise InputError(
                    f"{source} and {target} share {len(learnt)} types with {min_cells} cells or "
                    f"more: {sorted(sizes[source])} against "
                    f"{sorted(sizes[target])}. Give both one vocabulary in "
                    f"{label!r}, or lower min_cells."
                )
            known = np.isin(y, list(learnt))
            train = np.flatnonzero((of == source) & known)
            test = np.flatnonzero((of == target) & (known if types == "shared" else True))
            yield Transfer(source, target, cells, (train, test))


def off_diagonal_mean(matrix: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> Interval:
    """Mean over true transfers, with a bootstrap interval over species.

    Parameters
    ----------
    matrix
        Square, species by species.
    n_boot, seed
        Resamples of the species, and seed. A resample drops pairs of a species with itself.

    Returns
    -------
    Interval
        ``n`` is the number of species; the interval is missing for two.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.5, 0.4], [0.6, 1.0, 0.5], [0.4, 0.6, 1.0]])
    >>> off_diagonal_mean(table).value
    0.5
    """
    values = matrix.to_numpy(dtype=float)

    def mean(chosen: NDArray[np.intp]) -> float:
        pairs = values[np.ix_(chosen, chosen)][chosen[:, None] != chosen[None, :]]
        return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else np.nan

    found = bootstrap(mean, np.arange(len(values)), n_boot=n_boot, seed=seed)
    return found if len(values) > 2 else found._replace(low=np.nan, high=np.nan)


# As published ----------------------------------------------------------------------------------


class PublishedProjection(ClassifierMixin, BaseEstimator):
    """The flaw of the reference code: a basis on genes that the target is not ranked on.

    Class averages are ranked over all genes of the source, and cut to the shared genes without
    being ranked anew; cells of the target are ranked over their own orthologs.

    Parameters
    ----------
    source_genes, target_genes
        Which columns each side has, shape ``(n_genes,)``.
    """

    def __init__(self, source_genes: NDArray[np.bool_], target_genes: NDArray[np.bool_]) -> None:
        self.source_genes = source_genes
        self.target_genes = target_genes

    def fit(self, X: Any, y: ArrayLike) -> PublishedProjection:
        """Average and rank the classes of the source."""
        basis = CentroidProjection().fit(X[:, np.flatnonzero(self.source_genes)], y)
        self.classes_ = basis.classes_
        self.projector_ = np.linalg.pinv(basis.basis_[self.target_genes[self.source_genes]])
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Name cells of the target."""
        ranks = rank_normalize(X[:, np.flatnonzero(self.target_genes)])
        coefficients = ranks[:, self.source_genes[self.target_genes]] @ self.projector_.T
        return self.classes_[coefficients.argmax(axis=1)]
