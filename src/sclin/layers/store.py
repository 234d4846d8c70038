"""The layer store: every layer of every cell in one zarr group, safe to kill and to resume.

A store is a folder with a manifest (its attributes), one array per pooling of shape
``(layer, cell, feature)``, and the list of finished ranges of cells.
A range is marked after its numbers are written, so a killed run loses at most one range per
process, and several processes can fill different ranges at the same time.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from sclin.errors import ModelError, nearest
from sclin.layers.tokens import dataset_id, read_rows, row_bytes

if TYPE_CHECKING:
    from sclin.layers.models.base import Model

__all__ = ["LayerStore", "default_store", "find_store", "stores_folder", "verify"]

#: Manifest entries that must agree before a run may go on in an existing store.
_IDENTITY = (
    "model",
    "checkpoint_sha256",
    "options",
    "dataset",
    "n_cells",
    "data_layer",
    "genes",
    "layers",
    "poolings",
    "precision",
    "range_cells",
    "batching",
)
_WORDS = {
    "dataset": "data set",
    "checkpoint_sha256": "checkpoint",
    "data_layer": "layer of the data",
    "genes": "column of gene ids",
    "range_cells": "cells per range",
}


def row_check(adata: ad.AnnData, start: int, stop: int, layer: str | None) -> NDArray[np.uint32]:
    """Checksum of each cell's counts, ``(stop - start,)``."""
    cells = row_bytes(read_rows(adata, start, stop, layer=layer))
    return np.array([zlib.crc32(data, zlib.crc32(index)) for index, data in cells], dtype=np.uint32)


def _names_check(names: Iterable[str]) -> int:
    return zlib.crc32("\n".join(map(str, names)).encode())


class LayerStore:
    """Layers of one model on the cells of one data set.

    Open one with `LayerStore.open`; `sclin.layers.extract` makes them.

    Attributes
    ----------
    path
        Folder of the store.
    manifest
        What made it: model, checkpoint, data set, layers, poolings, precision, versions.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self.manifest: dict[str, Any] = dict(group.attrs)
        self._cells: pd.Index | None = None

    def _array(self, name: str) -> Any:
        return self._group[name]

    def __repr__(self) -> str:
        m = self.manifest
        return (
            f"LayerStore({m['model']}: {m['n_cells']:,} cells, layers {', '.join(self.layers)}, "
            f"pooling {', '.join(self.poolings)})"
        )

    @classmethod
    def open(cls, path: str | Path) -> LayerStore:
        """Open a store.

        Raises
        ------
        ModelError
            When there is none at `path`, or it is not a layer store.
        """
        folder = Path(path)
        if not folder.exists():
            raise ModelError(f"There is no layer store at {folder}: make one with layers.extract.")
        try:
            group = zarr.open_group(str(folder), mode="r+" if os.access(folder, os.W_OK) else "r")
        except (FileNotFoundError, OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} is not a zarr group: {error}") from error
        if group.attrs.get("format") != "sclin layer store":
            raise ModelError(
                f"{folder} is a zarr group, but no layer store: its attributes do not say so."
            )
        return cls(folder, group)

    @classmethod
    def create(
        cls,
        path: str | Path,
        manifest: Mapping[str, Any],
        cell_ids: Sequence[str],
        widths: Mapping[str, int],
    ) -> LayerStore:
        """Make a store, or open the one that the same run began before.

        The folder appears at once and complete, so several processes may call this together.

        Parameters
        ----------
        path
            Folder of the store.
        manifest
            The run's description; see `LayerStore.manifest`.
        cell_ids
            Names of the cells, in the order of the data set.
        widths
            Features of each pooling.

        Raises
        ------
        ModelError
            When `path` holds a store of another model, data set or option, something else, or
            the disk is full.
        """
        folder = Path(path)
        if not folder.exists():
            n, per = len(cell_ids), int(manifest["range_cells"])
            size = 4 * n * len(manifest["stored_layers"]) * sum(widths.values())
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(folder.parent).free
                if size > free:
                    raise OSError(errno.ENOSPC, f"needs {size:,} bytes, {free:,} are free")
                draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
                cls._fill(draft, manifest, cell_ids, widths, n, per)
                try:
                    draft.rename(folder)
                except OSError:
                    shutil.rmtree(draft)
                    if not folder.exists():
                        raise
            except OSError as error:
                raise _disk_error(folder, "the new store", error) from error
        store = cls.open(folder)
        store.check(manifest)
        return store

    @staticmethod
    def _fill(
        draft: Path,
        manifest: Mapping[str, Any],
        cell_ids: Sequence[str],
        widths: Mapping[str, int],
        n: int,
        per: int,
    ) -> None:
        group = zarr.open_group(str(draft), mode="w")
        group.attrs.update({"format": "sclin layer store", **manifest})
        plain: dict[str, Any] = {"compressors": None, "filters": None}
        for pooling, width in widths.items():
            group.create_array(
                f"pooling/{pooling}",
                shape=(len(manifest["stored_layers"]), n, width),
                chunks=(1, min(per, n), width),
                dtype="float32",
                fill_value=float("nan"),
                **plain,
            )
        for name, dtype in (
            ("empty", "bool"),
            ("cut", "int32"),
            ("tokens", "int32"),
            ("check", "uint32"),
        ):
            group.create_array(
                f"cells/{name}", shape=(n,), chunks=(min(per, n),), dtype=dtype, **plain
            )
        names = np.frombuffer("\n".join(map(str, cell_ids)).encode(), np.uint8)
        group.create_array("cells/ids", data=names)
        ranges = -(-n // per)
        group.create_array("finished", shape=(ranges, 2), chunks=(1, 2), dtype="int64", **plain)

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Raise ModelError when the store was made by another model, data set or option."""
        wrong = [key for key in _IDENTITY if self.manifest.get(key) != manifest.get(key)]
        if wrong:
            found = "; ".join(
                f"{_WORDS.get(key, key)}: store has {self.manifest.get(key)!r}, "
                f"this run {manifest.get(key)!r}"
                for key in wrong
            )
            raise ModelError(
                f"{self.path} was made by another run ({found}). "
                "Give another folder, or remove this one first."
            )

    # ---- what is inside -------------------------------------------------------------------

    @property
    def layers(self) -> list[str]:
        """Names of the layers, ``"0"`` (embedding), ``"1"`` .. ``"L"``, ``"final"``."""
        return list(self.manifest["layers"])

    @property
    def poolings(self) -> list[str]:
        """Names of the poolings; the first is the default."""
        return list(self.manifest["poolings"])

    @property
    def cell_ids(self) -> pd.Index:
        """Names of the cells, in the order of the data set."""
        if self._cells is None:
            text = bytes(np.asarray(self._array("cells/ids")[:])).decode()
            self._cells = pd.Index(text.split("\n"))
        return self._cells

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Cells without one gene of the vocabulary; their rows are NaN. ``(n_cells,)``."""
        return np.asarray(self._array("cells/empty")[:])

    @property
    def cut(self) -> NDArray[np.int32]:
        """Genes of each cell that did not fit the context, ``(n_cells,)``."""
        return np.asarray(self._array("cells/cut")[:])

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Tokens of each cell, special ones included, ``(n_cells,)``."""
        return np.asarray(self._array("cells/tokens")[:])

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the ranges still to be written."""
        return np.flatnonzero(np.asarray(self._array("finished")[:, 0]) == 0).tolist()

    def relative_depth(self, layer: str | int) -> float:
        """Depth of a layer from 0 (embedding) to 1 (last block and after).

        Examples
        --------
        >>> store.relative_depth(2)  # of a model with four blocks  # doctest: +SKIP
        0.5
        """
        name = self._layer(layer)
        if name == "final":
            name = self.manifest["final_is"] or str(self.manifest["depth"])
        return int(name) / int(self.manifest["depth"])

    def _layer(self, layer: str | int) -> str:
        name = str(layer)
        if name not in self.layers:
            raise ModelError(
                f"{self.path.name} has no layer {name!r}; it has {', '.join(self.layers)}."
            )
        return name

    def read(self, layer: str | int, pooling: str | None = None) -> NDArray[np.float32]:
        """Read one layer.

        Parameters
        ----------
        layer
            Name of the layer, such as ``3`` or ``"final"``.
        pooling
            Name of the pooling; the store's first when ``None``.

        Returns
        -------
        numpy.ndarray
            ``(n_cells, n_features)`` float32 in the order of the data set; rows of empty cells
            are NaN.

        Raises
        ------
        ModelError
            Unknown layer or pooling, or a run that was not finished.
        """
        pooling = self.poolings[0] if pooling is None else pooling
        if pooling not in self.poolings:
            raise ModelError(
                f"{self.path.name} has no pooling {pooling!r}; it has {', '.join(self.poolings)}."
                f"{nearest(pooling, self.poolings)}"
            )
        name = self._layer(layer)
        if left := self.unfinished:
            ranges = self._array("finished").shape[0]
            raise ModelError(
                f"{self.path.name} is not finished: {len(left)} of {ranges} "
                "ranges are missing. Run the same extraction again; it goes on where it stopped."
            )
        if name == "final" and self.manifest["final_is"]:
            name = self.manifest["final_is"]
        return np.asarray(
            self._array(f"pooling/{pooling}")[self.manifest["stored_layers"].index(name)]
        )

    def rows(self, adata: ad.AnnData) -> NDArray[np.int64]:
        """Find the cells of an AnnData in the store.

        Returns
        -------
        numpy.ndarray
            Row of each cell in `read`, ``(n_obs,)``.

        Raises
        ------
        ModelError
            When cells are missing, names are not unique, or, where the genes are those the
            store was made from, a cell holds other counts.
        """
        ids = self.cell_ids
        if adata.n_obs == len(ids) and (adata.obs_names == ids).all():
            index = np.arange(len(ids))
        else:
            if not ids.is_unique:
                raise ModelError(
                    f"Cell names of {self.path.name} are not unique, so cells cannot be found by "
                    "name. Call adata.obs_names_make_unique() before the extraction."
                )
            index = ids.get_indexer(adata.obs_names)
            if (index < 0).any():
                missing = adata.obs_names[index < 0]
                raise ModelError(
                    f"{len(missing):,} of {adata.n_obs:,} cells are not in {self.path.name}, such "
                    f"as {', '.join(map(str, missing[:3]))}. Extract the layers of these data "
                    "first."
                )
        if _names_check(adata.var_names) == self.manifest["genes_check"]:
            layer = self.manifest["data_layer"]
            check = np.asarray(self._array("cells/check")[:])
            sample = np.unique(np.linspace(0, adata.n_obs - 1, min(adata.n_obs, 32)).astype(int))
            for i in sample:
                if layer is not None and layer not in adata.layers:
                    break
                if row_check(adata, i, i + 1, layer)[0] != check[index[i]]:
                    raise ModelError(
                        f"Cell {adata.obs_names[i]} holds other counts than in {self.path.name}: "
                        "the store was made from another data set with the same cell names."
                    )
        return index

    def to_obsm(
        self,
        adata: ad.AnnData,
        *,
        layers: Iterable[str | int] | None = None,
        pooling: str | None = None,
        key: str = "X_{model}_{layer}",
    ) -> list[str]:
        """Put layers into ``adata.obsm``, rows matched by cell name.

        Returns
        -------
        list of str
            The keys that were written.
        """
        index = self.rows(adata)
        keys = []
        for layer in self.layers if layers is None else layers:
            keys.append(key.format(model=self.manifest["model"], layer=layer, pooling=pooling))
            adata.obsm[keys[-1]] = self.read(layer, pooling)[index]
        return keys

    # ---- writing --------------------------------------------------------------------------

    def range(self, number: int) -> tuple[int, int]:
        """First cell and end of a range."""
        per = int(self.manifest["range_cells"])
        return number * per, min((number + 1) * per, int(self.manifest["n_cells"]))

    def write(
        self,
        number: int,
        pooled: Mapping[str, NDArray[np.float32]],
        marks: Mapping[str, NDArray[Any]],
    ) -> None:
        """Write one range, then mark it finished.

        Parameters
        ----------
        number
            Number of the range.
        pooled
            For each pooling an array ``(n_layers, cells of the range, features)``.
        marks
            For each of ``empty``, ``cut``, ``tokens``, ``check`` one value a cell.
        """
        start, stop = self.range(number)
        crc = 0
        try:
            for pooling in self.poolings:
                self._array(f"pooling/{pooling}")[:, start:stop] = pooled[pooling]
                crc = zlib.crc32(pooled[pooling].tobytes(), crc)
            for name, values in marks.items():
                self._array(f"cells/{name}")[start:stop] = values
            self._array("finished")[number] = np.array([1, crc])
        except OSError as error:
            raise _disk_error(self.path, f"cells {start:,} to {stop:,}", error) from error

    def damaged(self) -> list[int]:
        """Numbers of the finished ranges whose bytes differ from what was written."""
        bad = []
        for number, (done, crc) in enumerate(np.asarray(self._array("finished")[:])):
            if not done:
                continue
            start, stop = self.range(number)
            seen = 0
            for pooling in self.poolings:
                part = np.asarray(self._array(f"pooling/{pooling}")[:, start:stop])
                seen = zlib.crc32(part.tobytes(), seen)
            if seen != crc:
                bad.append(number)
        return bad

    def forget(self, numbers: Iterable[int]) -> None:
        """Mark ranges as unfinished, so that the next run writes them again."""
        for number in numbers:
            self._array("finished")[number] = np.array([0, 0])


def _disk_error(folder: Path, what: str, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            f"The disk of {folder} is full: {what} could not be written ({error}). "
            "Finished ranges are kept; free some space and run the same extraction again."
        )
    return ModelError(f"{what} could not be written to {folder}: {error}")


def stores_folder() -> Path:
    """Folder of the layer stores: ``$SCLIN_LAYERS``, else ``layers`` in the data cache."""
    if folder := os.environ.get("SCLIN_LAYERS"):
        return Path(folder)
    from sclin import datasets

    return Path(datasets.cache_dir()) / "layers"


def default_store(
    model: Model, adata: ad.AnnData, *, poolings: Sequence[str] = (), layer: str | None = None
) -> Path:
    """Path of a model's store for a data set when none is named."""
    tag = f"{model.checkpoint_sha256[:8]}-{dataset_id(adata, layer=layer)}"
    extra = "".join(f"-{name}" for name in poolings)
    return stores_folder() / f"{model.name}-{tag}{extra}.zarr"


def find_store(model: Model | str, adata: ad.AnnData) -> LayerStore:
    """Find the store of a model that holds the cells of an AnnData.

    The folder `stores_folder` is searched, newest store first.

    Parameters
    ----------
    model
        A model or its name.
    adata
        The cells; a subset of the cells of the store is fine.

    Raises
    ------
    ModelError
        When no finished store of that model holds all the cells.
    """
    name = model if isinstance(model, str) else model.name
    folder = stores_folder()
    why, seen = [], set()
    for path in sorted(folder.glob("*.zarr"), key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            store = LayerStore.open(path)
        except ModelError:
            continue
        seen.add(store.manifest["model"])
        if store.manifest["model"] != name:
            continue
        if not isinstance(model, str) and (
            store.manifest["checkpoint_sha256"] != model.checkpoint_sha256
        ):
            why.append(f"{path.name}: another checkpoint")
        elif store.unfinished:
            why.append(f"{path.name}: not finished")
        else:
            try:
                store.rows(adata)
            except ModelError as error:
                why.append(f"{path.name}: {error}")
            else:
                return store
    raise ModelError(
        f"No layer store of {name!r} in {folder} holds these {adata.n_obs:,} cells. "
        + (" ".join(why) + " " if why else f"Stores there are of: {', '.join(sorted(seen))}. ")
        + f"Make one with layers.extract(model, adata).{nearest(name, seen - {name})}"
    )


def verify(path: str | Path) -> pd.DataFrame:
    """Check a store range by range against the checksums taken when it was written.

    Returns
    -------
    pandas.DataFrame
        One row a range: first cell, end, state (``ok``, ``damaged`` or ``missing``).
    """
    store = LayerStore.open(path)
    missing, bad = set(store.unfinished), set(store.damaged())
    rows = []
    for number in range(store._array("finished").shape[0]):
        start, stop = store.range(number)
        state = "missing" if number in missing else "damaged" if number in bad else "ok"
        rows.append({"range": number, "first": start, "end": stop, "state": state})
    return pd.DataFrame(rows)
