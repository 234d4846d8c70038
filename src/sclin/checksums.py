"""Checksums of files and folders."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


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
