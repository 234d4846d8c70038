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
from sclin.errors import DataError, InputError, SclinError, unknown
from sclin.matrices import as_csr, take, value_kind

__all__ = ["read", "read_dictionary"]


def read(
    path: str | Path,
    *,
    layer: str | None = None,
    values: str | None = None,
    backed: bool = False,
    **options: Any,
) -> ad.AnnData:
    """Read a file of cells; the suffix decides how.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr``, 10x ``.h5``, a folder with ``matrix.mtx``, ``.csv``, ``.tsv``
        (also ``.gz``), ``.rda``, ``.RData``.
    layer, values
        As in `sclin.matrices.take`.
    backed
        Leave the matrix of an ``.h5ad`` on disk and read rows as they are asked for; ``X`` is
        then what the file has as ``X``.
    **options
        Passed to the reader of the suffix: ``orientation`` of a table, ``name`` of an R object.

    Returns
    -------
    AnnData
        As `sclin.matrices.take` returns it.

    Raises
    ------
    DataError
        When the file is not readable.
    InputError
        When no matrix of it can be used, or an option does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file of cells.")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if path.is_dir() and suffix != ".zarr":
        suffix = ".mtx"
    by_suffix: dict[str, Callable[..., ad.AnnData]] = {
        **dict.fromkeys((".h5ad", ".zarr"), _h5ad),
        **dict.fromkeys((".h5", ".mtx"), _10x),
        **dict.fromkeys((".csv", ".tsv", ".txt"), _table),
        **dict.fromkeys((".rda", ".rdata"), _rda),
    }
    if suffix not in by_suffix:
        raise DataError(f"{path.name}: no reader for {suffix!r}; there are {', '.join(by_suffix)}.")
    reader = by_suffix[suffix]
    options |= {"backed": True} if backed else {}
    check_options(path.name, options, list(signature(reader).parameters)[1:])
    try:
        cells = reader(path, **options)
    except SclinError:
        raise
    except Exception as error:
        # The parsers raise many classes for damaged files; the message is what matters.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{path} is not a readable {suffix} file: {reason}") from error
    return (
        _backed(cells, layer, path) if cells.isbacked else take(cells, layer=layer, values=values)
    )


def _plain(X: Any, obs: Sequence[str] | pd.DataFrame, var: Sequence[str] | pd.DataFrame) -> Any:
    """Put cells by genes together; names that repeat are seen to by `take`."""
    frames = [
        frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(index=pd.Index(frame, dtype=str))
        for frame in (obs, var)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* names are not unique", category=UserWarning)
        return ad.AnnData(X, *frames)


def pack(
    X: Any,
    obs: Sequence[str] | pd.DataFrame,
    var: Sequence[str] | pd.DataFrame,
    *,
    values: str | None = None,
) -> ad.AnnData:
    """Cells by genes as an AnnData with what its values are; a unit such as TPM is kept."""
    unit = {"tpm": "linear", "fpkm": "linear"}
    out = take(_plain(X, obs, var), values=unit.get(values or "", values))
    out.uns["sclin"]["values"] = values or out.uns["sclin"]["values"]
    return out


# h5ad and zarr ----------------------------------------------------------------------------------
def _h5ad(path: Path, *, backed: bool = False) -> ad.AnnData:
    """Read an h5ad file or a zarr folder; ``backed`` leaves the matrix on disk."""
    with warnings.catch_warnings():
        # Old files are read as well as new ones; nothing for the reader to do about it.
        warnings.filterwarnings("ignore", category=ad.OldFormatWarning)
        warnings.filterwarnings("ignore", "Moving element", category=FutureWarning)
        warnings.filterwarnings("ignore", ".* names are not unique", category=UserWarning)
        if path.suffix == ".zarr":
            return ad.read_zarr(path)
        return ad.read_h5ad(path, backed="r" if backed else None)


def _backed(source: ad.AnnData, layer: str | None, path: Path) -> ad.AnnData:
    if layer not in (None, "X"):
        source.file.close()
        raise InputError(
            f"{path.name}: backed files give X only; layer={layer!r} needs backed=False."
        )
    if not source.obs_names.is_unique:
        raise InputError(f"{path.name}: cell names repeat; read it with backed=False.")
    said = {"values": value_kind(source.X[:1000]), "found_in": "X", "backed": True}
    source.uns["sclin"] = {**source.uns.get("sclin", {}), **said}
    return source


# Tables, 10x ------------------------------------------------------------------------------------
def _table(path: Path, *, orientation: str | None = None) -> ad.AnnData:
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
        return _plain(X.T.tocsr(), columns, rows)
    return _plain(X, rows, columns)


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


def _10x(path: Path) -> ad.AnnData:
    """Read what Cell Ranger writes: a ``.h5`` file or a folder with ``matrix.mtx``."""
    import scanpy as sc

    if path.suffix == ".h5":
        cells = sc.read_10x_h5(path)
    else:
        folder = path if path.is_dir() else path.parent
        cells = sc.read_10x_mtx(folder, var_names="gene_ids")
    if "gene_ids" in cells.var:
        cells.var = cells.var.reset_index(names="symbol").set_index("gene_ids")
    return cells


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


def _rda(path: Path, *, name: str | None = None) -> ad.AnnData:
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
        matrix = value.assays[active].counts
        obs = getattr(value, "meta.data").copy()
    elif hasattr(value, "colData"):
        matrix = value.assays.data.listData.get("counts")
        obs = pd.DataFrame(dict(value.colData.listData))
    else:
        matrix, obs = value, None
    if not (hasattr(matrix, "Dim") or hasattr(matrix, "dims")):
        raise DataError(
            f"{path}: {name} is a {type(value).__name__}; a matrix, a Seurat object or a "
            "SingleCellExperiment with counts is needed."
        )
    X, cells, genes = r_matrix(matrix)
    obs = pd.DataFrame(index=cells) if obs is None else obs.set_axis(cells)
    text = [c for c in obs if obs[c].dtype.kind not in "iufb"]
    return _plain(X, obs.astype(dict.fromkeys(text, object)), genes)


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
