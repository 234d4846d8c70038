"""Resources that are not cells: regulatory networks, gene names, vocabularies of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from sclin.datasets import readers
from sclin.datasets.entries import catalogue
from sclin.datasets.files import fetch, memory, sha256_of
from sclin.errors import DataError

__all__ = ["resource"]


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
    if reader not in _READERS:
        raise DataError(f"{name} is read by sclin.datasets.orthologs(source, target).")
    (path,) = fetch(name, **options)
    return _READERS[reader](path)


def _table(*columns: str, **options: Any) -> Callable[[Path], pd.DataFrame]:
    """Reader of a table of text without a header."""

    def read(path: Path) -> pd.DataFrame:
        table = pd.read_csv(path, header=None, names=columns, dtype=str, na_filter=False, **options)
        if "kind" in table:
            table["kind"] = table["kind"].str.lower()
            order = ["source", "target", "kind"]
            table = table[[*order, *(c for c in columns if c not in order)]]
        return table

    return read


def _dorothea(path: Path) -> pd.DataFrame:
    """R's table of half a million rows takes long to parse, so what came out is kept."""
    return memory().cache(_parse_dorothea, ignore=["path"])(path, sha256_of(path))


def _parse_dorothea(path: Path, sha256: str) -> pd.DataFrame:
    table = next(iter(readers.load_rda(path).values()))
    sign = table["mor"].astype(float).astype(int)  # codespell:ignore mor
    return pd.DataFrame(
        {
            "source": table["tf"].astype(str),
            "target": table["target"].astype(str),
            "kind": sign.map({1: "activation", -1: "repression"}),
            "sign": sign,
            "confidence": table["confidence"].astype(str),
        }
    ).reset_index(drop=True)


def _vocabulary(path: Path) -> list[str]:
    table = pd.read_csv(path, sep="\t", dtype={"gene_name": str}, na_filter=False)
    return list(table.sort_values("index")["gene_name"])


_READERS: dict[str, Callable[[Path], Any]] = {
    "dorothea": _dorothea,
    "trrust": _table("source", "target", "kind", "pmid", sep="\t"),
    "pathway_commons": _table("source", "kind", "target", sep="\t"),
    "gene_names": _table("ensembl", "symbol"),
    "vocabulary": _vocabulary,
    "dictionary": readers.read_dictionary,
}
