"""Gene ids: versions stripped, ids mapped, duplicates summed, losses counted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.errors import InputError

__all__ = ["id_kind", "map_genes", "strip_versions", "sum_duplicates"]

# ENSG00000141510.18, ENSMUSG..., ENSMMUG...: species letters, type of feature, 11 digits.
_ENSEMBL = re.compile(r"^(ENS[A-Z]*[GTP]\d{11})(\.\d+)?(_PAR_Y)?$")


def strip_versions(ids: Sequence[str]) -> list[str]:
    """Drop the version of Ensembl ids and leave everything else alone.

    Examples
    --------
    >>> strip_versions(["ENSG00000141510.18", "RP11-34P13.7"])
    ['ENSG00000141510', 'RP11-34P13.7']
    """
    matches = ((str(name), _ENSEMBL.match(str(name))) for name in ids)
    return [m[1] + (m[3] or "") if m else name for name, m in matches]


def id_kind(ids: Sequence[str]) -> str:
    """Say whether gene ids are ``ensembl``, ``symbol`` or a mixture of both (``mixed``).

    A table of symbols with up to 1 % Ensembl ids, or the reverse, counts as pure: annotations
    name genes without a symbol by their id.

    Examples
    --------
    >>> id_kind(["ENSG00000141510", "ENSG00000012048.23"])
    'ensembl'
    >>> id_kind(["TP53", "ENSG00000012048"])
    'mixed'
    """
    share = np.mean([bool(_ENSEMBL.match(str(name))) for name in ids]) if len(ids) else 0.0
    return "ensembl" if share >= 0.99 else "symbol" if share <= 0.01 else "mixed"


def sum_duplicates(adata: ad.AnnData, names: Sequence[str] | None = None) -> ad.AnnData:
    """Sum the columns that share a name.

    Parameters
    ----------
    adata
        Cells by genes; ``X`` of shape ``(n_cells, n_genes)``.
    names
        New gene names, ``var_names`` by default; an empty name drops its column.

    Returns
    -------
    AnnData
        One column per name, in order of first appearance; ``uns["sclin"]["genes"]`` counts the
        columns summed into others and the columns dropped.
    """
    new = pd.Index(adata.var_names if names is None else names).astype(str)
    if len(new) != adata.n_vars:
        raise InputError(f"{len(new)} gene names were given for {adata.n_vars} columns.")
    keep = np.asarray(new != "")
    codes, unique = pd.factorize(new[keep])
    n_summed, n_dropped = int(keep.sum() - len(unique)), int((~keep).sum())
    first = np.flatnonzero(keep)[np.unique(codes, return_index=True)[1]]
    if n_summed:
        pick = sp.csr_matrix(
            (np.ones(keep.sum(), np.float32), (np.flatnonzero(keep), codes)),
            shape=(adata.n_vars, len(unique)),
        )
        out = ad.AnnData(
            sp.csr_matrix(adata.X @ pick, dtype=np.float32),
            obs=adata.obs.copy(),
            var=adata.var.iloc[first].copy(),
            uns=dict(adata.uns),
            obsm=dict(adata.obsm),
        )
    else:
        out = adata[:, first].copy() if n_dropped else adata.copy()
    out.var_names = pd.Index(unique, dtype=object)
    _count(out, columns_summed=n_summed, columns_dropped=n_dropped)
    return out


def _count(adata: ad.AnnData, **counts: int) -> None:
    said = adata.uns.setdefault("sclin", {})
    genes = said.setdefault("genes", {})
    for key, value in counts.items():
        genes[key] = int(genes.get(key, 0)) + int(value)


def map_genes(adata: ad.AnnData, table: Mapping[str, str], *, unmapped: str = "drop") -> ad.AnnData:
    """Rename genes through a table of ids.

    Parameters
    ----------
    adata
        Cells by genes.
    table
        New name of each old name, Ensembl versions not needed.
    unmapped
        ``"drop"`` leaves genes that the table lacks out, ``"keep"`` keeps their old name.

    Returns
    -------
    AnnData
        Genes that get the same name are summed.
        ``uns["sclin"]["genes"]`` counts genes without a mapping, summed and dropped.

    Raises
    ------
    InputError
        When no gene is in the table, which means that the ids are of another kind.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> cells = ad.AnnData(np.ones((2, 3), dtype="float32"))
    >>> cells.var_names = ["ENSG00000141510.18", "ENSG00000012048", "ENSG00000000000"]
    >>> new = map_genes(cells, {"ENSG00000141510": "TP53", "ENSG00000012048": "BRCA1"})
    >>> list(new.var_names), new.uns["sclin"]["genes"]["columns_dropped"]
    (['TP53', 'BRCA1'], 1)
    """
    if unmapped not in ("drop", "keep"):
        raise InputError(f"unmapped={unmapped!r} is not known; it takes 'drop' or 'keep'.")
    old = strip_versions(list(adata.var_names))
    hits = [table.get(name) for name in old]
    found = sum(hit is not None for hit in hits)
    if not found:
        raise InputError(
            f"None of {adata.n_vars} genes is in the table: the data have {id_kind(old)} ids "
            f"such as {old[0]!r}, the table has {next(iter(table), 'nothing')!r}."
        )
    fallback = old if unmapped == "keep" else [""] * len(old)
    out = sum_duplicates(adata, [hit or spare for hit, spare in zip(hits, fallback, strict=True)])
    _count(out, without_mapping=adata.n_vars - found)
    return out


def check_kind(ids: Sequence[str], where: str) -> str:
    """Return the kind of ids, refusing a mixture."""
    kind = id_kind(ids)
    if kind == "mixed":
        share = float(np.mean([bool(_ENSEMBL.match(str(name))) for name in ids]))
        raise InputError(
            f"{where}: gene ids are mixed ({share:.0%} Ensembl ids, the rest symbols); map them "
            "to one kind first, as with sclin.datasets.genes.map_genes(..., unmapped='keep')."
        )
    return kind


def tidy(adata: ad.AnnData, symbols: Sequence[Any] | None = None) -> ad.AnnData:
    """Strip versions, make gene names unique by summing, and give every gene a symbol."""
    ids = strip_versions(list(adata.var_names))
    if symbols is not None:
        adata.var["symbol"] = np.asarray(symbols, dtype=object)
    elif "symbol" not in adata.var:
        spare = next(
            (c for c in ("feature_name", "gene_name", "gene_symbols") if c in adata.var), None
        )
        adata.var["symbol"] = adata.var[spare].astype(str).to_numpy() if spare else ids
    if ids != list(adata.var_names) or not adata.var_names.is_unique:
        adata = sum_duplicates(adata, ids)
    adata.var.index.name = None
    return adata
