"""Layer stores as one file to share: whoever has a GPU makes them, others read them.

The zip holds the store, which has no expression values, and ``sclin.json``: what the store is, the
licence of the weights, and the sha256 of every member. Import trusts none of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sclin.disk import need_room
from sclin.errors import ModelError, reading
from sclin.layers.store import LayerStore, store_name, stores_folder

__all__ = ["export_store", "import_store"]

_SAID = "sclin.json"
_TOLD = ("model", "checkpoint_sha256", "dataset", "n_cells", "layers", "poolings", "licence")
#: What readers of a store ask its manifest for.
_KINDS = {
    **dict.fromkeys(("model", "checkpoint_sha256", "dataset", "licence"), str),
    **dict.fromkeys(("n_cells", "range_cells", "depth"), int),
    **dict.fromkeys(("layers", "stored_layers", "poolings"), list),
    **dict.fromkeys(("genes", "data_layer", "final_is"), str | None),
}
#: The files of a zarr group, and no others.
_MEMBER = re.compile(r"([\w-]+/)*(zarr\.json|c(/\d+)*)")
_REMEDY = "Extract the layers again, or ask the sender for the file and its sha256."


def export_store(store: str | Path, file: str | Path) -> Path:
    """Write a finished store into one zip.

    Parameters
    ----------
    store
        Folder of the store.
    file
        The zip to make; it must not be there yet.

    Returns
    -------
    Path
        The zip: layers, cell names, counts of tokens, fingerprints, manifest and licence.

    Raises
    ------
    ModelError
        When the store is damaged or not finished, or `file` is there.
    """
    folder, target = Path(store), Path(file)
    opened = _checked(folder, folder)
    if target.exists():
        raise ModelError(f"{target} is there already; name another file.")
    members = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in members)
    need_room(target.parent, size, target.name, error=ModelError)
    hashes = {}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        part = Path(scratch) / target.name
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for path in members:
                name, body = path.relative_to(folder).as_posix(), path.read_bytes()
                hashes[name] = hashlib.sha256(body).hexdigest()
                archive.writestr(zipfile.ZipInfo(name), body)
            said = {key: opened.manifest[key] for key in _TOLD}
            said |= {"note": "No expression values. The licence of the weights holds for these."}
            said |= {"sha256": hashes}
            archive.writestr(zipfile.ZipInfo(_SAID), json.dumps(said, indent=1))
        return part.replace(target)


def import_store(file: str | Path) -> LayerStore:
    """Check a shared zip and put its store where `sclin.layers.find_store` looks.

    Parameters
    ----------
    file
        From `export_store`.

    Returns
    -------
    LayerStore
        Named after model, checkpoint, data and poolings.

    Raises
    ------
    ModelError
        When a member is missing, changed, unexpected, or lies outside; when the numbers differ
        from their checksums; when such a store is there, or the disk is too small.
    """
    path, home = Path(file), stores_folder()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".import-") as scratch:
        draft = Path(scratch) / "store.zarr"
        _unpack(path, draft)
        target = home / f"{store_name(_checked(draft, path).manifest)}.zarr"
        if target.exists():
            raise ModelError(f"{target} is there already: remove it first, or go on with it.")
        os.replace(draft, target)
    return LayerStore.open(target)


def _unpack(path: Path, draft: Path) -> None:
    """Write the members that the list names, and no others, each with its sha256."""
    with (
        reading(path, "shared layer store", _REMEDY, error=ModelError),
        zipfile.ZipFile(path) as archive,
    ):
        infos = archive.infolist()
        size = sum(info.file_size for info in infos)
        if size > path.stat().st_size:
            raise ModelError(f"{path} is packed: it would grow to {size:,} bytes. {_REMEDY}")
        need_room(draft.parent, size, str(path), error=ModelError)
        hashes = json.loads(archive.read(_SAID))["sha256"]
        if sorted(info.filename for info in infos) != sorted([*hashes, _SAID]):
            raise ModelError(f"{path} holds other members than its list names. {_REMEDY}")
        for name, sha256 in hashes.items():
            if not _MEMBER.fullmatch(name):
                raise ModelError(f"{path} holds {name!r}, which is no part of a store. {_REMEDY}")
            body = archive.read(name)
            if hashlib.sha256(body).hexdigest() != sha256:
                raise ModelError(f"{path}: {name} is not the file that was exported. {_REMEDY}")
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(body)


def _checked(folder: Path, path: Path) -> LayerStore:
    """Open a store that is what its manifest says, and claims no more memory than it has bytes."""
    with reading(path, "layer store to share", _REMEDY, error=ModelError):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        group: Any = zarr.open_group(str(folder), mode="r", zarr_format=3)
        for name, array in group.members(max_depth=None):
            if isinstance(array, zarr.Array):
                chunk = math.prod(array.chunks) * array.dtype.itemsize
                packed = array.compressors or array.filters or array.shards
                if packed or max(array.nbytes, chunk) > size:
                    raise ModelError(f"{path}: {name} is packed, or claims too much. {_REMEDY}")
        store = LayerStore.open(folder)
        said, (*layers, n_tokens, n_cut) = store.manifest, store._arrays()
        n, n_ranges = said["n_cells"], -(-said["n_cells"] // said["range_cells"])
        depths = [store.relative_depth(layer) for layer in store.layers]
        right = (
            all(isinstance(said[key], kind) for key, kind in _KINDS.items())
            and all(one.ndim == 2 and one.dtype == np.float32 for one in layers)
            and all(one.dtype == np.int32 for one in (n_tokens, n_cut))
            and "fingerprint" in store.obs
            and {one.shape[0] for one in (*layers, n_tokens, n_cut, store.obs)} == {n}
            and store._marks.shape == (n_ranges,)
            and {store._stored(layer) for layer in store.layers} <= set(said["stored_layers"])
            and 0 <= min(depths) <= max(depths) <= 1
            and re.fullmatch(r"[\w.-]+", store_name(said))
        )
        if not right:
            raise ModelError(f"{path} holds arrays that do not fit its manifest. {_REMEDY}")
        bad = store.verify().query("state != 'ok'")
    if len(bad):
        raise ModelError(
            f"{path} is not whole: {len(bad)} of its ranges are "
            f"{' or '.join(sorted(set(bad['state'])))}. Run the same extraction again."
        )
    return store
