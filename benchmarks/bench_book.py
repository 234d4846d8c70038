"""The book in a fresh clone whose packages are installed: `make book`, and again after an edit.

`n_cells` counts chapters. The edit is one sentence of one chapter. Memory and checksum say nothing
here: the first is that of the process that waits, the second the number of pages.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES, QUICK = (len(list(ROOT.glob("notebooks/[0-9]*.md"))),), ()


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for file in clone.rglob("*"):
        os.utime(file, (0, 0))  # older than the packages, which are not installed again
    (clone / ".venv").symlink_to(ROOT / ".venv")
    return {}


def make(clone: Path) -> int:
    """Build, and count the pages."""
    command = ["make", "--no-print-directory", "book"]
    # As in a shell of its own: not inside of `make bench`, nor with its number of threads.
    unset = ("MAKE", "MFLAGS", "OMP_", "OPENBLAS_", "MKL_", "NUMBA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    environment["PYTHONPATH"] = str(clone / "src")
    subprocess.run(command, cwd=clone, env=environment, stdout=subprocess.DEVNULL, check=True)
    return len(list(clone.glob("_build/html/**/*.html")))


def fresh(folder: Path):
    return lambda: make(folder / "clone"), float


def edited(folder: Path):
    chapter = folder / "clone" / "notebooks" / "03_projection.md"

    def work():
        chapter.write_text(f"{chapter.read_text()}\nOne sentence more.\n")
        return make(folder / "clone")

    return work, float


WAYS = {"a fresh clone": fresh, "after an edit of prose": edited}
UP_TO: dict[str, int] = {}
