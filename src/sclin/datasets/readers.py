"""Readers: every layout of the catalogue, and of files that people bring, to one AnnData."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from sclin import tables
from sclin.datasets.entries import check_options
from sclin.errors import DataError, InputError, reading, unknown
from sclin.matrices import as_csr, take, value_kind

__all__ = ["read", "read_dictionary"]


def read(
    path: str | Path, *, layer: str | None = None, values: str | None = None,
    labels: str | Path | None = None, backed: bool = False, **options: Any,
) -> ad.AnnData:  # fmt: skip
    """Read a file of cells; the suffix decides how.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr``, ``.loom``, 10x ``.h5``, a folder with ``matrix.mtx`` or that file,
        ``.csv``, ``.tsv``, ``.txt``, ``.rda``, ``.RData``, ``.rds``; all also as ``.gz``.
    layer, values
        As in `sclin.matrices.take`.
    labels
        Table of labels with a column of cell names; its columns are added to ``obs``.
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
    suffix, reader = _reader(path)
    options |= {"backed": True} if backed else {}
    check_options(path.name, options, list(signature(reader).parameters)[1:])
    remedy = "It may be cut short: fetch it again, or write it again."
    whole = reading(path, f"{suffix} file", remedy)
    with TemporaryDirectory() as folder, warnings.catch_warnings(), whole:
        # `take` sees to names that repeat; old files are read as well as new ones.
        warnings.filterwarnings("ignore", ".* names are not unique", category=UserWarning)
        warnings.filterwarnings("ignore", category=ad.OldFormatWarning)
        warnings.filterwarnings("ignore", "Moving element", category=FutureWarning)
        cells = reader(_whole(path, reader, Path(folder)), **options)
    if cells.isbacked:
        return _backed(cells, layer, path)
    if labels is not None:
        cells.obs = tables.with_labels(cells.obs, labels)
    return take(cells, layer=layer, values=values)


def _reader(path: Path) -> tuple[str, Callable[..., ad.AnnData]]:
    """Suffix of a file without .gz, and what reads it."""
    by_suffix: dict[str, Callable[..., ad.AnnData]] = {
        **dict.fromkeys((".h5ad", ".h5", ".hdf5", ".loom"), _hdf5),
        ".zarr": _adata,
        ".mtx": _mtx,
        **dict.fromkeys((".csv", ".tsv", ".txt"), _table),
        **dict.fromkeys((".rda", ".rdata", ".rds"), _rda),
    }
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if path.is_dir():
        zarr = any((path / name).exists() for name in (".zgroup", "zarr.json"))
        suffix = ".zarr" if zarr or suffix == ".zarr" else ".mtx"
    if suffix not in by_suffix:
        raise DataError(f"{path.name}: no reader for {suffix!r}; there are {', '.join(by_suffix)}.")
    return suffix, by_suffix[suffix]


def _whole(path: Path, reader: Callable[..., ad.AnnData], folder: Path) -> Path:
    """Refuse what is no data; HDF5 cannot be read through gzip and is unpacked into ``folder``."""
    if path.is_dir():
        return path
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start or start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "a web page, not data" if start else "empty"
        raise DataError(f"{path} is {what}: fetch the file again from its source.")
    if reader is not _hdf5 or not start.startswith(b"\x1f\x8b"):
        return path
    out = folder / path.name.removesuffix(".gz")
    with gzip.open(path) as stream, out.open("wb") as target:
        shutil.copyfileobj(stream, target)
    return out


def _plain(X: Any, obs: Any, var: Any) -> ad.AnnData:
    """Put cells by genes together, with frames or names of both."""
    frames = [
        frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(index=pd.Index(frame, dtype=str))
        for frame in (obs, var)
    ]
    return ad.AnnData(X, *frames)


def pack(X: Any, obs: Any, var: Any) -> ad.AnnData:
    """Cells by genes as `sclin.matrices.take` gives them, with frames or names of both."""
    return take(_plain(X, obs, var))


# HDF5 and zarr ----------------------------------------------------------------------------------
def _hdf5(path: Path, *, backed: bool = False) -> ad.AnnData:
    """Read an AnnData, a loom or a 10x file; what it holds decides, whatever it is called."""
    with h5py.File(path) as file:
        if "row_attrs" in file:
            return _loom(file)
        tenx = not {"X", "obs"} & set(file)
    if not tenx:
        return _adata(path, backed=backed)
    import scanpy as sc

    cells = sc.read_10x_h5(path, gex_only=False)
    cells.var = cells.var.reset_index(names="symbol").set_index("gene_ids")
    return cells


def _adata(path: Path, *, backed: bool = False) -> ad.AnnData:
    """Read an AnnData from a zarr folder or an HDF5 file."""
    return ad.read_zarr(path) if path.is_dir() else ad.read_h5ad(path, backed=backed and "r")


def _backed(source: ad.AnnData, layer: str | None, path: Path) -> ad.AnnData:
    wrong = [] if layer in (None, "X") else [f"backed files give X, not {layer!r}"]
    for what, names in (("cell", source.obs_names), ("gene", source.var_names)):
        if (again := names[names.duplicated()].unique()).size:
            wrong.append(f"{len(again)} {what} names occur more than once, such as {again[0]!r}")
    if wrong:
        source.file.close()
        raise InputError(f"{path.name}: {wrong[0]}; read it with backed=False.")
    said = {"values": value_kind(source.X[:1000]), "found_in": "X", "backed": True}
    source.uns["sclin"] = {**source.uns.get("sclin", {}), **said}
    return source


def _loom(file: h5py.File) -> ad.AnnData:
    """Read a loom file: genes by cells, attributes of one column each, a block at a time."""

    def matrix(stored: h5py.Dataset) -> sp.csr_matrix:
        starts = range(0, stored.shape[1], 512)
        return sp.vstack([sp.csr_matrix(stored[:, i : i + 512].T) for i in starts], format="csr")

    def attributes(group: h5py.Group, *names: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        found = {k: v.asstr()[:] if v.dtype.kind in "OS" else v[:] for k, v in group.items()}
        flat = pd.DataFrame({key: value for key, value in found.items() if value.ndim == 1})
        name = next((name for name in names if name in flat), None)
        if name:
            flat = flat.set_index(flat[name].astype(str).rename(None)).drop(columns=name)
        return flat, {key: value for key, value in found.items() if value.ndim == 2}

    obs, arrays = attributes(file["col_attrs"], "CellID", "obs_names", "cell_names", "barcode")
    var, _ = attributes(file["row_attrs"], "Gene", "var_names", "gene_names", "Accession")
    cells = _plain(matrix(file["matrix"]), obs, var)
    cells.layers.update({name: matrix(layer) for name, layer in file.get("layers", {}).items()})
    cells.obsm.update(arrays)
    return cells


# 10x, tables ------------------------------------------------------------------------------------
def _mtx(path: Path) -> ad.AnnData:
    """Read ``matrix.mtx`` with its barcodes and its genes or features, and any prefix of GEO."""
    found = [path]
    if path.is_dir():
        found = sorted(path.glob("*matrix.mtx*")) or sorted(path.glob("*.mtx*"))
    if len(found) != 1:
        listed = ", ".join(file.name for file in found[:5]) or "no .mtx file"
        raise InputError(f"{path} holds {listed}; give the path of one .mtx file, or of a table.")
    prefix = re.split(r"[^_.]*\.mtx", found[0].name)[0]

    def beside(*stems: str) -> pd.DataFrame:
        names = [f"{prefix}{stem}.tsv{end}" for stem in stems for end in (".gz", "")]
        there = [path for name in names if (path := found[0].parent / name).exists()]
        if not there:
            raise DataError(f"Beside {found[0]} stands none of {', '.join(names)}.")
        return pd.read_csv(there[0], sep="\t", header=None, dtype=str, na_filter=False)

    barcodes, features = beside("barcodes"), beside("features", "genes")
    X = sp.csr_matrix(scipy.io.mmread(found[0]))
    X = X.T.tocsr() if X.shape == (len(features), len(barcodes)) else X
    if X.shape != (len(barcodes), len(features)):
        raise DataError(
            f"{found[0].name} is {X.shape[0]} x {X.shape[1]}, but there are {len(barcodes)} "
            f"barcodes and {len(features)} genes beside it."
        )
    var = pd.DataFrame({"symbol": features[features.columns[:2][-1]].to_numpy()}, features[0])
    if 2 in features:
        var["feature_types"] = features[2].to_numpy()
    return _plain(X, barcodes[0], var.rename_axis(None))


def _table(path: Path, *, orientation: str | None = None) -> ad.AnnData:
    """Read a table of numbers, cells in rows or in columns; see `tables.read_matrix`."""
    return _plain(*tables.read_matrix(path, orientation=orientation))


# R ----------------------------------------------------------------------------------------------
def load_rda(path: Path) -> dict[str, Any]:
    """Objects of an R file by name, as the package rdata gives them; an ``.rds`` has no name."""
    import rdata

    with warnings.catch_warnings(), reading(path, "R data file", "Fetch it again."):
        warnings.filterwarnings("ignore", message="Missing constructor", category=UserWarning)
        if ".rds" in path.name.lower():
            return {path.name: rdata.read_rds(path)}
        return rdata.read_rda(path)


def r_matrix(value: Any) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Cells by genes, with their names, from an R matrix or data frame of genes by cells."""
    if isinstance(value, pd.DataFrame):
        X = sp.csr_matrix(value.to_numpy(np.float32).T)
        names: list[Any] = [value.index, value.columns]
    elif hasattr(value, "Dim"):  # dgCMatrix or dgTMatrix
        shape, names = tuple(int(n) for n in value.Dim), value.Dimnames
        if hasattr(value, "p"):
            X = sp.csc_matrix((value.x, value.i, value.p), shape=shape).T
        else:
            X = sp.coo_matrix((value.x, (value.i, value.j)), shape=shape).T
    else:
        X = sp.csr_matrix(np.asarray(value).T)
        dims = [value.coords.get(dim) for dim in getattr(value, "dims", ())] or [None, None]
        names = [None if dim is None else dim.to_numpy() for dim in dims]
    made = (f"gene_{i}" for i in range(X.shape[1])), (f"cell_{i}" for i in range(X.shape[0]))
    found = ([*map(str, spare if n is None else n)] for n, spare in zip(names, made, strict=True))
    genes, cells = found
    return as_csr(X), cells, genes


def _rda(path: Path, *, name: str | None = None) -> ad.AnnData:
    """Read cells out of an R file: a matrix, a Seurat object or a SingleCellExperiment.

    Parameters
    ----------
    path
        File written by R's ``save`` or ``saveRDS``.
    name
        Object to read; needed when the file holds several.

    Raises
    ------
    InputError
        When the file holds no such object, or it is none of these.
    """
    objects = load_rda(path)
    if name is None and len(objects) > 1:
        raise InputError(f"{path} holds {', '.join(objects)}; say which with {path.name}:name=.")
    name = name or next(iter(objects), "")
    if name not in objects:
        raise unknown(f"object in {path}", name, objects)
    value = objects[name]
    obs, arrays = None, {}
    if hasattr(value, "assays") and hasattr(value, "meta.data"):
        active = str(getattr(value, "active.assay")[0])
        matrices = _seurat(value.assays["RNA" if "RNA" in value.assays else active])
        obs = getattr(value, "meta.data")
        arrays = {key: getattr(x, "cell.embeddings") for key, x in dict(value.reductions).items()}
    elif hasattr(value, "colData"):
        assays = {str(key): assay for key, assay in value.assays.data.listData.items()}
        matrices = {key: r_matrix(assay) for key, assay in assays.items() if _is_matrix(assay)}
        obs = pd.DataFrame(dict(value.colData.listData))
    else:
        matrices = {"X": r_matrix(value)} if _is_matrix(value) else {}
    if not matrices:
        raise InputError(
            f"{path}: {name} is a {type(value).__name__}; a matrix, a Seurat object or a "
            "SingleCellExperiment with counts is needed."
        )
    _, cells, genes = next(iter(matrices.values()))
    obs = pd.DataFrame(index=cells) if obs is None else obs.set_axis(cells)
    text = [c for c in obs if obs[c].dtype.kind not in "iufb"]
    out = _plain(None, obs.astype(dict.fromkeys(text, object)), genes)
    for key, (X, *_) in matrices.items():
        if key == "X":
            out.X = X
        elif X.shape == out.shape:
            out.layers[key] = X
    out.obsm.update({f"X_{key}": np.asarray(array) for key, array in arrays.items()})
    return out


def _is_matrix(value: Any) -> bool:
    if isinstance(value, pd.DataFrame):
        return all(dtype.kind in "biuf" for dtype in value.dtypes)
    return hasattr(value, "Dim") or len(getattr(value, "dims", np.shape(value))) == 2


def _seurat(assay: Any) -> dict[str, tuple[sp.csr_matrix, list[str], list[str]]]:
    """Counts and data of an assay; in v5 each layer has the cells and genes that two maps tell."""
    if not hasattr(assay, "layers"):
        found = {key: r_matrix(getattr(assay, key)) for key in ("counts", "data")}
        return {key: parts for key, parts in found.items() if all(parts[0].shape)}
    sides = [assay.features, assay.cells]
    genes, cells = ([*map(str, side.coords[side.dims[0]].to_numpy())] for side in sides)
    found = {}
    for key, layer in dict(assay.layers).items():
        if str(key).startswith("scale"):
            continue
        X, _, _ = r_matrix(layer)
        columns, rows = (
            np.flatnonzero(np.asarray(side.loc[:, key]).astype(int) == 1) for side in sides
        )
        X = X.tocoo()
        placed = (X.data, (rows[X.row], columns[X.col]))
        found[str(key)] = sp.csr_matrix(placed, (len(cells), len(genes))), cells, genes
    return found


# Pickles ----------------------------------------------------------------------------------------
def _number(kind: np.dtype, *raw: Any) -> Any:
    """A numpy number of a pickle; anything but a number is refused."""
    if not raw or kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"numpy scalar of type {kind}")
    return np.frombuffer(raw[0], dtype=kind)[0].item()


_SAFE: dict[str, Any] = {f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")}
_SAFE["numpy.dtype"] = np.dtype


class _Restricted(pickle.Unpickler):
    """Plain containers, strings and numbers; no other global is ever looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _SAFE:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _SAFE[f"{module}.{name}"]


def read_dictionary(path: str | Path) -> dict[Any, Any]:
    """Read a dictionary, from a pickle without running any code that it may carry.

    Parameters
    ----------
    path
        ``.json``, or a pickle of a dictionary of strings and numbers.

    Raises
    ------
    DataError
        When the pickle asks for anything but plain containers and numbers, or is damaged.
    """
    path = Path(path)
    remedy = "Anything but plain containers and numbers is refused, because it could run code."
    with reading(path, "dictionary", remedy), path.open("rb") as stream:
        found = json.load(stream) if path.suffix == ".json" else _Restricted(stream).load()
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
