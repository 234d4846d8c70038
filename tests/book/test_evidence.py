"""What figures and tables stand on is said before the first of them."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
import yaml

from sclin import notebooks
from sclin.errors import InputError
from sclin.notebooks import claims

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.md"))


def run_of(path: Path, profile: str) -> dict:
    """A chapter as a run of a profile would leave it, without its outputs."""
    book = jupytext.read(path)
    given = yaml.safe_load((ROOT / "notebooks" / "profiles" / f"{profile}.yml").read_text()) or {}
    defaults = {name: one.default for name, one in notebooks.parameters(path.stem).items()}
    book.metadata["sclin_run"] = {"parameters": defaults | given.get(path.stem, {})}
    return book


def firsts(book: dict) -> dict[str, str]:
    """What the first figure or table of a page stands on."""
    for cell, kinds in claims.marks(book):
        shows = cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
        if shows and not cell["source"].startswith(("import", "from")):
            return kinds
    return {}


@pytest.mark.parametrize("profile", ["offline", "public"])
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_page_opens_with_real_cells_or_published_numbers(path, profile):
    kinds = firsts(run_of(path, profile))
    assert {"real", "published"} & set(kinds.values()), kinds


def test_a_name_that_means_nothing_is_refused():
    with pytest.raises(InputError, match=r"data_set.*Did you mean 'dataset'"):
        claims.evidence("data_set", {"dataset": "baron_human"})


def test_kinds_follow_the_run():
    told = claims.evidence("dataset more published", {"dataset": "sim_atlas:n_cells=9", "more": []})
    assert told == {"sim_atlas": "simulated", "published": "published"}
    both = claims.evidence("species", {"species": ["human baron_human", "mouse baron_mouse"]})
    assert both == {"baron_human": "real", "baron_mouse": "real"}
    assert claims.evidence("dataset", {"dataset": "mine.h5ad"}) == {"mine.h5ad": "your own"}


def test_figures_and_tables_carry_the_mark():
    table = {"output_type": "display_data", "data": {"text/html": "<table></table>"}}
    shown = {"mystnb": {"figure": {"name": "f", "caption": "Cells."}}}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "Text.\n\n{evidence}`dataset`\n"},
        {"cell_type": "code", "metadata": shown, "source": "", "outputs": [table]},
    ]
    run = {"sclin_run": {"parameters": {"dataset": "baron_human"}}}
    book = {"cells": cells, "metadata": run}
    claims.mark(book)
    assert "*What follows stands on: `baron_human` (real).*" in cells[0]["source"]
    assert shown["mystnb"]["figure"]["caption"].startswith(
        '<span class="evidence real">real</span> '
    )
    assert table["data"]["text/html"].startswith('<p class="evidence"><span class="evidence real">')
