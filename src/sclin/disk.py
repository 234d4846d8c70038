"""Files and folders on disk: their checksums, and the room for more."""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path

from sclin.errors import DataError, SclinError


@cache
def _hashed(path: Path, node: int, size: int, changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(path: str | Path) -> str:
    """Hash a file, or the names and contents of a folder; unchanged files are hashed once.

    The time of the last change is the system's own, which nobody can set back.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        said = "".join(f"{each.relative_to(path)}\n{sha256_of(each)}\n" for each in inside)
        return hashlib.sha256(said.encode()).hexdigest()
    info = path.stat()
    return _hashed(path, info.st_ino, info.st_size, info.st_ctime_ns)


def need_room(folder: Path, size: float, what: str, *, error: type[SclinError] = DataError) -> None:
    """Refuse what cannot fit, before its first byte is written.

    Parameters
    ----------
    folder
        Where it shall lie; it need not be there yet.
    size
        Bytes.
    what
        Named in the message.
    error
        Kind of the error that a disk with less room raises.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if size > free:
        raise error(
            f"{what} needs {size / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free. Free "
            "some, or name a larger disk: SCLIN_DATA for data and models, SCLIN_LAYERS for stores."
        )
