"""From the rows of a count matrix to the tokens of a model, without dense rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sclin.errors import DataError, InputError, ModelError

__all__ = [
    "Cells",
    "GeneMatch",
    "check_values",
    "dataset_id",
    "gene_id_kind",
    "match_genes",
    "open_cells",
    "read_rows",
]

_KINDS = (
    ("human Ensembl gene ids", re.compile(r"ENSG\d{11}(\.\d+)?$")),
    ("Ensembl gene ids of another species", re.compile(r"ENS[A-Z]{3,4}G\d{11}(\.\d+)?$")),
    ("Ensembl transcript or protein ids", re.compile(r"ENS[A-Z]*[TP]\d{11}(\.\d+)?$")),
    ("RefSeq accessions", re.compile(r"[NX][MRP]_\d+(\.\d+)?$")),
    ("numbers (Entrez ids or row numbers)", re.compile(r"\d+(\.0)?$")),
    ("gene symbols", re.compile(r"[A-Za-z][A-Za-z0-9@_.\-/]*$")),
)
_COLUMNS = ("ensembl_id", "gene_ids", "gene_id", "feature_id", "symbol", "gene_name")


@dataclass
class Cells:
    """Tokens of several cells, one cell after the other.

    Attributes
    ----------
    ids
        Vocabulary index of each token, ``(n_tokens,)``.
    lengths
        Tokens of each cell, special tokens included, ``(n_cells,)``.
    values
        What the model reads beside the gene, ``(n_tokens,)``, or ``None``.
    empty
        Cells without one expressed gene of the vocabulary, ``(n_cells,)``.
    cut
        Genes that did not fit the context, ``(n_cells,)``.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[np.float32] | None = None
    empty: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    cut: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not self.empty.size:
            self.empty = np.zeros(len(self.lengths), bool)
        if not self.cut.size:
            self.cut = np.zeros(len(self.lengths), np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First token of each cell, ``(n_cells,)``."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, cells: NDArray[np.int64]) -> Cells:
        """Return the given cells in the given order.

        Examples
        --------
        >>> both = Cells(ids=np.array([5, 6, 7]), lengths=np.array([2, 1]))
        >>> both.take(np.array([1, 0])).ids
        array([7, 5, 6])
        """
        lengths = self.lengths[cells]
        first = np.cumsum(lengths) - lengths
        token = np.arange(lengths.sum()) + np.repeat(self.starts[cells] - first, lengths)
        values = None if self.values is None else self.values[token]
        return Cells(self.ids[token], lengths, values, self.empty[cells], self.cut[cells])


@dataclass(frozen=True)
class GeneMatch:
    """How the columns of a matrix map to a vocabulary.

    Attributes
    ----------
    slot
        Slot of each column, -1 for a gene outside the vocabulary, ``(n_columns,)``.
    ids
        Vocabulary index of each slot, ``(n_slots,)``.
    source
        Where the gene ids were found: ``var_names`` or ``var["COLUMN"]``.
    summed
        Columns that share their gene with an earlier column; their counts are added.
    """

    slot: NDArray[np.int64]
    ids: NDArray[np.int64]
    source: str
    summed: int

    def restrict(self, rows: sp.csr_matrix) -> sp.csr_matrix:
        """Keep the matched genes: ``(n_cells, n_slots)``, sorted, without stored zeros."""
        slot = self.slot[rows.indices]
        keep = (slot >= 0) & (rows.data != 0)
        ends = np.concatenate([[0], np.cumsum(keep)])[rows.indptr]
        shape = (rows.shape[0], len(self.ids))
        out = sp.csr_matrix((rows.data[keep], slot[keep], ends), shape=shape)
        if self.summed:
            out.sum_duplicates()
        out.sort_indices()
        return out


def gene_id_kind(names: Iterable[str]) -> str:
    """Say in words what kind of gene ids these are.

    Examples
    --------
    >>> gene_id_kind(["ENSG00000141510", "ENSG00000012048.23"])
    'human Ensembl gene ids'
    >>> gene_id_kind(["TP53", "BRCA1", "HLA-A"])
    'gene symbols'
    """
    sample = [str(name) for name in list(names)[:2000]]
    if not sample:
        return "no gene ids"
    counts = {kind: 0 for kind, _ in _KINDS}
    for name in sample:
        for kind, pattern in _KINDS:
            if pattern.match(name):
                counts[kind] += 1
                break
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] > len(sample) / 2 else "ids of no known kind"


def match_genes(
    adata: ad.AnnData,
    vocabulary: Mapping[str, int],
    *,
    genes: str | None = None,
    order: str = "data",
    min_matched: float = 0.1,
    rename: Mapping[str, str] | None = None,
    model: str = "the model",
) -> GeneMatch:
    """Map the columns of an AnnData to a model's vocabulary.

    Parameters
    ----------
    adata
        Cells; ids are sought in ``var_names``, then in the usual columns of ``var``.
    vocabulary
        Vocabulary index of each gene id; special tokens (``<...>``) are ignored.
    genes
        Column of ``var`` that holds the ids; the best matching place when ``None``.
    order
        ``"data"``: slots follow the columns; ``"vocabulary"``: they follow the vocabulary.
    min_matched
        Least part of the vocabulary that the data must hold, 0 to 1.
    rename
        Aliases of gene ids, applied first.
    model
        Name used in messages.

    Raises
    ------
    ModelError
        When less than `min_matched` of the vocabulary is found; the message names the kind of
        ids seen and the kind wanted.
    """
    known = {gene: i for gene, i in vocabulary.items() if not str(gene).startswith("<")}
    if genes is not None and genes != "var_names" and genes not in adata.var:
        raise InputError(
            f"var has no column {genes!r} to read gene ids from; it has {list(adata.var.columns)}."
        )
    places = [genes] if genes else ["var_names", *(c for c in _COLUMNS if c in adata.var)]
    best: tuple[int, str, list[str], NDArray[np.int64]] | None = None
    for place in places:
        values = adata.var_names if place == "var_names" else adata.var[place]
        names = [str(value) for value in values]
        if rename:
            names = [rename.get(name.upper(), name) for name in names]
        index = np.array([known.get(name, -1) for name in names], dtype=np.int64)
        missed = np.flatnonzero(index < 0)
        for column in missed:
            stem, dot, version = names[column].rpartition(".")
            if dot and version.isdigit() and stem.startswith("ENS"):
                index[column] = known.get(stem, -1)
        found = len(np.unique(index[index >= 0]))
        if best is None or found > best[0]:
            best = (found, place, names, index)
    if best is None:
        raise InputError("The AnnData has no genes.")
    found, place, names, index = best
    source = place if place == "var_names" else f'var["{place}"]'
    if found == 0 or found < min_matched * len(known):
        wanted = gene_id_kind(known)
        raise ModelError(
            f"Only {found:,} of the {len(known):,} genes of {model} were found in {source} "
            f"({100 * found / max(len(known), 1):.1f} %; {100 * min_matched:g} % are needed). "
            f"The data hold {gene_id_kind(names)} such as {', '.join(names[:3])}; "
            f"the model reads {wanted} such as {', '.join(sorted(known)[:3])}. "
            "Put those ids into a column of var and name it with genes=, or lower min_matched "
            "for a small panel."
        )
    present, first = np.unique(index[index >= 0], return_index=True)
    if order == "data":
        present = present[np.argsort(first)]
    slot_of = np.full(int(max(known.values())) + 1, -1, np.int64)
    slot_of[present] = np.arange(len(present))
    slot = np.where(index >= 0, slot_of[index], -1)
    return GeneMatch(slot, present, source, int((index >= 0).sum()) - len(present))


def _sample_rows(n: int, size: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, size)).astype(int))


def check_values(
    adata: ad.AnnData, *, wanted: str, layer: str | None = None, model: str = "the model"
) -> None:
    """Refuse values of another kind than a model reads.

    Parameters
    ----------
    adata
        Cells.
    wanted
        ``"counts"``; ``"amounts"`` (counts, FPKM or TPM: only the order in a cell matters);
        or ``"log"``.
    layer
        Layer to look at; ``X`` when ``None``.
    model
        Name used in messages.

    Raises
    ------
    ModelError
        When a sample of rows looks like the other kind, is negative or is not finite.
    """
    where = "X" if layer is None else f"layers[{layer!r}]"
    rows = _sample_rows(adata.n_obs, 64)
    data = np.concatenate([read_rows(adata, i, i + 1, layer=layer).data for i in rows] or [[]])
    data = data[data != 0]
    if not np.isfinite(data).all():
        raise ModelError(f"{where} holds values that are not finite: clean it before {model} runs.")
    if data.size == 0:
        return
    low, high = float(data.min()), float(data.max())
    if low < 0:
        raise ModelError(
            f"{where} holds negative values (lowest {low:.3g}), so it was scaled or corrected: "
            f"{model} needs {'log1p values' if wanted == 'log' else 'raw counts'}. "
            "Name the layer that holds them with layer=."
        )
    whole = bool((data == np.round(data)).all())
    said = adata.uns.get("sclin", {}).get("values") if layer is None else None
    looks_log = (not whole and high < 20) or said == "log"
    if wanted == "counts" and said not in (None, "counts", "log"):
        raise ModelError(
            f"{where} holds {str(said).upper()}: {model} reads raw counts, whose total is part of "
            "its input. Models that read ranks, such as geneformer and tiny, take such values."
        )
    if wanted != "log" and looks_log:
        raise ModelError(
            f"{where} looks like log values (fractions, highest {high:.3g}): {model} needs raw "
            "counts. Name the layer that holds the counts with layer=, or take a model option "
            "made for log values, such as values='log' of scFoundation."
        )
    if wanted == "log" and (whole or high >= 20):
        raise ModelError(
            f"{where} looks like counts (highest {high:.3g}"
            f"{', whole numbers' if whole else ''}): log1p values of counts per 10,000 were "
            "asked for. Drop the option, so that counts are read, or name the layer with layer=."
        )


def open_cells(cells: ad.AnnData | str | Path) -> ad.AnnData:
    """Open cells without reading the matrix: an AnnData, an .h5ad file or a .zarr folder.

    Raises
    ------
    DataError
        When the file is missing, not readable, or stored by column (CSC).
    """
    if isinstance(cells, ad.AnnData):
        adata = cells
    else:
        path = Path(cells)
        if not path.exists():
            raise DataError(f"There is no {path}. Give an .h5ad file or a .zarr folder.")
        try:
            if path.suffix == ".zarr" or path.is_dir():
                import zarr

                group = zarr.open_group(str(path), mode="r")
                matrix = group["X"]
                lazy = (
                    ad.io.sparse_dataset(matrix)
                    if isinstance(matrix, zarr.Group)
                    else ad.io.read_elem(matrix)
                )
                adata = ad.AnnData(
                    obs=ad.io.read_elem(group["obs"]), var=ad.io.read_elem(group["var"])
                )
                adata.X = lazy
                if "uns" in group:
                    adata.uns = ad.io.read_elem(group["uns"])
            else:
                adata = ad.read_h5ad(path, backed="r")
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a readable AnnData file: {error}") from error
    if getattr(adata.X, "format", None) == "csc" and not sp.issparse(adata.X):
        raise DataError(
            "X is stored by column (CSC) on disk, so reading cells would read all of it for each "
            "window. Write it once as CSR: adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
        )
    return adata


def read_rows(
    adata: ad.AnnData, start: int, stop: int, *, layer: str | None = None
) -> sp.csr_matrix:
    """Read a range of cells as CSR, ``(stop - start, n_genes)``, from memory or from disk."""
    matrix = adata.X if layer is None else adata.layers.get(layer)
    if matrix is None:
        what = "X is empty" if layer is None else f"There is no layer {layer!r}"
        raise InputError(f"{what}; the AnnData has layers {list(adata.layers)}.")
    return sp.csr_matrix(matrix[start:stop])


def dataset_id(adata: ad.AnnData, *, layer: str | None = None) -> str:
    """Fingerprint of a data set: cell and gene names, and 64 rows spread over the matrix.

    Returns
    -------
    str
        Sixteen hexadecimal digits; the same cells in the same order give the same.
    """
    digest = hashlib.sha256(f"{adata.shape}".encode())
    for names in (adata.obs_names, adata.var_names):
        digest.update("\n".join(map(str, names)).encode())
    for i in _sample_rows(adata.n_obs, 64):
        for part in row_bytes(read_rows(adata, i, i + 1, layer=layer))[0]:
            digest.update(part)
    return digest.hexdigest()[:16]


def row_bytes(rows: sp.csr_matrix) -> list[tuple[bytes, bytes]]:
    """Columns and values of each cell as bytes, the same however the matrix is stored."""
    rows.eliminate_zeros()
    rows.sort_indices()
    index, data = rows.indices.astype("<i8"), rows.data.astype("<f4")
    return [(index[a:b].tobytes(), data[a:b].tobytes()) for a, b in pairwise(rows.indptr)]


def row_sums(rows: sp.csr_matrix) -> NDArray[np.float64]:
    """Sum of each row in float64, ``(n_cells,)``."""
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def subset_rows(
    rows: sp.csr_matrix, limit: int, choose: Callable[[int, int], NDArray[np.int64]]
) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """Keep at most `limit` entries of each row; `choose(row, n)` gives which, in order."""
    n = np.diff(rows.indptr)
    cut = np.maximum(n - limit, 0)
    if not cut.any():
        return rows, cut
    keep = np.ones(rows.nnz, bool)
    for i in np.flatnonzero(cut):
        inside = np.zeros(n[i], bool)
        inside[choose(int(i), int(n[i]))] = True
        keep[rows.indptr[i] : rows.indptr[i + 1]] = inside
    ends = np.concatenate([[0], np.cumsum(keep)])[rows.indptr]
    return sp.csr_matrix((rows.data[keep], rows.indices[keep], ends), shape=rows.shape), cut


def cell_seed(cell: str, seed: int) -> int:
    """Seed of one cell: the same for the same id and seed, wherever the cell stands."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{cell}".encode()).digest()[:8], "little")


def with_specials(
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    values: NDArray[Any] | None,
    *,
    before: Sequence[tuple[int, Any]] = (),
    after: Sequence[tuple[int, Any]] = (),
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32] | None]:
    """Put special tokens around each cell's genes.

    Parameters
    ----------
    ids, lengths, values
        Genes of all cells, as in `Cells`.
    before, after
        Pairs of vocabulary index and value; a value is a number or one number a cell.

    Returns
    -------
    tuple
        New ids, lengths and values.
    """
    extra = len(before) + len(after)
    total = lengths + extra
    first = np.cumsum(total) - total
    out = np.empty(total.sum(), np.int64)
    inside = np.arange(lengths.sum()) + np.repeat(
        first + len(before) - (np.cumsum(lengths) - lengths), lengths
    )
    out[inside] = ids
    numbers = None
    if values is not None:
        numbers = np.empty(total.sum(), np.float32)
        numbers[inside] = values
    for place, (token, value) in [
        *((first + i, pair) for i, pair in enumerate(before)),
        *((first + total - len(after) + i, pair) for i, pair in enumerate(after)),
    ]:
        out[place] = token
        if numbers is not None:
            numbers[place] = value
    return out, total, numbers
