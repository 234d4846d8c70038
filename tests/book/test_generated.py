"""The passages that are written while the book is built."""

from __future__ import annotations

import json
import pkgutil
from importlib.metadata import packages_distributions
from pathlib import Path

import api
import catalogue
import chapter_page
import chapters
import page_tables
import pandas as pd
import pytest
import sclin_book
from rows import row, save

import sclin
from sclin import datasets

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "_toc.yml").write_text((ROOT / "_toc.yml").read_text())
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "05_cell_types.md").write_text(
        "---\nsclin:\n  minutes: 2\n  memory_gb: 1\n  device: CPU\n  data: [baron_human]\n---\n"
        "# Naming cells\n\n```{admonition} By the end you can\n:class: aims\n- name a cell,\n"
        "- hold donors\n  out.\n```\n\n```{exercise-start}\n:label: ex-05-a\n```\n"
        "Which\ntype?\n```{exercise-end}\n```\n\n```{solution-start} ex-05-a\n:class: dropdown\n"
        "```\n\n```{code-cell} ipython3\n1\n```\n\nGamma, see {doc}`04_x`.\n\n"
        "```{solution-end}\n```\n"
    )
    return tmp_path


def test_no_module_of_the_pages_is_hidden_by_a_package() -> None:
    # The folder of an extension comes last in the search; PyTables comes with `make bench`.
    packages = {*packages_distributions(), "tables"}
    assert not packages & {path.stem for path in (ROOT / "book" / "_ext").glob("*.py")}


def test_chapter_table_reads_the_front_matter(root: Path) -> None:
    assert "| II | [Naming cells](chapters/05_cell_types) | 2 | 1 | CPU | `baron_human` |" in (
        chapters.chapters(root)
    )


def test_outcomes_are_the_aims_of_the_chapters(root: Path) -> None:
    row = "| name a cell<br>hold donors out | {ref}`ex-05-a` |"
    assert row in chapters.outcomes(root)


def test_marking_guide_holds_questions_and_answers(root: Path) -> None:
    row = "| {ref}`ex-05-a` | Which type? | Gamma, see {doc}`chapters/04_x`. |"
    assert row in chapters.marking(root)


def test_pages_read_the_build_at_hand_before_the_frozen_tables(root: Path) -> None:
    save(root, [row(value=0.1)])
    assert page_tables.results(root)["value"].tolist() == [0.1]
    save(root, [row(value=0.2)], folder="_build/results/offline")
    assert page_tables.results(root)["value"].tolist() == [0.2]


def _notebook() -> dict:
    parameters = 'name: str = "a b"  # whom\nn_cells: int = 20  # how many\nseed: int = 0  # seed'
    picture = {"output_type": "display_data", "data": {"image/png": "x"}}
    printed = {"output_type": "display_data", "data": {"text/plain": "table"}}
    return {
        "metadata": {},
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": "# Naming cells\n\nOpening."},
            {
                "cell_type": "code",
                "metadata": {"tags": ["parameters"]},
                "source": parameters,
                "outputs": [],
            },
            {
                "cell_type": "code",
                "metadata": {"mystnb": {"figure": {"name": "fig-a"}}},
                "source": "draw()",
                "outputs": [picture, printed],
            },
        ],
    }


def test_facts_stand_below_the_title(root: Path) -> None:
    notebook = _notebook()
    chapter_page.add_facts(root, "05_cell_types", notebook, {"hold": 3, "fail": 1})
    text = notebook["cells"][0]["source"]
    assert text.startswith("# Naming cells\n") and text.rstrip().endswith("Opening.")
    assert "<b>2</b> min" in text and "<code>baron_human</code>" in text
    assert 'make run NB=05_cell_types P="-p n_cells 20"' in text
    assert '| `name` | `str` | `"a b"` | whom |' in text
    assert "<b>3</b> of 4 tested sentences hold<" in text and "are marked: 1." in text


def test_a_chapter_without_a_title_is_refused(root: Path) -> None:
    notebook = _notebook()
    notebook["cells"].pop(0)
    with pytest.raises(ValueError, match="title"):
        chapter_page.add_facts(root, "05_cell_types", notebook, {})


def test_prints_of_a_figure_cell_get_their_own_cell() -> None:
    notebook = _notebook()
    widget = {"output_type": "stream", "name": "stderr", "text": "TqdmWarning: IProgress not found"}
    notebook["cells"][1]["outputs"] = [widget]
    chapter_page.part_figures(notebook)
    assert notebook["cells"][1]["outputs"] == []
    drawn, rest = notebook["cells"][2:]
    assert [list(o["data"]) for o in drawn["outputs"]] == [["image/png"]]
    assert [list(o["data"]) for o in rest["outputs"]] == [["text/plain"]]
    assert "mystnb" not in rest["metadata"] and rest["source"] == ""


def test_tables_are_set_like_a_book() -> None:
    scores = pd.DataFrame({"name": ["a", "b"], "value": [0.5, None]})
    text = page_tables.tidy(scores.to_html())
    assert "<th>0</th>" not in text and '<td class="num">–</td>' in text
    assert '<th class="num">value</th>' in text and "<th>name</th>" in text
    named = page_tables.tidy(scores.set_index("name").to_html())
    assert named.count("<tr") == 3 and "<th>name</th>" in named and "<th>a</th>" in named


def test_pages_follow_the_profile_that_was_built(root: Path) -> None:
    assert "profile **offline**" in page_tables.profile(root)
    chapters = root / "book" / "chapters"
    chapters.mkdir(parents=True)
    run = {"metadata": {"sclin_run": {"profile": "public"}}, "cells": []}
    (chapters / "05_cell_types.ipynb").write_text(json.dumps(run))
    save(root, [row()])
    assert "profile **public**" in page_tables.profile(root)
    assert page_tables.results(root) is None
    (root / "results" / "offline").rename(root / "results" / "public")
    assert len(page_tables.results(root)) == 1


def test_pages_name_every_dataset_and_model() -> None:
    found, text = datasets.catalogue(), catalogue.datasets(ROOT)
    assert all(f"`{name}`" in text for name in [*found, *found.resources])
    assert "not known" in text and "## Tier packaged" in text
    assert all(f"`{name}`" in catalogue.models(ROOT) for name in found.models)


def test_every_module_of_the_package_has_a_page() -> None:
    told = {name.partition(".")[0] for names in api.MODULES.values() for name in names}
    assert told == {module.name for module in pkgutil.iter_modules(sclin.__path__)} - {"cli"}


def test_blocks_of_pages_name_passages_that_exist() -> None:
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.md")]
    asked = {m[1] for path in sources for m in sclin_book.BLOCK.finditer(path.read_text())}
    assert asked <= set(sclin_book.PASSAGES)
    assert "depths" in asked


def test_a_table_of_a_chapter_gets_filters_when_its_cell_asks(root: Path) -> None:
    output = {"data": {"text/html": pd.DataFrame({"a": ["05_cell_types"]}).to_html(index=False)}}
    wanted = {"filterable": {"caption": "All", "choices": ["a"]}}
    notebook = {"cells": [{"cell_type": "code", "metadata": wanted, "outputs": [output]}]}
    chapter_page.set_tables(root, notebook)
    text = output["data"]["text/html"]
    assert "<select" in text and '<a href="05_cell_types.html">' in text


def test_prints_of_a_cell_stand_in_one_box() -> None:
    lines = [{"output_type": "stream", "name": "stdout", "text": text} for text in ("a\n", "b\n")]
    notebook = {"cells": [{"cell_type": "code", "outputs": lines}, {"cell_type": "markdown"}]}
    chapter_page.join_prints(notebook)
    assert [output["text"] for output in notebook["cells"][0]["outputs"]] == ["a\nb\n"]
