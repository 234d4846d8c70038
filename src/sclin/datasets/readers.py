"""Readers: every layout of the catalogue, and of files that people bring, to one AnnData."""

from __future__ import annotations

import csv
import gzip
import pickle
import warnings
from collections.abc import Callable, Sequence
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.datasets.entries import check_options
from sclin.errors import DataError, InputError, unknown

__all__ = ["read", "read_dictionary"]

# Names that layers of counts carry, in the order in which they are tried.
COUNT_LAYERS = ("counts", "raw_counts", "raw", "spliced", "decontXcounts", "decontX")


def read(path: str | Path, **options: Any) -> ad.AnnData:
    """Read a file of cells; the suffix decides how.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr``, 10x ``.h5``, a folder with ``matrix.mtx``, ``.csv``, ``.tsv``
        (also ``.gz``), ``.rda``, ``.RData``.
    **options
        Passed to the reader of the suffix.

    Returns
    -------
    AnnData
        CSR float32 ``X``; ``uns["sclin"]`` says what the values are and where they were found.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file of cells.")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if path.is_dir() and suffix != ".zarr":
        suffix = ".mtx"
    by_suffix: dict[str, Callable[..., ad.AnnData]] = {
        **dict.fromkeys((".h5ad", ".zarr"), read_h5ad),
        **dict.fromkeys((".h5", ".mtx"), read_10x),
        **dict.fromkeys((".csv", ".tsv", ".txt"), read_table),
        **dict.fromkeys((".rda", ".rdata"), read_rda),
    }
    if suffix not in by_suffix:
        raise DataError(f"{path.name}: no reader for {suffix!r}; there are {', '.join(by_suffix)}.")
    reader = by_suffix[suffix]
    check_options(path.name, options, list(signature(reader).parameters)[1:])
    return reader(path, **options)


# What the values are ----------------------------------------------------------------------------
def value_kind(X: Any, *, limit: int = 2_000_000) -> str:
    """Say what a matrix holds: ``counts``, ``log``, ``scaled`` or ``linear``.

    Counts are whole numbers, none below zero; ``scaled`` has values below zero; ``log`` has
    fractions and nothing above 20, since e to the 20 is more molecules than a cell holds;
    ``linear`` is the rest (TPM, FPKM).

    Parameters
    ----------
    X
        Matrix, shape ``(n_cells, n_genes)``.
    limit
        Stored values looked at, taken from the start.

    Examples
    --------
    >>> import numpy as np
    >>> value_kind(np.array([[0.0, 3.0], [1.0, 0.0]]))
    'counts'
    >>> value_kind(np.array([[0.0, 0.7], [1.4, 0.0]]))
    'log'
    """
    data = np.asarray(X.data if sp.issparse(X) else X).ravel()[:limit]
    if not np.isfinite(data).all():
        raise InputError(f"The matrix holds {int((~np.isfinite(data)).sum())} values not finite.")
    if data.size and data.min() < 0:
        return "scaled"
    if np.array_equal(data, np.round(data)):
        return "counts"
    return "log" if data.max() <= 20 else "linear"


def as_csr(X: Any) -> sp.csr_matrix:
    """CSR float32 without stored zeros; float32 CSR input is not copied."""
    out = sp.csr_matrix(X, dtype=np.float32)
    if out.nnz and not out.data.all():
        out = out.copy()
        out.eliminate_zeros()
    out.sort_indices()
    return out


def pack(
    X: Any,
    obs: pd.DataFrame | Sequence[str],
    var: Sequence[str] | pd.DataFrame,
    *,
    values: str | None = None,
    found_in: str = "X",
) -> ad.AnnData:
    """Cells by genes as an AnnData with what its values are."""
    obs, var = (
        frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(index=pd.Index(frame, dtype=str))
        for frame in (obs, var)
    )
    out = ad.AnnData(as_csr(X), obs=obs.rename(columns=str), var=var)
    out.uns["sclin"] = {"values": values or value_kind(out.X), "found_in": found_in}
    return out


# h5ad and zarr ----------------------------------------------------------------------------------
def read_h5ad(path: Path, *, layer: str | None = None, backed: bool = False) -> ad.AnnData:
    """Read an h5ad file or a zarr folder, counts first.

    Counts are looked for in ``X``, then in ``raw``, then in the layers.

    Parameters
    ----------
    path
        File, or folder that ends in ``.zarr``.
    layer
        Matrix to read: a layer, ``"X"`` or ``"raw"``; by default the first that holds counts,
        or else ``X``.
    backed
        Leave the matrix on disk and read rows as they are asked for; ``X`` is then what the
        file has as ``X``.

    Returns
    -------
    AnnData
        ``uns["sclin"]["values"]`` and ``["found_in"]`` say what was taken.

    Raises
    ------
    DataError
        When the file is not readable.
    InputError
        When ``layer`` does not exist.
    """
    try:
        with warnings.catch_warnings():
            # Old files are read as well as new ones; nothing for the reader to do about it.
            warnings.filterwarnings("ignore", category=ad.OldFormatWarning)
            warnings.filterwarnings("ignore", "Moving element", category=FutureWarning)
            zarr = path.suffix == ".zarr"
            source = ad.read_zarr(path) if zarr else ad.read_h5ad(path, backed=backed and "r")
    except Exception as error:
        # h5py and zarr raise many classes for damaged files; the message is what matters.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{path} is not a readable AnnData file: {reason}") from error
    if source.isbacked:
        return _backed(source, layer, path)
    matrices = {"X": source.X}
    if source.raw is not None:
        matrices["raw"] = source.raw.X
    matrices |= source.layers
    if layer is not None and layer not in matrices:
        raise unknown(f"matrix of {path.name}", layer, matrices)
    order = [n for n in ("X", "raw", *COUNT_LAYERS, *matrices) if matrices.get(n) is not None]
    counts = (n for n in order if value_kind(matrices[n]) == "counts")
    found = layer or next(counts, "X")
    if matrices[found] is None:
        raise InputError(f"{path.name}: {found} is empty; the file has {', '.join(matrices)}.")
    raw = source.raw is not None and found == "raw" and "raw" not in source.layers
    var = (source.raw if raw else source).var.copy()
    out = pack(matrices[found], source.obs, var, found_in=found)
    out.obsm.update(dict(source.obsm))
    out.uns.update({**source.uns, "sclin": {**source.uns.get("sclin", {}), **out.uns["sclin"]}})
    return out


def _backed(source: ad.AnnData, layer: str | None, path: Path) -> ad.AnnData:
    if layer not in (None, "X"):
        source.file.close()
        raise InputError(
            f"{path.name}: backed files give X only; layer={layer!r} needs backed=False."
        )
    said = {"values": value_kind(source.X[:1000]), "found_in": "X", "backed": True}
    source.uns["sclin"] = {**source.uns.get("sclin", {}), **said}
    return source


# Tables, 10x ------------------------------------------------------------------------------------
def read_table(path: Path, *, orientation: str | None = None) -> ad.AnnData:
    """Read a csv or tsv table of counts, cells in rows or in columns.

    Parameters
    ----------
    path
        Table with a header and names in the first column; ``.gz`` as well.
    orientation
        ``"cells_in_rows"`` or ``"genes_in_rows"``; by default found from the names: Ensembl ids
        and well-known human or mouse symbols tell the genes.

    Raises
    ------
    InputError
        When the genes cannot be told, or the table says otherwise than ``orientation``.
    """
    columns, rows, X = _parse_table(path, "," if ".csv" in path.name.lower() else "\t")
    score = {"cells_in_rows": _gene_score(columns), "genes_in_rows": _gene_score(rows)}
    seen = max(score, key=score.__getitem__) if any(score.values()) else None
    if orientation not in (None, *score):
        raise InputError(f"orientation={orientation!r}: use {' or '.join(map(repr, score))}.")
    if orientation is None and seen is None:
        raise InputError(
            f"{path.name}: neither rows ({rows[0]!r}, ...) nor columns ({columns[0]!r}, ...) look "
            "like genes; say orientation='genes_in_rows' or 'cells_in_rows'."
        )
    if orientation is not None and seen not in (None, orientation):
        raise InputError(
            f"{path.name} looks transposed: orientation={orientation!r} was given, but the "
            f"{'rows' if seen == 'genes_in_rows' else 'columns'} are named like genes."
        )
    if (orientation or seen) == "genes_in_rows":
        return pack(X.T, columns, rows, found_in="table, genes in rows")
    return pack(X, rows, columns, found_in="table, cells in rows")


def _parse_table(path: Path, separator: str) -> tuple[list[str], list[str], sp.csr_matrix]:
    """Columns, row names and values; a wide table is never held densely."""
    rows: list[str] = []
    blocks = []
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            header = next(csv.reader(stream, delimiter=separator), [])
            while lines := list(islice(filter(str.strip, stream), 500)):
                width = lines[0].count(separator)
                if wrong := [line for line in lines if line.count(separator) != width]:
                    raise ValueError(f"row {wrong[0][:20]!r} does not have {width} values")
                options: Any = {
                    "delimiter": separator,
                    "quotechar": '"',
                    "comments": None,
                    "ndmin": 2,
                }
                rows += np.loadtxt(lines, str, usecols=0, **options)[:, 0].tolist()
                values = np.loadtxt(lines, np.float32, usecols=range(1, width + 1), **options)
                blocks.append(sp.csr_matrix(values))
        if not rows:
            raise ValueError("there are no rows under the header")
        X = sp.vstack(blocks, format="csr")
    except (ValueError, EOFError, OSError, csv.Error) as error:
        raise DataError(f"{path.name} is not a table of numbers: {error}") from error
    if len(header) not in (X.shape[1], X.shape[1] + 1):  # R leaves the corner of the header out
        raise DataError(f"{path.name} has {len(header)} names over {X.shape[1]} columns of values.")
    return header[-X.shape[1] :], rows, X


_HOUSEKEEPING = {"ACTB", "GAPDH", "B2M", "MALAT1", "RPLP0", "RPS6", "RPL3", "EEF1A1", "TMSB4X"}


def _gene_score(names: Sequence[str]) -> float:
    """Share of names that are gene ids: Ensembl ids, or a few symbols that every table has."""
    plain = {str(n).upper() for n in names}
    ensembl = np.mean([str(n).startswith("ENS") for n in names])
    return max(float(ensembl), len(plain & _HOUSEKEEPING) / len(_HOUSEKEEPING))


def read_10x(path: Path) -> ad.AnnData:
    """Read what Cell Ranger writes: a ``.h5`` file or a folder with ``matrix.mtx``."""
    import scanpy as sc

    try:
        if path.suffix == ".h5":
            cells = sc.read_10x_h5(path)
        else:
            folder = path if path.is_dir() else path.parent
            cells = sc.read_10x_mtx(folder, var_names="gene_ids")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a readable 10x matrix: {error}") from error
    if "gene_ids" in cells.var:
        cells.var = cells.var.reset_index(names="symbol").set_index("gene_ids")
    return pack(cells.X, cells.obs, cells.var, found_in="10x matrix")


# R ----------------------------------------------------------------------------------------------
def load_rda(path: Path) -> dict[str, Any]:
    """Objects of an ``.rda`` file by name, as the package rdata gives them."""
    import rdata

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Missing constructor", category=UserWarning)
            return rdata.read_rda(path)
    except Exception as error:
        # rdata raises whatever its parser meets in a damaged file.
        raise DataError(f"{path} is not a readable R data file: {error}") from error


def r_matrix(value: Any) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Cells by genes, with their names, from an R matrix of genes by cells."""
    if hasattr(value, "Dim"):  # dgCMatrix or dgTMatrix
        shape, names = tuple(int(n) for n in value.Dim), value.Dimnames
        if hasattr(value, "p"):
            X = sp.csc_matrix((value.x, value.i, value.p), shape=shape).T
        else:
            X = sp.coo_matrix((value.x, (value.i, value.j)), shape=shape).T
    else:
        X = sp.csr_matrix(np.asarray(value).T)
        names = [value.coords[d].to_numpy() if d in value.coords else None for d in value.dims]
    made = (f"gene_{i}" for i in range(X.shape[1])), (f"cell_{i}" for i in range(X.shape[0]))
    found = ([*map(str, spare if n is None else n)] for n, spare in zip(names, made, strict=True))
    genes, cells = found
    return as_csr(X), cells, genes


def read_rda(path: Path, *, name: str | None = None) -> ad.AnnData:
    """Read cells out of an ``.rda`` or ``.RData`` file.

    Parameters
    ----------
    path
        File written by R's ``save``: a matrix, a Seurat object (v3 assays) or a
        SingleCellExperiment.
    name
        Object to read; needed when the file holds several.

    Raises
    ------
    DataError
        When the file holds no matrix, Seurat object or SingleCellExperiment of that name.
    """
    objects = load_rda(path)
    if name is None and len(objects) > 1:
        raise InputError(f"{path} holds {', '.join(objects)}; say which with name=.")
    name = name or next(iter(objects), "")
    if name not in objects:
        raise unknown(f"object in {path}", name, objects)
    value = objects[name]
    if hasattr(value, "assays") and hasattr(value, "meta.data"):
        active = str(getattr(value, "active.assay")[0])
        matrix, found = value.assays[active].counts, f"Seurat assay {active}, counts"
        obs = getattr(value, "meta.data").copy()
    elif hasattr(value, "colData"):
        matrix, found = (
            value.assays.data.listData.get("counts"),
            "SingleCellExperiment assay counts",
        )
        obs = pd.DataFrame(dict(value.colData.listData))
    else:
        matrix, found, obs = value, "R matrix", None
    if not (hasattr(matrix, "Dim") or hasattr(matrix, "dims")):
        raise DataError(
            f"{path}: {name} is a {type(value).__name__}; a matrix, a Seurat object or a "
            "SingleCellExperiment with counts is needed."
        )
    X, cells, genes = r_matrix(matrix)
    obs = pd.DataFrame(index=cells) if obs is None else obs.set_axis(cells)
    text = [c for c in obs if obs[c].dtype.kind not in "iufb"]
    return pack(X, obs.astype(dict.fromkeys(text, object)), genes, found_in=found)


# Pickles ----------------------------------------------------------------------------------------
def _number(kind: np.dtype, *raw: Any) -> Any:
    """A numpy number of a pickle; anything but a number is refused."""
    if not raw or kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"numpy scalar of type {kind}")
    return np.frombuffer(raw[0], dtype=kind)[0].item()


class _Restricted(pickle.Unpickler):
    """Plain containers, strings and numbers; no other global is ever looked up."""

    def find_class(self, module: str, name: str) -> Any:
        home, _, leaf = module.rpartition(".")
        if leaf == "multiarray" and home in ("numpy.core", "numpy._core") and name == "scalar":
            return _number
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_dictionary(path: str | Path) -> dict[Any, Any]:
    """Read a pickled dictionary without running any code that it may carry.

    Parameters
    ----------
    path
        Pickle of a dictionary of strings and numbers.

    Raises
    ------
    DataError
        When the pickle asks for anything but plain containers and numbers, or is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            found = _Restricted(stream).load()
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise DataError(
            f"{path.name} is damaged or holds more than plain containers and numbers ({error}): "
            "refused, because loading it could run code."
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path.name} holds a {type(found).__name__}, not a dictionary.")
    return found


# Fixed columns ----------------------------------------------------------------------------------
def name_columns(adata: ad.AnnData, columns: dict[str, str], where: str) -> None:
    """Copy columns of ``obs`` to their fixed names; the originals stay.

    Raises
    ------
    InputError
        When a column is missing; the message lists those that exist.
    """
    for ours, theirs in columns.items():
        if theirs not in adata.obs:
            raise unknown(f"column of obs in {where}, for {ours},", theirs, adata.obs.columns)
        if ours != theirs and ours in adata.obs:
            adata.obs[f"published_{ours}"] = adata.obs[ours]
        adata.obs[ours] = adata.obs[theirs]
    for column in ("cell_type", "donor", "batch", "condition", "perturbation"):
        if column in adata.obs:
            text = adata.obs[column].astype(object).map(str, na_action="ignore")
            adata.obs[column] = pd.Categorical(text)


def finish(adata: ad.AnnData) -> ad.AnnData:
    """Ensembl ids without versions, columns of one gene summed, a symbol for each gene."""
    if not adata.obs_names.is_unique:
        raise InputError("Cell names are not unique; make them so with obs_names_make_unique().")
    if adata.isbacked:
        return adata
    ids = strip_versions(adata.var_names)
    if "symbol" not in adata.var:
        names = [c for c in ("feature_name", "gene_name", "gene_symbols") if c in adata.var]
        adata.var["symbol"] = adata.var[names[0]].astype(str).to_numpy() if names else ids
    codes, unique = pd.factorize(ids)
    if len(unique) < len(ids):
        pick = sp.csr_matrix((np.ones(len(ids), np.float32), (np.arange(len(ids)), codes)))
        adata = ad.AnnData(
            sp.csr_matrix(adata.X @ pick, dtype=np.float32),
            obs=adata.obs,
            var=adata.var[~ids.duplicated()],
            uns=adata.uns,
            obsm=adata.obsm,
        )
        adata.uns.setdefault("sclin", {})["n_gene_columns_summed"] = len(ids) - len(unique)
    adata.var_names = pd.Index(unique, dtype=object)
    return adata


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
