"""The layer store: an AnnData zarr with every layer of every cell, safe to kill and to resume.

``anndata.read_zarr`` opens it. ``obsm["mean_layer_03"]`` holds layer 3 pooled by the mean, ``obs``
how many tokens each cell gave, ``uns["sclin"]`` what made the store and which ranges of cells are
finished. A range is marked after its numbers are written, each range in chunks of its own, so a
killed run loses what it had in hand, and several processes fill a store together: each locks the
range it works on, and the system frees the locks of a dead process.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sclin.disk import need_room
from sclin.errors import ModelError, nearest
from sclin.layers.tokens import fingerprints

if TYPE_CHECKING:
    from sclin.layers.models.base import Model

__all__ = ["LayerStore", "find_rows", "find_store"]

#: Manifest entries that may differ when a run goes on in an existing store.
_FREE = ("device", "licence", "versions")


class LayerStore:
    """Layers of one model on the cells of one data set; `sclin.layers.extract` makes it.

    Attributes
    ----------
    path
        Folder of the store.
    manifest
        What made it: model, checkpoint, data set, layers, poolings, precision, versions.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group: Any = group
        self._locks: dict[int, FileLock] = {}
        self._marks: Any = group["uns/sclin/crc32"]
        self.manifest: dict[str, Any] = json.loads(ad.io.read_elem(group["uns/sclin/manifest"]))

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
            When there is none at `path`.
        """
        folder = Path(path)
        if not folder.exists():
            raise ModelError(f"There is no layer store at {folder}: make one with layers.extract.")
        try:
            group = zarr.open_group(str(folder), mode="r+" if os.access(folder, os.W_OK) else "r")
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} is not a zarr group: {error}") from error
        if "uns/sclin/manifest" not in group:
            raise ModelError(f"{folder} is a zarr group, but no layer store: it has no manifest.")
        return cls(folder, group)

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
    def obs(self) -> pd.DataFrame:
        """One row a cell: ``n_tokens`` (0: no gene of the vocabulary, so its rows are NaN),
        ``n_cut`` (genes that did not fit the context) and ``fingerprint`` (genes and counts).
        """
        table: pd.DataFrame = ad.io.read_elem(self._group["obs"])
        return table

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the ranges still to be written."""
        return np.flatnonzero(self._marks[:] < 0).tolist()

    def relative_depth(self, layer: str | int) -> float:
        """Depth of a layer from 0 (embedding) to 1 (last block and after).

        Examples
        --------
        >>> store.relative_depth(2)  # of a model with four blocks  # doctest: +SKIP
        0.5
        """
        name = self._stored(layer)
        return 1.0 if name == "final" else int(name) / int(self.manifest["depth"])

    def _stored(self, layer: str | int) -> str:
        """Name under which a layer is kept: the final layer may be one of the others."""
        (name,) = chosen(layer, self.layers, f"{self.path.name} has no layer")
        return self.manifest["final_is"] or name if name == "final" else name

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
        asked = self.poolings[0] if pooling is None else pooling
        (pooling,) = chosen(asked, self.poolings, f"{self.path.name} has no pooling")
        key = _key(pooling, self._stored(layer))
        if left := self.unfinished:
            raise ModelError(
                f"{self.path.name} is not finished: {len(left)} of {self._marks.size} "
                "ranges are missing. Run the same extraction again; it goes on where it stopped."
            )
        found = np.empty(self._group["obsm"][key].shape, "<f4")

        def fill(number: int) -> None:
            part = found[slice(*self.range(number))]
            file = self.path / "obsm" / key / "c" / f"{number}" / "0"
            if not file.exists():  # zarr writes no chunk that is all NaN
                part[:] = np.nan
                return
            with file.open("rb", buffering=0) as stream:  # a chunk is its numbers alone
                if stream.readinto(part.data) < part.nbytes:
                    raise ModelError(f"{file} is cut: sclin layers verify --repair, and extract.")

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(self._marks.size)))
        return found

    def rows(self, adata: ad.AnnData) -> NDArray[np.int64]:
        """Find the cells of an AnnData in the store, by name, genes and counts.

        Returns
        -------
        numpy.ndarray
            Row of each cell in `read`, ``(n_obs,)``.

        Raises
        ------
        ModelError
            When cells are missing, names are not unique, or a cell has other genes or counts.
        """
        known = self.obs
        if adata.n_obs == len(known) and (adata.obs_names == known.index).all():
            index = np.arange(len(known))
        elif not known.index.is_unique:
            raise ModelError(
                f"Cell names of {self.path.name} are not unique, so cells cannot be found by "
                "name. Call adata.obs_names_make_unique() before the extraction."
            )
        else:
            index = known.index.get_indexer(adata.obs_names)
        if (index < 0).any():
            missing = adata.obs_names[index < 0]
            raise ModelError(
                f"{len(missing):,} of {adata.n_obs:,} cells are not in {self.path.name}, such "
                f"as {', '.join(map(str, missing[:3]))}. Extract the layers of these data first."
            )
        layer, genes = self.manifest["data_layer"], self.manifest["genes"]
        seen = fingerprints(adata, layer=layer, genes=genes)
        other = adata.obs_names[seen != known["fingerprint"].to_numpy()[index]]
        if len(other):
            raise ModelError(
                f"{len(other):,} of {adata.n_obs:,} cells hold other genes or counts than in "
                f"{self.path.name}, such as {other[0]}: the store was made from another data set "
                "with the same cell names. Extract the layers of these data first."
            )
        return index

    # ---- writing and checking -------------------------------------------------------------

    def range(self, number: int) -> tuple[int, int]:
        """First cell and end of a range."""
        per = int(self.manifest["range_cells"])
        return number * per, min((number + 1) * per, int(self.manifest["n_cells"]))

    def _arrays(self) -> list[Any]:
        """What a range fills: every layer and pooling, then the marks of the cells."""
        keys = [f"obsm/{_key(p, n)}" for p in self.poolings for n in self.manifest["stored_layers"]]
        return [self._group[key] for key in (*keys, "obs/n_tokens", "obs/n_cut")]

    def claims(self, rank: int = 0, world: int = 1) -> Generator[int | None]:
        """Give this process ranges to write, each locked for it, until none is unfinished.

        Its own share comes first, then what other processes have left. The locks lie beside the
        store, so that a store holds nothing else, and go when it is finished.

        Parameters
        ----------
        rank, world
            This process, and the number of them: its share is every `world`-th range.

        Yields
        ------
        int or None
            Number of a range, to be written; ``None`` after each round, when all that is left is
            in work, here or elsewhere.
        """
        folder = self.path.parent / f".{self.path.name}.locks"
        try:
            while left := sorted(self.unfinished, key=lambda number: number % world != rank):
                for number in left:
                    lock = FileLock(folder / str(number), thread_local=False)
                    try:
                        lock.acquire(timeout=0)
                    except Timeout:
                        continue
                    except OSError as error:
                        raise _disk_error(self.path, "A lock", error) from error
                    if self._marks[number] < 0:
                        self._locks[number] = lock
                        yield number
                    else:  # another process wrote it in the meantime
                        lock.release()
                yield None
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            while self._locks:
                self._locks.popitem()[1].release()

    def write(
        self,
        number: int,
        pooled: Mapping[str, NDArray[np.float32]],
        n_tokens: NDArray[np.integer],
        n_cut: NDArray[np.integer],
    ) -> None:
        """Write one range, then mark it finished and free its lock.

        Parameters
        ----------
        number
            Number of the range.
        pooled
            For each pooling an array ``(n_layers, cells of the range, features)``.
        n_tokens, n_cut
            One number a cell.
        """
        start, stop = self.range(number)
        parts = [part for name in self.poolings for part in pooled[name]]
        crc = 0
        try:
            for array, part in zip(self._arrays(), [*parts, n_tokens, n_cut], strict=True):
                values = np.ascontiguousarray(part, array.dtype)
                array[start:stop] = values
                crc = zlib.crc32(values.tobytes(), crc)
            self._marks[number] = crc
            if lock := self._locks.pop(number, None):
                lock.release()
        except OSError as error:
            raise _disk_error(self.path, f"cells {start:,} to {stop:,}", error) from error

    def verify(self) -> pd.DataFrame:
        """Compare every range with the checksum taken when it was written.

        Returns
        -------
        pandas.DataFrame
            One row a range: first cell, end, state (``ok``, ``damaged`` or ``missing``).
        """
        rows = []
        for number, wanted in enumerate(self._marks[:]):
            start, stop = self.range(number)
            seen = 0
            for array in self._arrays() if wanted >= 0 else []:
                seen = zlib.crc32(array[start:stop].tobytes(), seen)
            state = "missing" if wanted < 0 else "ok" if seen == wanted else "damaged"
            rows.append({"range": number, "first": start, "end": stop, "state": state})
        return pd.DataFrame(rows)

    def forget(self, numbers: Iterable[int]) -> None:
        """Mark ranges as unfinished, so that the next run writes them again."""
        for number in numbers:
            self._marks[number] = -1


def chosen(asked: Any, there: Sequence[str], has_no: str) -> list[str]:
    """Names of layers or poolings that were asked for, one or several, each known."""
    names = [str(name) for name in ([asked] if isinstance(asked, str | int) else asked)]
    for name in names or [""]:
        if name not in there:
            raise ModelError(f"{has_no} {name!r}; it has {', '.join(there)}.{nearest(name, there)}")
    return sorted(set(names), key=names.index)


def _key(pooling: str, layer: str) -> str:
    return f"{pooling}_layer_{layer.zfill(2)}"


def open_or_create(
    folder: Path, manifest: Mapping[str, Any], prints: pd.Series, widths: Mapping[str, int]
) -> LayerStore:
    """Make a store, or open the one that the same run began before.

    The folder appears at once and complete, so several processes may call this together.

    Parameters
    ----------
    folder
        Folder of the store.
    manifest
        The run's description; see `LayerStore.manifest`.
    prints
        Fingerprint of each cell by its name, in the order of the data set.
    widths
        Features of each pooling.

    Raises
    ------
    ModelError
        When `folder` holds a store of another model, data set or option, something else, or the
        disk is full.
    """
    if not folder.exists():
        size = 4 * len(prints) * len(manifest["stored_layers"]) * sum(widths.values())
        need_room(folder.parent, size, folder.name, error=ModelError)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            _fill(draft, manifest, prints, widths)
            try:
                draft.rename(folder)
            except OSError:
                shutil.rmtree(draft)
                if not folder.exists():
                    raise
        except OSError as error:
            raise _disk_error(folder, "the new store", error) from error
    store = LayerStore.open(folder)
    differ = [
        f"{key}: store has {store.manifest.get(key)!r}, this run {value!r}"
        for key, value in manifest.items()
        if key not in _FREE and store.manifest.get(key) != value
    ]
    if differ:
        raise ModelError(
            f"{folder} was made by another run ({'; '.join(differ)}). "
            "Give another folder, or remove this one first."
        )
    return store


def _fill(
    draft: Path, manifest: Mapping[str, Any], prints: pd.Series, widths: Mapping[str, int]
) -> None:
    group: Any = zarr.open_group(str(draft), mode="w", zarr_format=3)
    n, per = len(prints), int(manifest["range_cells"])
    obs = pd.DataFrame({"n_tokens": 0, "n_cut": 0, "fingerprint": prints})
    cells = ad.AnnData(
        obs=obs.astype({"n_tokens": "int32", "n_cut": "int32"}),
        uns={"sclin": {"manifest": json.dumps(manifest)}},
    )
    # Nothing is packed, so that a store from elsewhere cannot be more than its files.
    plain: dict[str, Any] = {"chunks": (min(per, n),), "shards": None, "compressors": None}
    ad.io.write_elem(group, "/", cells, dataset_kwargs=plain)
    del group["raw"]  # says only that there is none, and is packed all the same
    spec = {"encoding-type": "array", "encoding-version": "0.2.0"}
    plain = {"compressors": None, "attributes": spec}
    for pooling, width in widths.items():
        for layer in manifest["stored_layers"]:
            size = {"shape": (n, width), "chunks": (min(per, n), width), "dtype": "float32"}
            group["obsm"].create_array(_key(pooling, layer), **size, fill_value=np.nan, **plain)
    group["uns/sclin"].create_array(
        "crc32", shape=(-(-n // per),), chunks=(1,), dtype="int64", fill_value=-1, **plain
    )


def _disk_error(folder: Path, what: str, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            f"The disk of {folder} is full: {what} could not be written ({error}). "
            "Finished ranges are kept; free some space and run the same extraction again."
        )
    return ModelError(f"{what} could not be written to {folder}: {error}")


def store_name(manifest: Mapping[str, Any]) -> str:
    """Name of the store that a manifest describes: model, checkpoint, data and poolings."""
    told = manifest["model"], manifest["checkpoint_sha256"][:8], manifest["dataset"]
    return "-".join([*told, *manifest["poolings"]])


def stores_folder() -> Path:
    """Folder of the layer stores: ``$SCLIN_LAYERS``, else ``layers`` in the data cache."""
    if folder := os.environ.get("SCLIN_LAYERS"):
        return Path(folder)
    from sclin import datasets

    return Path(datasets.cache_dir()) / "layers"


def find_store(model: Model | str, adata: ad.AnnData) -> LayerStore:
    """Find the store of a model that holds the cells of an AnnData.

    ``$SCLIN_LAYERS``, else ``layers`` in the data cache, is searched, newest store first.

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
    return find_rows(model, adata)[0]


def find_rows(model: Model | str, adata: ad.AnnData) -> tuple[LayerStore, NDArray[np.int64]]:
    """Find the store as `find_store` does, and the rows of the cells in it."""
    name, sha = (model, None) if isinstance(model, str) else (model.name, model.checkpoint_sha256)
    folder = stores_folder()
    why, seen = [], set()
    named = f"{name}-"  # those that are called so first: each takes long to open
    paths = folder.glob("*.zarr")
    for path in sorted(paths, key=lambda p: (not p.name.startswith(named), -p.stat().st_mtime)):
        try:
            store = LayerStore.open(path)
            seen.add(store.manifest["model"])
            if store.manifest["model"] != name:
                continue
            if sha not in (None, store.manifest["checkpoint_sha256"]):
                raise ModelError(f"{path.name} is of another checkpoint.")
            if store.unfinished:
                raise ModelError(f"{path.name} is not finished.")
            return store, store.rows(adata)
        except ModelError as error:
            if path.name.startswith(named):
                why.append(str(error))
    others = f"Stores there are of: {', '.join(sorted(seen)) or 'no model'}."
    raise ModelError(
        f"No layer store of {name!r} in {folder} holds these {adata.n_obs:,} cells. "
        f"{' '.join(why[:2]) or others} "
        f"Make one with layers.extract(model, adata).{nearest(name, seen - {name})}"
    )
