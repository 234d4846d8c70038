"""Fetch a model's official files by name: what it costs is said before the first byte.

Files lie in the data cache under ``models/NAME``. ``hub.json`` beside them records the commit of
the repository and the sha256 of each file; from then on both are enforced.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from sclin.datasets import files
from sclin.datasets.entries import RemoteFile, catalogue
from sclin.disk import need_room, sha256_of
from sclin.errors import DataError, ModelError, nearest, reading

__all__ = ["fetch_model", "licence_line"]

_MAIN = (".safetensors", ".ckpt", ".tar.gz")
#: Rough FLOP a second of a thread and of a data-centre GPU in these models.
_CPU_RATE, _GPU_RATE = 4e10, 2e14


def licence_line(name: str, entry: Any) -> str:
    """One line that says under which licence the weights of a model are."""
    warning = "" if entry.commercial else " NON-COMMERCIAL: research use only."
    return f"{name}: weights under {entry.licence.rstrip('.')}.{warning}"


def fetch_model(name: str) -> tuple[Path, dict[str, Any]]:
    """Download a model of the catalogue, or find it in the cache.

    Returns
    -------
    tuple
        Folder or file of the model, and the options its loader needs.

    Raises
    ------
    ModelError
        When the catalogue does not know the model, its weights are at no address, the address
        does not answer, a file is not the one recorded, or the disk is too small.
    """
    models = catalogue().models
    if name not in models:
        raise ModelError(
            f"The catalogue has no model {name!r}; it has {', '.join(models) or 'none'}. Give the "
            f"folder of a model that you have: load_model({name!r}, path).{nearest(name, models)}"
        )
    entry = models[name]
    wanted = [entry.archive] if entry.archive else entry.files
    if not wanted:
        print(licence_line(name, entry))
        raise ModelError(
            f"The weights of {name} are not on a hub ({entry.page}). "
            "Download them from their authors and give the path."
        )
    commit, known = _recorded(name)
    remote = {
        file: RemoteFile(f"models/{name}/{Path(file).name}", (), known.get(file)) for file in wanted
    }
    found = {file: path for file, one in remote.items() if (path := files.locate(one))}
    if len(found) < len(wanted):
        found = _fetch(name, entry, commit, remote)
    if len(folders := sorted({str(path.parent) for path in found.values()})) > 1:
        raise ModelError(
            f"The files of {name} lie in {' and '.join(folders)}. Put them into one of these."
        )
    options = {option: found[file] for option, file in (entry.options or {}).items()}
    main = next(path for file, path in found.items() if file.endswith(_MAIN))
    return (main.parent if main.suffix == ".safetensors" else main), options


def _recorded(name: str) -> tuple[str | None, dict[str, str]]:
    """Commit and sha256 of each file, as they were when the model was fetched."""
    record = files.locate(RemoteFile(f"models/{name}/hub.json", ()))
    if record is None:
        return None, {}
    with reading(record, "record of a model", "Delete its folder.", error=ModelError):
        said = json.loads(record.read_text())
        return said["commit"], dict(said["sha256"])


def _fetch(
    name: str, entry: Any, commit: str | None, remote: dict[str, RemoteFile]
) -> dict[str, Path]:
    """Bring what is not here, hold all against the hub or the record, and write the record."""
    commit, told = _ask(name, entry, commit, list(remote))
    for file, one in remote.items():
        source = {"hub": entry.repo, "revision": commit, "file": file}
        source = {"url": file} if entry.archive else source
        # What is recorded stands, whatever the hub says of it now.
        remote[file] = replace(one, sources=(source,), **({} if one.sha256 else told[file]))
    lacking = [file for file, one in remote.items() if files.locate(one) is None]
    _announce(name, entry, sum(told[file]["bytes"] for file in lacking))
    home = files.cache_dir() / "models" / name
    try:
        found = {file: files.fetch_file(one) for file, one in remote.items()}
    except DataError as error:
        raise ModelError(
            f"{error}\nTry again, give the folder of a copy, or, if the new file is meant, "
            f"delete {home}."
        ) from error
    hashes = {file: sha256_of(path) for file, path in found.items()}
    home.mkdir(parents=True, exist_ok=True)
    (home / "hub.json").write_text(json.dumps({"commit": commit, "sha256": hashes}, indent=1))
    return found


def _ask(
    name: str, entry: Any, commit: str | None, wanted: list[str]
) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Commit of the repository, and what it says of each file: size and a checksum."""
    server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    where = f"{server}/api/models/{entry.repo}/revision/{commit or entry.revision}"
    try:
        if entry.archive:
            answer = requests.head(entry.archive, timeout=files.TIMEOUT, allow_redirects=True)
            answer.raise_for_status()
            return None, {entry.archive: {"bytes": int(answer.headers["Content-Length"])}}
        answer = requests.get(where, params={"blobs": "true"}, timeout=files.TIMEOUT)
        answer.raise_for_status()
        siblings = {one["rfilename"]: one for one in answer.json()["siblings"]}
        told = {}
        for file in wanted:
            said = siblings[file]
            large = said.get("lfs")  # the blob of such a file is only a pointer to it
            blob = {"sha256": large["sha256"]} if large else {"git_blob": said.get("blobId")}
            told[file] = {"bytes": int(said["size"]), **blob}
        return str(answer.json()["sha"]), told
    except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name} could not be fetched: {entry.archive or where} gave no answer that names its "
            f"files ({type(error).__name__}: {str(error)[:100]}). Check the network, or give the "
            f"folder of a copy, such as where {entry.page} asks for consent."
        ) from error


def _announce(name: str, entry: Any, size: int) -> None:
    """Say licence, download, memory and time, and refuse a disk that is too small."""
    import torch

    host = urlsplit(entry.archive or entry.page)
    n, width, depth = 1500, entry.width or 0, entry.layers or 0
    gpu, threads = torch.cuda.is_available(), torch.get_num_threads()
    seconds = depth * (24 * n * width**2 + 4 * n**2 * width)
    seconds /= _GPU_RATE if gpu else _CPU_RATE * threads
    memory = 4 * (entry.parameters or size / 4) / 1e6
    where = "a GPU" if gpu else f"{threads} thread{'s' * (threads > 1)}"
    print(licence_line(name, entry))
    print(
        f"{name}: {size / 1e6:,.0f} MB from {host.netloc}, {memory:,.0f} MB of memory, about "
        f"{seconds:.2g} s a cell of 1,500 genes on {where}."
    )
    need_room(files.cache_dir(), size, name, error=ModelError)
