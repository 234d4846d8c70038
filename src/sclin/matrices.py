"""Which matrix of an AnnData is read, and which values it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.utils import make_index_unique

from sclin.errors import InputError, unknown

#: What ``values=`` can be.
VALUES = ("counts", "log", "linear")
# Names that layers of counts carry, in the order in which they are tried; the decontX ones follow.
COUNT_LAYERS = ("counts", "raw_counts", "raw", "spliced")
# Whole numbers that are a part of the molecules, or none at all.
_OTHER = re.compile(r"^counts\.|unspliced|ambiguous|spanning|nascent|binned|rank", re.IGNORECASE)
#: Columns of ``var`` that may name genes: by symbols, and by these or ids.
SYMBOLS = ("feature_name", "gene_symbols", "gene_name", "symbol")
GENE_COLUMNS = (*SYMBOLS, "gene_ids", "gene_id", "ensembl_id", "feature_id")

# From each scale back to amounts that add up; the natural log comes first.
_LN = {"log": 1.0, "log2": float(np.log(2)), "log10": float(np.log(10))}
_SCALES = (*_LN, "linear", "square root")
_MOST_LOG = 20  # e to the 20 is more molecules than a cell holds, 2 to the 20 a million
# What kinds become when they are taken, and which ones ``values=`` may declare.
_BECOMES = dict.fromkeys(("log2", "log10"), "log")
_BECOMES |= dict.fromkeys(("square root", "tpm", "fpkm"), "linear")
_POSSIBLE = {"counts": ["binary"], "log": ["unclear"]}
_POSSIBLE["linear"] = ["unclear", "counts", "square root", *_LN]
# What cannot be read without more, in words, and the remedy.
_CULPRITS = ("not finite", "negative")
_REFUSED = {
    **dict.fromkeys(("text", "empty", "scaled"), "Name counts or log values with --layer (layer=)"),
    **dict.fromkeys(_CULPRITS, "Mend the value, or leave its cell or gene out"),
    "binary": "If these are counts, say --values counts (values=)",
    "unclear": "Say --values log or --values linear (values= in Python)",
}
_WORDS = {"unclear": "values that may be log or linear", "empty": "only zeros (empty)"}


# Values -----------------------------------------------------------------------------------------
def _blocks(X: Any, size: int = 2**22) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Cells a few at a time: the number of the first one, and CSR without stored zeros."""
    X = X.tocsr() if sp.issparse(X) else X
    stored = X.nnz if sp.issparse(X) else X.size
    step = max(1, size * X.shape[0] // max(1, stored))
    for start in range(0, X.shape[0], step):
        yield start, as_csr(X[start : start + step], np.promote_types(X.dtype, np.float32))


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
    """Scale of values with fractions, from up to a thousand of the cells that have them."""
    sample = cells[np.linspace(0, len(cells) - 1, min(len(cells), 1000)).astype(int)]
    rows = (X.tocsr() if sp.issparse(X) else X)[sample]
    some = as_csr(rows, np.float64)
    seen, fits = np.minimum(some.data, 300), []
    for scale in _SCALES:
        power = 2 if scale == "square root" else 1
        amount = np.expm1(_LN[scale] * seen) if scale in _LN else seen**power
        total = _per_cell(some, amount)
        equal = len(total) > 1 and np.mean(abs(total / np.median(total) - 1) < 1e-3) > 0.9
        smallest = np.repeat(_per_cell(some, amount, np.minimum), np.diff(some.indptr))
        told = (amount > 1.5 * smallest) & (amount < 30 * smallest)  # beyond, rounding hides it
        ratio = amount[told] / smallest[told]
        whole = len(ratio) >= 20 and np.mean(abs(ratio - np.rint(ratio)) < 0.02) > 0.9
        fits += [scale] if equal or whole else []
    if fits and fits[0] in _LN:
        no_log = high.max() > _MOST_LOG or (np.delete(high, cells) > 0).any()
        return "unclear" if no_log or "linear" in fits else fits[0]
    if fits:
        return fits[0]
    if high.max() <= _MOST_LOG:
        return "unclear"
    mean, square = (
        sum(block.power(p).sum(axis=0, dtype=np.float64) for _, block in _blocks(X)) / len(high)
        for p in (1, 2)
    )
    variance = np.asarray(square - np.square(mean))[np.asarray(mean) > 0]
    return "scaled" if np.mean(abs(variance - 1) < 0.04) > 0.5 else "linear"


def _in_words(matrix: _Matrix, kind: str, obs_names: pd.Index) -> str:
    """What a matrix holds, or its first value that is not finite or negative: cell and gene."""
    if kind not in _CULPRITS:
        return f"{matrix.place} holds {_WORDS.get(kind, f'{kind} values')}"
    for start, block in _blocks(matrix.X):
        bad = ~np.isfinite(block.data) if kind == "not finite" else block.data < 0
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            cell = start + int(np.searchsorted(block.indptr, at, side="right")) - 1
            value = f"{block.data[at]:g}".replace("nan", "NaN")
            gene = str(matrix.var.index[block.indices[at]])
            where = f"{matrix.place}, cell {str(obs_names[cell])!r}, gene {gene!r}"
            return f"{kind} value {value} in {where}"
    return ""


def as_csr(X: Any, dtype: Any = np.float32) -> sp.csr_matrix:
    """CSR without stored zeros; CSR of the right type is neither copied nor changed."""
    out = sp.csr_matrix(X if sp.issparse(X) else np.asarray(X, dtype), dtype=dtype)
    if not out.data.all():
        out = out.copy()
        out.eliminate_zeros()
    return out if out.has_sorted_indices else out.sorted_indices()


# Matrix -----------------------------------------------------------------------------------------
class _Notes(NamedTuple):
    dropped: list[tuple[str, int, str]]
    warnings: list[str]


class _Matrix(NamedTuple):
    place: str
    X: Any
    var: pd.DataFrame


def _matrices(adata: ad.AnnData) -> dict[str, _Matrix]:
    """Matrices by the name that ``layer=`` takes, in the order in which they are tried."""
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
    return found | {name: layers[name] for name in sorted(layers, key=_rank) if name not in found}


def _rank(name: str) -> float:
    """Place of a layer in the search: by the names of counts, decontX, then as in the file."""
    plain = name.lower()
    return [*COUNT_LAYERS, plain].index(plain) - 0.5 * plain.startswith("decontx")


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
    found: dict[str, _Matrix], kinds: dict[str, str], words: dict[str, str], values: str | None
) -> InputError:
    """Error for cells without a matrix that can be used: what each holds, and the remedy."""
    if not found:
        return InputError("These cells have no matrix: X is missing, and there are no layers.")
    kind, wanted = next(iter(kinds.values()), "empty"), values or "counts, log or linear values"
    remedy = _REFUSED.get(kind, f"Say --values {_BECOMES.get(kind, kind)} (values= in Python)")
    names = sorted(words, key=lambda name: kinds[name] not in _CULPRITS)
    return InputError(
        f"No matrix can be read as {wanted}: {'; '.join(words[name] for name in names[:4])}.\n"
        f"{remedy}; there are {', '.join(map(str, list(found)[:12]))}."
    )


# Genes, cells, embeddings -----------------------------------------------------------------------
def _gene_names(var: pd.DataFrame, notes: _Notes) -> pd.Index:
    """Names of genes without versions; those that a conversion lost are looked for in ``var``."""
    names, n = var.index.astype(str), len(var)
    if n > 1 and any(names.equals(pd.RangeIndex(k, n + k).astype(str)) for k in (0, 1)):
        column = next((n for n in ("features", *GENE_COLUMNS, "_index") if n in var), None)
        where = f"var[{column!r}] names them" if column else "no column of var names them"
        notes.warnings.append(f"Genes are numbered ({names[0]}, {names[1]}, ...); {where}.")
        names = pd.Index(var[column].astype(str)) if column else names
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
        notes.dropped.append(("genes", int(nameless.sum()), "no name"))
        X, var, names = X[:, ~nameless], var[~nameless], names[~nameless]
    codes, unique = pd.factorize(names)
    if len(unique) < len(names):
        why = "name of another column; both were summed"
        notes.dropped.append(("genes", len(names) - len(unique), why))
        pick = sp.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)))
        X = (X.astype(np.float64).expm1() @ pick).log1p() if log else X @ pick
        var = var[~names.duplicated()]
    var = var.rename(columns=str).set_axis(pd.Index(unique, dtype=object))
    var = var.drop(columns="_index", errors="ignore")  # h5ad keeps this name for itself
    if "symbol" not in var:
        column = next((name for name in SYMBOLS if name in var), None)
        var["symbol"] = var[column].astype(str) if column else var.index
    return as_csr(X), var


def _unique_cells(obs: pd.DataFrame, notes: _Notes) -> pd.DataFrame:
    """Cells with names of their own; those that repeat get a number, and that is said."""
    obs = obs.rename(columns=str).set_axis(obs.index.astype(str))
    if (again := obs.index.duplicated()).any():
        first = obs.index[again][0]
        notes.warnings.append(
            f"{again.sum()} cell names repeat, such as {first!r}; they got a number."
        )
        obs.index = make_index_unique(obs.index)
    return obs


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
    if adata.isbacked or hasattr(adata.X, "compute"):  # on disk, or of Dask
        adata = adata.to_memory()
    found = _matrices(adata)
    if layer is not None and layer not in found:
        raise unknown("matrix of these cells", layer, found)
    said = dict(adata.uns.get("sclin", {}))
    earlier = said.get("dropped", pd.DataFrame()).itertuples(index=False, name=None)
    notes = _Notes(list(earlier), list(map(str, said.get("warnings", ()))))
    kinds, others, words = {}, {}, {}
    for name in [layer] if layer else [n for n in found if not _OTHER.search(n)]:
        found[name], others[name] = _genes_only(found[name])
        kinds[name] = kind = value_kind(found[name].X)
        words[name] = _in_words(found[name], kind, adata.obs_names)
        if kind == (values or "counts"):
            break
    declared = values or _BECOMES.get(said.get("values", ""), said.get("values"))
    chosen = _pick(kinds, values, declared)
    if chosen is None:
        raise _refusal(found, kinds, words, values)
    place, kind = found[chosen].place, kinds[chosen]
    culprits = [words[name] for name in kinds if kinds[name] in _CULPRITS]
    notes.warnings.extend(f"Another matrix has a {text}." for text in culprits)
    if layer is None and chosen == "X" and "raw" in found and adata.raw.n_vars > adata.n_vars:
        notes.warnings.append(f"raw has more genes ({adata.raw.n_vars}): --layer raw (layer=).")
    if others[chosen]:
        why = "var['feature_types'] is not 'Gene Expression'"
        notes.dropped.append(("features", others[chosen], why))
    X, holds = as_csr(found[chosen].X), values or _BECOMES.get(kind, kind)
    if kind in _REFUSED:
        holds = str(declared)
        scale = holds.replace("log", "natural log")
        notes.warnings.append(f"{words[chosen]}; read as {scale}, as was said.")
    elif _BECOMES.get(kind) == holds:
        X = X.power(2) if kind == "square root" else X * _LN[kind]
        notes.warnings.append(f"{words[chosen]}; they were made {holds} values.")
    X, var = _one_column_a_gene(X, found[chosen].var, holds == "log", notes)
    out = ad.AnnData(X, _unique_cells(adata.obs, notes), var, uns=dict(adata.uns))
    for key, value in adata.obsm.items():
        array = np.asarray(value.toarray() if sp.issparse(value) else value)
        if array.ndim == 2 and array.dtype.kind in "biuf":
            out.obsm[key] = array if array.dtype.kind == "f" else array.astype(np.float32)
        else:
            notes.dropped.append(("embeddings", 1, f"obsm[{key!r}] is not a table of numbers"))
    if chosen == "X" and said.get("values") in (None, holds):
        place = said.get("found_in", place)
    dropped = pd.DataFrame(notes.dropped, columns=["what", "n", "why"]).astype({"n": int})
    told = {"dropped": dropped, "warnings": list(dict.fromkeys(notes.warnings))}
    out.uns["sclin"] = {**said, "values": holds, "found_in": place, **told}
    return out
