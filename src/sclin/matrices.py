"""Which matrix of an AnnData is read, and which values it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.utils import make_index_unique

from sclin.errors import InputError, unknown

__all__ = ["as_csr", "strip_versions", "take", "value_kind"]

#: What ``values=`` can be.
VALUES = ("counts", "log", "linear")
# Names that layers of counts carry, in the order in which they are tried; the decontX ones follow.
COUNT_LAYERS = ("counts", "raw_counts", "raw", "spliced")
# Whole numbers that are a part of the molecules, or none at all.
_OTHER = re.compile(r"^counts\.|unspliced|ambiguous|spanning|nascent|binned|rank", re.IGNORECASE)
# Columns of var that may hold the names of genes that are only numbered.
_NAMES = ("features", "feature_name", "gene_symbols", "gene_name", "symbol", "gene_ids", "_index")

# From each scale back to amounts that add up; the natural log comes first.
_AMOUNTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.expm1,
    "log2": lambda x: np.expm1(x * _LN["log2"]),
    "log10": lambda x: np.expm1(x * _LN["log10"]),
    "linear": np.positive,
    "square root": np.square,
}
_LN = {"log2": float(np.log(2)), "log10": float(np.log(10))}
_MOST_LOG = 20  # e to the 20 is more molecules than a cell holds, 2 to the 20 a million
# Scales that become another one when they are taken; what ``values=`` may say of a kind.
_BECOMES = {
    "log2": "log",
    "log10": "log",
    "square root": "linear",
    "tpm": "linear",
    "fpkm": "linear",
}
_POSSIBLE = {
    "counts": ("binary",),
    "log": ("unclear",),
    "linear": ("unclear", "counts", "square root", "log", "log2", "log10"),
}
_OTHER_MATRIX = "Name a matrix of counts or log values with --layer (layer= in Python)"
_MEND = "Mend this value, or leave the cell or gene out"
# What cannot be read, in words, and the remedy.
_REFUSED = {
    "scaled": ("scaled (centred, or of unit variance)", _OTHER_MATRIX),
    "binary": ("binary (only 0 and 1)", "If these are counts, say --values counts (values=)"),
    "text": ("text, not numbers", _OTHER_MATRIX),
    "empty": ("empty (only zeros)", _OTHER_MATRIX),
    "unclear": (
        "with fractions that can be log or linear values",
        "Say which: --values log or --values linear (values= in Python)",
    ),
    "not finite": ("not finite", _MEND),
    "negative": ("negative", _MEND),
}


# Values -----------------------------------------------------------------------------------------
def _blocks(X: Any, size: int = 2**22) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Cells a few at a time: the number of the first one, and CSR without stored zeros."""
    X = X.tocsr() if sp.issparse(X) else X
    stored = X.nnz if sp.issparse(X) else X.size
    step = max(1, size * X.shape[0] // max(1, stored))
    for start in range(0, X.shape[0], step):
        yield start, _without_zeros(sp.csr_matrix(X[start : start + step]))


def _per_cell(block: sp.csr_matrix, data: np.ndarray, how: np.ufunc = np.add) -> np.ndarray:
    """Reduce the stored values of each cell; a cell without any gives 0."""
    out, filled = np.zeros(block.shape[0]), np.diff(block.indptr) > 0
    if filled.any():
        out[filled] = how.reduceat(data, block.indptr[:-1][filled])
    return out


def value_kind(X: Any) -> str:
    """Say what a matrix holds; every value is looked at.

    Parameters
    ----------
    X
        Matrix, shape ``(n_cells, n_genes)``.

    Returns
    -------
    str
        ``counts``: whole numbers, none below zero, not only 0 and 1 (``binary``).
        ``scaled``: values below zero in most cells, or a variance of one for most genes.
        ``text``, ``empty``, ``not finite``, and ``negative``, which is values below zero among
        whole numbers or in a few cells.
        Values with fractions are told apart by their amounts: back from the scale, either all
        cells have one total, or the amounts of a cell are whole multiples of its smallest, as
        counts times a factor are. ``log``, ``log2``, ``log10``, ``linear`` and ``square root``
        are tried.
        What fits none of them is ``linear`` above 20, where no log of molecules lies, else
        ``unclear``. So are cells of which some are on one scale and some on another.

    Examples
    --------
    >>> import numpy as np
    >>> value_kind(np.array([[0.0, 3.0], [1.0, 0.0]]))
    'counts'
    >>> value_kind(np.array([[0.0, 0.7], [1.4, 0.0]]))
    'unclear'
    """
    if np.dtype(X.dtype).kind not in "biuf":
        return "text"
    parts = [
        [
            _per_cell(block, block.data, np.minimum),
            _per_cell(block, block.data, np.maximum),
            _per_cell(block, block.data != np.rint(block.data)),
        ]
        for _, block in _blocks(X)
    ]
    low, high, fractions = np.hstack(parts) if parts else np.zeros((3, 0))
    if not np.isfinite([low, high]).all():
        return "not finite"
    if not (low.any() or high.any()):
        return "empty"
    if (low < 0).any():
        return "negative" if not fractions.any() or np.mean(low < 0) < 0.5 else "scaled"
    if not fractions.any():
        return "counts" if high.max() > 1 else "binary"
    return _scale(X, high, np.flatnonzero(fractions))


def _scale(X: Any, high: np.ndarray, cells: np.ndarray) -> str:
    """Scale of values with fractions, from the cells that have them."""
    totals = {scale: np.zeros(len(high)) for scale in _AMOUNTS}
    sums = np.zeros((2, X.shape[1]))
    for start, block in _blocks(X):
        data = block.data.astype(np.float64)
        for scale, amounts in _AMOUNTS.items():
            capped = np.minimum(data, _MOST_LOG) if scale.startswith("log") else data
            totals[scale][start : start + block.shape[0]] = _per_cell(block, amounts(capped))
        sums += [np.bincount(block.indices, power, X.shape[1]) for power in (data, data**2)]
    sample = cells[np.linspace(0, len(cells) - 1, min(len(cells), 1000)).astype(int)]
    rows = X.tocsr() if sp.issparse(X) else X
    some = _without_zeros(sp.csr_matrix(rows[sample], dtype=np.float64))
    fits = []
    for scale, amounts in _AMOUNTS.items():
        total = totals[scale][cells]
        equal = len(total) > 1 and np.mean(abs(total / np.median(total) - 1) < 1e-3) > 0.9
        amount = amounts(np.minimum(some.data, 300))
        smallest = np.repeat(_per_cell(some, amount, np.minimum), np.diff(some.indptr))
        told = (amount > 1.5 * smallest) & (amount < 30 * smallest)  # beyond, rounding hides it
        ratio = amount[told] / smallest[told]
        whole = len(ratio) >= 20 and np.mean(abs(ratio - np.rint(ratio)) < 0.02) > 0.9
        fits += [scale] if equal or whole else []
    no_log = high.max() > _MOST_LOG or (np.delete(high, cells) > 0).any()
    if fits and fits[0].startswith("log"):
        return "unclear" if no_log or "linear" in fits else fits[0]
    if fits:
        return fits[0]
    spread = (sums[1] - sums[0] ** 2 / len(high)) / max(1, len(high) - 1)
    if np.mean(abs(spread[sums[0] > 0] - 1) < 0.02) > 0.5:
        return "scaled"
    return "linear" if high.max() > _MOST_LOG else "unclear"


def _culprit(matrix: _Matrix, kind: str, obs_names: pd.Index) -> str:
    """Name the first value that is not finite or is negative, with its cell and gene."""
    for start, block in _blocks(matrix.X):
        bad = ~np.isfinite(block.data) if kind == "not finite" else block.data < 0
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            cell = start + int(np.searchsorted(block.indptr, at, side="right")) - 1
            value = str(block.data[at]).replace("nan", "NaN")
            gene = str(matrix.var.index[block.indices[at]])
            return f"{value} in cell {str(obs_names[cell])!r}, gene {gene!r}"
    return ""


def as_csr(X: Any) -> sp.csr_matrix:
    """CSR float32 without stored zeros; float32 CSR input is neither copied nor changed."""
    out = _without_zeros(sp.csr_matrix(X, dtype=np.float32))
    return out if out.has_sorted_indices else out.sorted_indices()


def _without_zeros(X: sp.csr_matrix) -> sp.csr_matrix:
    if X.data.all():
        return X
    out = X.copy()
    out.eliminate_zeros()
    return out


# Matrix -----------------------------------------------------------------------------------------
class _Notes:
    """What was left out and what to be warned of, after what was said before."""

    def __init__(self, said: dict[str, Any]) -> None:
        earlier = said.get("dropped", pd.DataFrame())
        self.dropped: list[tuple[Any, ...]] = list(earlier.itertuples(index=False, name=None))
        self.warnings = list(map(str, said.get("warnings", ())))

    def drop(self, what: str, n: int, why: str) -> None:
        self.dropped.append((what, int(n), why))

    def warn(self, text: str) -> None:
        self.warnings += [text] if text not in self.warnings else []

    def said(self) -> dict[str, Any]:
        dropped = pd.DataFrame(self.dropped, columns=["what", "n", "why"])
        return {"dropped": dropped.astype({"n": int}), "warnings": self.warnings}


class _Matrix(NamedTuple):
    place: str
    X: Any
    var: pd.DataFrame


def _matrices(adata: ad.AnnData) -> dict[str, _Matrix]:
    """Matrices by the name that ``layer=`` takes, in the order in which they are tried."""

    def order(name: str) -> int:
        plain = name.lower()
        last = len(COUNT_LAYERS) + (not plain.startswith("decontx"))
        return COUNT_LAYERS.index(plain) if plain in COUNT_LAYERS else last

    found = {} if adata.X is None else {"X": _Matrix("X", adata.X, adata.var)}
    if adata.raw is not None:
        found["raw"] = _Matrix("raw", adata.raw.X, adata.raw.var)
    layers = {name: _Matrix(f"layers[{name!r}]", X, adata.var) for name, X in adata.layers.items()}
    for stem in {"counts", "data"} - set(layers):  # Seurat v5: a layer a sample
        names = [name for name in layers if name.startswith(f"{stem}.")]
        parts = [layers[name].X for name in names]
        owners = sum(np.asarray((part != 0).sum(axis=1)).ravel() > 0 for part in parts)
        if names and np.max(owners) <= 1:
            layers = {name: layer for name, layer in layers.items() if name not in names}
            layers[stem] = _Matrix(f"layers['{stem}.*']", sum(map(as_csr, parts)), adata.var)
    return found | {name: layers[name] for name in sorted(layers, key=order) if name not in found}


def _genes_only(matrix: _Matrix) -> tuple[_Matrix, int]:
    """Leave out what 10x counts beside genes, such as antibodies; how many there are."""
    kinds = matrix.var.get("feature_types", pd.Series(dtype=str)).astype(str)
    genes = kinds.eq("Gene Expression").to_numpy()
    if genes.all() or not genes.any():
        return matrix, 0
    return matrix._replace(X=matrix.X[:, genes], var=matrix.var[genes]), int((~genes).sum())


def _pick(kinds: dict[str, str], values: str | None, declared: str | None) -> str | None:
    """First matrix of counts, else of log or linear values, else one that can be as declared."""
    wanted = (values,) if values else VALUES
    fits = [name for name, kind in kinds.items() if _BECOMES.get(kind, kind) in wanted]
    fits.sort(key=lambda name: kinds[name] != "counts")
    can = _POSSIBLE.get(values or declared or "", ())
    fits += [name for kind in can for name, its_kind in kinds.items() if its_kind == kind]
    return fits[0] if fits else None


def _refusal(
    found: dict[str, _Matrix], kinds: dict[str, str], culprits: dict[str, str], values: str | None
) -> InputError:
    """Error for cells without a matrix that can be used: what each holds, and the remedy."""
    if not found:
        return InputError("These cells have no matrix: X is missing, and there are no layers.")
    words = [
        f"{found[name].place} is {_REFUSED.get(kind, (f'{kind} values', ''))[0]}"
        + (f" ({culprits[name]})" if name in culprits else "")
        for name, kind in kinds.items()
    ]
    wanted = values or "counts, log or linear values"
    kind = next(iter(kinds.values()), "")
    remedy = _REFUSED.get(kind, ("", f"Say --values {_BECOMES.get(kind, kind)} (values=)"))[1]
    return InputError(
        f"No matrix can be read as {wanted}: {'; '.join(words[:5])}.\n"
        f"{remedy}; there are {', '.join(map(str, list(found)[:12]))}."
    )


# Genes, cells, embeddings -----------------------------------------------------------------------
def _gene_names(var: pd.DataFrame, notes: _Notes) -> pd.Index:
    """Names of genes without versions; those that a conversion lost are looked for in ``var``."""
    names, n = var.index.astype(str), len(var)
    if n > 1 and any(names.equals(pd.RangeIndex(k, n + k).astype(str)) for k in (0, 1)):
        column = next((name for name in _NAMES if name in var), None)
        text = "none of var's columns names them"
        if column:
            names, text = pd.Index(var[column].astype(str)), f"names are taken from var[{column!r}]"
        notes.warn(f"Genes are only numbered ({var.index[0]}, {var.index[1]}, ...); {text}.")
    return strip_versions(names)


def strip_versions(ids: pd.Index) -> pd.Index:
    """Drop the version of Ensembl ids and leave everything else alone.

    Examples
    --------
    >>> strip_versions(pd.Index(["ENSG00000141510.18", "RP11-34P13.7"])).to_list()
    ['ENSG00000141510', 'RP11-34P13.7']
    """
    # Species letters, type of feature, 11 digits: ENSG00000141510.18, ENSMUSG..., ENSMMUG...
    pattern = r"^(ENS[A-Z]*[GTP]\d{11})\.\d+(_PAR_Y)?$"
    return ids.astype(str).str.replace(pattern, r"\1\2", regex=True)


def _one_column_a_gene(
    X: sp.csr_matrix, var: pd.DataFrame, log: bool, notes: _Notes
) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Sum the columns of one gene, logs as amounts; columns without a name are left out."""
    names = _gene_names(var, notes)
    if (nameless := names.isin(["", "nan", "None", "<NA>"])).any():
        notes.drop("genes", nameless.sum(), "no name")
        X, var, names = X[:, ~nameless], var[~nameless], names[~nameless]
    codes, unique = pd.factorize(names)
    if len(unique) < len(names):
        notes.drop("genes", len(names) - len(unique), "name of another column; both were summed")
        pick = sp.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)))
        X = (X.astype(np.float64).expm1() @ pick).log1p() if log else X @ pick
        var = var[~names.duplicated()]
    var = var.rename(columns=str).set_axis(pd.Index(unique, dtype=object))
    if "symbol" not in var:
        column = next((n for n in ("feature_name", "gene_name", "gene_symbols") if n in var), None)
        var["symbol"] = var[column].astype(str) if column else var.index
    return as_csr(X), var


def _unique_cells(obs: pd.DataFrame, notes: _Notes) -> pd.DataFrame:
    """Cells with names of their own; those that repeat get a number, and that is said."""
    obs = obs.rename(columns=str).set_axis(obs.index.astype(str))
    if (again := obs.index.duplicated()).any():
        first = obs.index[again][0]
        notes.warn(f"{again.sum()} cell names repeat, such as {first!r}; they got a number.")
        obs.index = make_index_unique(obs.index)
    return obs


def _array(value: Any) -> np.ndarray | None:
    """Return an embedding as an array of floats, or None when it is not one number a place."""
    out = np.asarray(value.toarray() if sp.issparse(value) else value)
    if out.ndim != 2 or out.dtype.kind not in "biuf":
        return None
    return out if out.dtype.kind == "f" else out.astype(np.float32)


# Door -------------------------------------------------------------------------------------------
def take(adata: ad.AnnData, *, layer: str | None = None, values: str | None = None) -> ad.AnnData:
    """Take the matrix that fits best out of an AnnData, and say which and what it holds.

    Counts anywhere win. They are looked for in ``X``, then in ``raw``, then in the layers
    ``counts``, ``raw_counts``, ``raw``, ``spliced`` and those called decontX, then in other
    layers, except parts of the molecules (``unspliced``, ...) and ranks or bins. Layers of Seurat
    v5, one a sample (``counts.1``, ``counts.2``), are summed when a cell has values in one only.
    Without counts, log or linear values are taken in the same order.

    Parameters
    ----------
    adata
        Cells; not changed, but arrays may be shared.
    layer
        Matrix to take: ``"X"``, ``"raw"`` or the name of a layer.
    values
        What it holds: ``"counts"``, ``"log"`` (natural, of one plus an amount) or ``"linear"``;
        by default found by `value_kind`.

    Returns
    -------
    AnnData
        CSR float32 ``X``, all of ``obs``, numeric ``obsm`` as arrays; cell names unique.
        Gene ids without versions, columns of one gene summed (logs as amounts),
        ``var["symbol"]``.
        Logs of other bases become natural ones, square roots become amounts.
        ``uns["sclin"]`` holds ``values``, ``found_in``, ``dropped`` (what, n, why) and
        ``warnings``.

    Raises
    ------
    InputError
        When no matrix can be used, ``layer`` does not exist, or ``values`` is impossible.
    """
    if values not in (None, *VALUES):
        raise unknown("kind of values", values, VALUES)
    if adata.isbacked:
        adata = adata.to_memory()
    found = _matrices(adata)
    if layer is not None and layer not in found:
        raise unknown("matrix of these cells", layer, found)
    said = dict(adata.uns.get("sclin", {}))
    notes = _Notes(said)
    kinds, others = {}, {}
    for name in [layer] if layer else [n for n in found if not _OTHER.search(n)]:
        found[name], others[name] = _genes_only(found[name])
        kinds[name] = value_kind(found[name].X)
        if kinds[name] == (values or "counts"):
            break
    culprits = {
        name: _culprit(found[name], kind, adata.obs_names)
        for name, kind in kinds.items()
        if kind in ("not finite", "negative")
    }
    declared = values or _BECOMES.get(said.get("values", ""), said.get("values"))
    chosen = _pick(kinds, values, declared)
    if chosen is None:
        raise _refusal(found, kinds, culprits, values)
    matrix, kind = found[chosen], kinds[chosen]
    for other, text in culprits.items():
        notes.warn(f"{found[other].place} was passed over: {text}.")
    if others[chosen]:
        notes.drop("features", others[chosen], "var['feature_types'] is not 'Gene Expression'")
    X, holds = as_csr(matrix.X), values or _BECOMES.get(kind, kind)
    if kind in _REFUSED:
        holds = str(declared)
        notes.warn(f"{matrix.place} is {_REFUSED[kind][0]}; read as {holds}, as was said.")
    elif kind in _BECOMES and _BECOMES[kind] == holds:
        X = X.power(2) if kind == "square root" else X * _LN[kind]
        notes.warn(f"{matrix.place} holds {kind} values; they were made {holds} values.")
    X, var = _one_column_a_gene(X, matrix.var, holds == "log", notes)
    out = ad.AnnData(X, _unique_cells(adata.obs, notes), var, uns=dict(adata.uns))
    for key, value in adata.obsm.items():
        if (array := _array(value)) is None:
            notes.drop("embeddings", 1, f"obsm[{key!r}] is not a table of numbers")
        else:
            out.obsm[key] = array
    same = chosen == "X" and said.get("values") in (None, holds)
    place = said.get("found_in", "X") if same else matrix.place
    out.uns["sclin"] = {**said, "values": holds, "found_in": place, **notes.said()}
    return out
