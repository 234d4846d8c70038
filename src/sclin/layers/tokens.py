"""From the rows of a count matrix to the tokens of a model, without dense rows."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from numpy.typing import NDArray

from sclin.chunks import lazy
from sclin.errors import DataError, InputError, ModelError, unknown
from sclin.matrices import GENE_COLUMNS, strip_versions, value_kind

__all__ = ["Cells", "GeneMatch", "fingerprints", "genes_of", "match_genes", "open_cells"]

_BLOCK = 2048
_BY_GENCODE = ", by GENCODE v44"


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
    values: NDArray[np.float32] | None
    empty: NDArray[np.bool_]
    cut: NDArray[np.int64]

    @classmethod
    def around(
        cls, ids: NDArray[np.int64], values: NDArray[Any] | None, n: NDArray[np.int64],
        kept: NDArray[np.int64], *, before: Sequence[tuple[int, Any]] = (),
        after: Sequence[tuple[int, Any]] = (),
    ) -> Cells:  # fmt: skip
        """Put special tokens around each cell's genes.

        Parameters
        ----------
        ids, values
            Genes that are kept, of all cells.
        n, kept
            Genes that each cell expresses, and those of them that are kept, ``(n_cells,)``.
        before, after
            Pairs of vocabulary index and value; a value is a number or one number a cell.

        Examples
        --------
        >>> one = np.array([1])
        >>> Cells.around(np.array([5]), None, one, one, before=[(8, 0)], after=[(9, 0)]).ids
        array([8, 5, 9])
        """
        ends, specials = np.cumsum(kept), [*before, *after]
        at = np.array([ends - kept] * len(before) + [ends] * len(after), np.int64).T.ravel()

        def whole(genes: NDArray[Any], part: int) -> NDArray[Any]:
            of_cells = [np.broadcast_to(pair[part], kept.shape) for pair in specials]
            return np.insert(genes, at, np.array(of_cells).T.ravel())

        numbers = None if values is None else whole(values, 1).astype(np.float32)
        return cls(whole(ids, 0), kept + len(specials), numbers, n == 0, n - kept)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First token of each cell, ``(n_cells,)``."""
        return np.cumsum(self.lengths) - self.lengths

    def padded(self, values: NDArray[Any], fill: float, to: int | None = None) -> NDArray[Any]:
        """Values of the tokens, each cell filled up to the longest or to a length."""
        there = np.arange(to or self.lengths.max()) < self.lengths[:, None]
        out = np.full(there.shape, fill, values.dtype)
        out[there] = values
        return out

    def take(self, cells: NDArray[np.int64]) -> Cells:
        """Return the given cells in the given order.

        Examples
        --------
        >>> n = np.array([2, 1])
        >>> both = Cells.around(np.array([5, 6, 7]), None, n, n)
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
    summed
        Columns that share their gene with an earlier column; their counts are added.
    """

    slot: NDArray[np.int64]
    ids: NDArray[np.int64]
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


def gene_names(adata: ad.AnnData, genes: str | None) -> list[str]:
    """Gene ids from a column of ``var``, or ``var_names`` when ``None``."""
    if genes in (None, "var_names"):
        return list(map(str, adata.var_names))
    if genes not in adata.var:
        raise unknown("column of var, for gene ids,", genes, adata.var.columns)
    return list(map(str, adata.var[genes]))


def genes_of(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """A vocabulary without its special tokens: ``<...>``, ``[...]`` and ``unknown``."""
    special = ("<", "[", "unknown")
    return {gene: i for gene, i in vocabulary.items() if not str(gene).startswith(special)}


def match_genes(
    adata: ad.AnnData, vocabulary: Mapping[str, int], *, genes: str | None = None,
    order: str = "data", min_matched: float = 0.1, rename: Mapping[str, str] | None = None,
    model: str = "the model",
) -> GeneMatch:  # fmt: skip
    """Map the columns of an AnnData to a model's vocabulary.

    Parameters
    ----------
    adata
        Cells; ids are sought in ``var_names``, then in the usual columns of ``var``. Where a
        model reads human Ensembl ids and the data hold symbols, GENCODE v44 translates.
    vocabulary
        Vocabulary index of each gene id; special tokens are left out.
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
        When less than `min_matched` of the vocabulary is found; the message shows ids seen and
        ids wanted.
    """
    known, rename = genes_of(vocabulary), rename or {}
    places = [genes] if genes else ["var_names", *(c for c in GENE_COLUMNS if c in adata.var)]
    tried = {place: gene_names(adata, place) for place in places}

    def looked_up(names: list[str]) -> tuple[int, NDArray[np.int64]]:
        names = [rename.get(name.upper(), name) for name in names]
        pairs = zip(names, strip_versions(pd.Index(names)), strict=True)
        index = np.array([known.get(name, known.get(stem, -1)) for name, stem in pairs], np.int64)
        return len(np.unique(index[index >= 0])), index

    found = {place: looked_up(names) for place, names in tried.items()}
    place = max(found, key=lambda place: found[place][0])
    symbols = sum(not name.startswith("ENS") for name in tried[place])
    # Tables that name genes by symbols often keep the ids of those that have none.
    if found[place][0] < min_matched * len(known) or symbols > adata.n_vars / 2:
        tried |= _by_gencode(tried, known)
        found = {place: looked_up(names) for place, names in tried.items()}
    place = max(found, key=lambda place: found[place][0])
    count, index = found[place]
    if count == 0 or count < min_matched * len(known):
        raise ModelError(
            f"Only {count:,} of the {len(known):,} genes of {model} were found in {place} "
            f"({100 * count / max(len(known), 1):.1f} %; {100 * min_matched:g} % are needed).\n"
            f"The data hold ids such as {', '.join(tried[place][:3])}; {model} reads ids such as "
            f"{', '.join(sorted(known)[:3])}.\n"
            "Put those into a column of var and name it with genes=, or lower min_matched for a "
            "small panel."
        )
    if (before := place.removesuffix(_BY_GENCODE)) != place:
        renamed = np.array(tried[place]) != np.array(tried[before])
        print(
            f"GENCODE v44 named {(renamed & (index >= 0)).sum():,} of {adata.n_vars:,} genes for "
            f"{model} by their symbols in {before}."
        )
    present, first = np.unique(index[index >= 0], return_index=True)
    if order == "data":
        present = present[np.argsort(first)]
    slot_of = np.full(max(known.values()) + 1, -1, np.int64)
    slot_of[present] = np.arange(len(present))
    slot = np.where(index >= 0, slot_of[index], -1)
    return GeneMatch(slot, present, int((index >= 0).sum()) - len(present))


def _by_gencode(tried: Mapping[str, list[str]], known: Mapping[str, int]) -> dict[str, list[str]]:
    """Symbols as the Ensembl ids of a human vocabulary, where it has these."""
    if not any(str(gene).startswith("ENSG") for gene in known):
        return {}
    from sclin import datasets

    with contextlib.suppress(DataError):
        table = datasets.resource("gencode_v44").query("ensembl in @known")
        ids = dict(zip(table["symbol"], table["ensembl"], strict=True))
        named = {place: [ids.get(n, n) for n in names] for place, names in tried.items()}
        return {place + _BY_GENCODE: names for place, names in named.items()}
    return {}


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
        When a sample of rows looks like the other kind or is negative.
    InputError
        When it is not finite.
    """
    where = "X" if layer is None else f"layers[{layer!r}]"
    rows = np.unique(np.linspace(0, adata.n_obs - 1, min(adata.n_obs, 64)).astype(int))
    sample = sp.vstack([read_rows(adata, i, i + 1, layer=layer) for i in rows], format="csr")
    data, kind = sample.data, value_kind(sample)
    said = adata.uns.get("sclin", {}).get("values") if layer is None else None
    if kind == "unclear":
        kind = "linear" if said in ("linear", "tpm", "fpkm") else "log"
    remedy = f"{model} reads {'log1p values' if wanted == 'log' else 'counts'}; name them: layer=."
    if kind == "not finite":
        raise InputError(f"{where} holds values that are not finite.")
    if kind in ("scaled", "negative"):
        raise ModelError(f"{where} holds negative values (lowest {data.min():.3g}). {remedy}")
    if wanted == "counts" and said not in (None, "counts", "log"):
        raise ModelError(
            f"{where} holds {str(said).upper()}: {model} reads raw counts, whose total is part of "
            "its input. Models that read ranks, such as geneformer and tiny, take such values."
        )
    if wanted == "log" and data.any() and not kind.startswith("log"):
        raise ModelError(f"{where} looks like counts (highest {data.max():.3g}). {remedy}")
    if wanted != "log" and (kind.startswith("log") or said == "log"):
        raise ModelError(f"{where} looks like log values (highest {data.max():.3g}). {remedy}")


def open_cells(cells: ad.AnnData | str | Path) -> ad.AnnData:
    """Open cells without reading the matrix: an AnnData, an .h5ad file or a .zarr folder.

    Raises
    ------
    DataError
        When the file is missing, not readable, or stored by column (CSC).
    """
    if isinstance(cells, ad.AnnData):
        adata = lazy(cells) if hasattr(cells.X, "dask") else cells
    else:
        path = Path(cells)
        if not path.exists():
            raise DataError(f"There is no {path}. Give an .h5ad file or a .zarr folder.")
        try:
            adata = _open_zarr(path) if path.is_dir() else ad.read_h5ad(path, backed="r")
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a readable AnnData file: {error}") from error
    if getattr(adata.X, "format", None) == "csc" and not sp.issparse(adata.X):
        raise DataError(
            "X is stored by column (CSC) on disk, so reading cells would read all of it for each "
            "window. Write it once as CSR: adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
        )
    return adata


def _open_zarr(path: Path) -> ad.AnnData:
    group = zarr.open_group(str(path), mode="r")
    parts = {key: ad.io.read_elem(group[key]) for key in ("obs", "var", "uns") if key in group}
    adata, matrix = ad.AnnData(**parts), group["X"]
    adata.X = ad.io.sparse_dataset(matrix) if isinstance(matrix, zarr.Group) else matrix
    return adata


def read_rows(
    adata: ad.AnnData, start: int, stop: int, *, layer: str | None = None
) -> sp.csr_matrix:
    """Read a range of cells as CSR, ``(stop - start, n_genes)``, wherever they are."""
    matrix = adata.X if layer is None else adata.layers.get(layer)
    if matrix is None:
        what = "X is empty" if layer is None else f"There is no layer {layer!r}"
        raise InputError(f"{what}; the AnnData has layers {list(adata.layers)}.")
    rows = matrix[start:stop]
    return sp.csr_matrix(rows.compute() if hasattr(rows, "dask") else rows)


def fingerprints(
    adata: ad.AnnData, *, layer: str | None = None, genes: str | None = None
) -> NDArray[np.uint64]:
    """One number a cell from the names of all genes and the cell's counts, ``(n_cells,)``.

    The sum of a hash of each gene's name and of each pair of expressed gene and count, so the
    order of the genes and the way the matrix is stored do not matter, and all else does.

    Examples
    --------
    >>> cells = ad.AnnData(np.eye(2, dtype="float32"))
    >>> bool((fingerprints(cells) == fingerprints(cells[:, ::-1])).all())
    True
    """
    named = pd.util.hash_array(np.array(gene_names(adata, genes), dtype=object))
    out = np.empty(adata.n_obs, np.uint64)
    for start in range(0, adata.n_obs, _BLOCK):
        rows = read_rows(adata, start, start + _BLOCK, layer=layer)
        rows.eliminate_zeros()
        counts = pd.util.hash_array(rows.data.astype(np.float32))
        pairs = pd.util.hash_array(named[rows.indices] ^ counts)
        total = np.concatenate([[np.uint64(0)], np.cumsum(pairs, dtype=np.uint64)])
        out[start : start + _BLOCK] = np.diff(total[rows.indptr]) + named.sum(dtype=np.uint64)
    return out


def dataset_id(adata: ad.AnnData, prints: NDArray[np.uint64]) -> str:
    """Sixteen hexadecimal digits for cell names, gene names and counts, in their order."""
    digest = hashlib.sha256(prints.tobytes())
    for names in (adata.obs_names, adata.var_names):
        digest.update("\n".join(map(str, names)).encode() + b"\0")
    return digest.hexdigest()[:16]


def row_sums(rows: sp.csr_matrix) -> NDArray[np.float64]:
    """Sum of each row in float64, ``(n_cells,)``."""
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def first_of(indptr: NDArray[np.integer], context: int) -> tuple[NDArray[Any], ...]:
    """Genes of each cell, those of its first `context`, and which entries of CSR rows these are.

    Examples
    --------
    >>> first_of(np.array([0, 3, 4]), 2)
    (array([3, 1]), array([2, 1]), array([ True,  True, False,  True]))
    """
    n = np.diff(indptr).astype(np.int64)
    kept = np.minimum(n, context)
    place = np.arange(n.sum()) - np.repeat(indptr[:-1], n)
    return n, kept, place < np.repeat(kept, n)
