"""Fetch a model's official files by name: what it costs is said before the first byte.

Files lie in the data cache under ``models/NAME``. ``hub.json`` beside them records the commit of
the repository and the sha256 of each file; from then on both are enforced.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from sclin.checksums import sha256_of
from sclin.datasets import files
from sclin.datasets.entries import RemoteFile, catalogue
from sclin.errors import DataError, ModelError, nearest

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
    record = files.cache_dir() / "models" / name / "hub.json"
    known = json.loads(record.read_text()) if record.is_file() else {"sha256": {}}
    remote = {
        file: RemoteFile(f"models/{name}/{Path(file).name}", (), known["sha256"].get(file))
        for file in wanted
    }
    found = {file: files.locate(one) for file, one in remote.items()}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        commit, said = _ask(name, entry, known.get("commit"), missing)
        _announce(name, entry, sum(size for size, _ in said.values()))
        for file in missing:
            source = {"hub": entry.repo, "revision": commit, "file": file}
            source = {"url": file} if entry.archive else source
            sha256 = known["sha256"].get(file) or said[file][1]
            try:
                found[file] = files.fetch_file(RemoteFile(remote[file].name, (source,), sha256))
            except DataError as error:
                raise ModelError(
                    f"{error}\nTry again, give the folder of a copy, or, if the new file is meant, "
                    f"delete {record.parent}."
                ) from error
        hashes = {file: sha256_of(path) for file, path in found.items() if path}
        record.write_text(json.dumps({"commit": commit, "sha256": hashes}, indent=1))
    options = {option: found[file] for option, file in (entry.options or {}).items()}
    main = next(path for file, path in found.items() if path and file.endswith(_MAIN))
    return (main.parent if main.suffix == ".safetensors" else main), options


def _ask(
    name: str, entry: Any, commit: str | None, wanted: list[str]
) -> tuple[str | None, dict[str, tuple[int, str | None]]]:
    """Commit of the repository, and size and, where the hub tells it, sha256 of each file."""
    server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    where = f"{server}/api/models/{entry.repo}/revision/{commit or entry.revision}"
    try:
        if entry.archive:
            answer = requests.head(entry.archive, timeout=files.TIMEOUT, allow_redirects=True)
            answer.raise_for_status()
            return None, {entry.archive: (int(answer.headers["Content-Length"]), None)}
        answer = requests.get(where, params={"blobs": "true"}, timeout=files.TIMEOUT)
        answer.raise_for_status()
        told = answer.json()
        there = {one["rfilename"]: one for one in told["siblings"]}
        return str(told["sha"]), {
            file: (int(there[file]["size"]), (there[file].get("lfs") or {}).get("sha256"))
            for file in wanted
        }
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{name} could not be fetched: {entry.archive or where} gave no answer that names its "
            f"files ({type(error).__name__}: {str(error)[:100]}). "
            "Check the network, or give the folder of a copy."
        ) from error


def _announce(name: str, entry: Any, size: int) -> None:
    """Say licence, download, memory and time, and refuse a disk that is too small."""
    import torch

    free, host = shutil.disk_usage(files.cache_dir()).free, urlsplit(entry.archive or entry.page)
    n, width, depth = 1500, entry.width or 0, entry.layers or 0
    gpu, threads = torch.cuda.is_available(), torch.get_num_threads()
    seconds = depth * (24 * n * width**2 + 4 * n**2 * width)
    seconds /= _GPU_RATE if gpu else _CPU_RATE * threads
    memory = 4 * (entry.parameters or size / 4) / 1e9
    print(licence_line(name, entry))
    print(
        f"{name}: {size / 1e6:,.0f} MB from {host.netloc}, {memory:.1f} GB of memory, about "
        f"{seconds:.2g} s a cell of 1,500 genes on {'a GPU' if gpu else f'{threads} threads'}."
    )
    if size > free:
        raise ModelError(
            f"{name} needs {size / 1e9:.1f} GB, and {files.cache_dir()} has {free / 1e9:.1f} GB "
            "free. Name a folder on a larger disk in SCLIN_DATA."
        )
