"""Layer stores as one file to share: whoever has a GPU makes them, others read them.

The zip holds the store, which has no expression values, and ``sclin.json``: what the store is, the
licence of the weights, and the sha256 of every member. Import trusts none of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from sclin.errors import ModelError, reading
from sclin.layers.store import LayerStore, store_name, stores_folder

__all__ = ["export_store", "import_store"]

_SAID = "sclin.json"
_TOLD = ("model", "checkpoint_sha256", "dataset", "n_cells", "layers", "poolings", "licence")
_REMEDY = "Ask its sender for the file and its sha256 again."


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
    opened, target = LayerStore.open(store), Path(file)
    _whole(opened)
    if target.exists():
        raise ModelError(f"{target} is there already; name another file.")
    members = sorted(path for path in opened.path.rglob("*") if path.is_file())
    hashes = {}
    part = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for path in members:
            name, body = path.relative_to(opened.path).as_posix(), path.read_bytes()
            hashes[name] = hashlib.sha256(body).hexdigest()
            archive.writestr(zipfile.ZipInfo(name), body)
        said = {key: opened.manifest[key] for key in _TOLD}
        said |= {"note": "No expression values. The licence of the weights holds for the layers."}
        archive.writestr(zipfile.ZipInfo(_SAID), json.dumps({**said, "sha256": hashes}, indent=1))
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
        with reading(path, "shared layer store", _REMEDY, error=ModelError):
            with zipfile.ZipFile(path) as archive:
                _unpack(path, archive, draft)
            store = LayerStore.open(draft)
            size = sum(each.stat().st_size for each in draft.rglob("*") if each.is_file())
            name = _checked_name(path, store, size)
        _whole(store)
        target = home / f"{name}.zarr"
        if target.exists():
            raise ModelError(f"{target} is there already: remove it first, or go on with it.")
        os.replace(draft, target)
    return LayerStore.open(target)


def _whole(store: LayerStore) -> None:
    bad = store.verify().query("state != 'ok'")
    if len(bad):
        raise ModelError(
            f"{store.path.name} is not whole: {len(bad)} of its ranges are "
            f"{' or '.join(sorted(set(bad['state'])))}. Run the same extraction again."
        )


def _unpack(path: Path, archive: zipfile.ZipFile, draft: Path) -> None:
    """Write the members that the list names, and no others, each with its sha256."""
    hashes = json.loads(archive.read(_SAID))["sha256"]
    infos = {info.filename: info for info in archive.infolist() if info.filename != _SAID}
    size = sum(info.file_size for info in infos.values())
    free = shutil.disk_usage(draft.parent).free
    if set(infos) != set(hashes) or len(archive.infolist()) != len(infos) + 1:
        raise ModelError(f"{path} holds other members than its list names. {_REMEDY}")
    if size > free:
        raise ModelError(f"{path} needs {size:,} bytes, and {free:,} are free in {draft.parent}.")
    for name, info in infos.items():
        target = (draft / name).resolve()
        if not target.is_relative_to(draft.resolve()) or not re.fullmatch(r"[\w./-]+", name):
            raise ModelError(f"{path} holds {name!r}, which lies outside of a store. {_REMEDY}")
        target.parent.mkdir(parents=True, exist_ok=True)
        body = archive.read(info)
        if hashlib.sha256(body).hexdigest() != hashes[name]:
            raise ModelError(f"{path}: {name} is not the file that was exported. {_REMEDY}")
        target.write_bytes(body)


def _checked_name(path: Path, store: LayerStore, size: int) -> str:
    """Name of the store, once its arrays have the shapes that its manifest claims."""
    arrays, n = store._arrays(), int(store.manifest["n_cells"])
    shapes = [tuple(array.shape) for array in arrays]
    small = sum(array.nbytes for array in arrays) <= size  # what is claimed is also there
    right = all(shape[0] == n for shape in shapes) and len(store.obs) == n and small
    kinds = {np.dtype(array.dtype).kind for array in arrays}
    name = store_name(store.manifest)
    if not right or not kinds <= {"f", "i"} or not re.fullmatch(r"[\w.-]+", name):
        raise ModelError(f"{path} holds arrays that do not fit its manifest. {_REMEDY}")
    return name
