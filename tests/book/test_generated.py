"""The passages that are written while the book is built."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import generated  # noqa: E402

from sclin import teaching  # noqa: E402
from sclin.evaluation import result, results_table  # noqa: E402


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


def _save(root: Path, rows: list[dict]) -> None:
    folder = root / "results" / "offline"
    folder.mkdir(parents=True)
    results_table(rows).to_csv(folder / "05_cell_types.csv", index=False)


def _score(protocol: str, value: float, **more) -> dict:
    shared = {"task": "cell_types", "dataset": "baron_human", "metric": "macro_f1"}
    names = {"representation": "rank", "head": "logistic"}
    return result(protocol=protocol, value=value, **(shared | names | more))


def test_chapter_table_reads_the_front_matter(root: Path) -> None:
    assert "| II | [Naming cells](chapters/05_cell_types) | 2 | 1 | CPU | `baron_human` |" in (
        generated.chapters(root)
    )


def test_outcomes_are_the_aims_of_the_chapters(root: Path) -> None:
    row = "| name a cell<br>hold donors out | {ref}`ex-05-a` |"
    assert row in generated.outcomes(root)


def test_marking_guide_holds_questions_and_answers(root: Path) -> None:
    row = "| {ref}`ex-05-a` | Which type? | Gamma, see {doc}`chapters/04_x`. |"
    assert row in generated.marking(root)


def test_protocols_show_the_measured_change(root: Path) -> None:
    assert "no results" in generated.protocols(root, "cell_types")
    _save(root, [_score("as_published", 0.95), _score("corrected", 0.93)])
    assert "| 0.950 | 0.930 | -0.020 |" in generated.protocols(root, "cell_types")
    assert "profile offline" in generated.protocols(root, "trajectory")


def test_front_page_without_results_says_so(root: Path) -> None:
    generated.draw(root)
    assert "make book" in generated.front_figure(root)
    assert generated.findings(root) == ""


def test_front_page_with_results_shows_them(root: Path) -> None:
    _save(root, [_score("corrected", 0.93, ci_low=0.9, ci_high=0.95)])
    generated.draw(root)
    assert ":alt: Dot plot" in generated.front_figure(root)
    assert "**0.93** [0.90, 0.95]" in generated.findings(root)


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
    generated.add_facts(root, "05_cell_types", notebook)
    text = notebook["cells"][0]["source"]
    assert text.startswith("# Naming cells\n") and text.rstrip().endswith("Opening.")
    assert "<b>2</b> min" in text and "<code>baron_human</code>" in text
    assert 'make run NB=05_cell_types P="-p n_cells 20"' in text
    assert '| `name` | `str` | `"a b"` | whom |' in text


def test_a_chapter_without_a_title_is_refused(root: Path) -> None:
    notebook = _notebook()
    notebook["cells"].pop(0)
    with pytest.raises(ValueError, match="title"):
        generated.add_facts(root, "05_cell_types", notebook)


def test_prints_of_a_figure_cell_get_their_own_cell() -> None:
    notebook = _notebook()
    widget = {"output_type": "stream", "name": "stderr", "text": "TqdmWarning: IProgress not found"}
    notebook["cells"][1]["outputs"] = [widget]
    generated.part_figures(notebook)
    assert notebook["cells"][1]["outputs"] == []
    drawn, rest = notebook["cells"][2:]
    assert [list(o["data"]) for o in drawn["outputs"]] == [["image/png"]]
    assert [list(o["data"]) for o in rest["outputs"]] == [["text/plain"]]
    assert "mystnb" not in rest["metadata"] and rest["source"] == ""


def test_tables_are_set_like_a_book() -> None:
    scores = pd.DataFrame({"name": ["a", "b"], "value": [0.5, None]})
    text = teaching.tidy_table(scores.to_html())
    assert "<th>0</th>" not in text and '<td class="num">–</td>' in text
    assert '<th class="num">value</th>' in text and "<th>name</th>" in text
    named = teaching.tidy_table(scores.set_index("name").to_html())
    assert named.count("<tr") == 3 and "<th>name</th>" in named and "<th>a</th>" in named


def test_pages_follow_the_profile_that_was_built(root: Path) -> None:
    assert "profile **offline**" in generated.profile(root)
    chapters = root / "book" / "chapters"
    chapters.mkdir(parents=True)
    run = {"metadata": {"sclin_run": {"profile": "public"}}, "cells": []}
    (chapters / "05_cell_types.ipynb").write_text(json.dumps(run))
    _save(root, [_score("corrected", 0.11)])
    assert "profile **public**" in generated.profile(root)
    assert generated.findings(root) == ""
    (root / "results" / "offline").rename(root / "results" / "public")
    assert "**0.11**" in generated.findings(root)


def test_prints_of_a_cell_stand_in_one_box() -> None:
    lines = [{"output_type": "stream", "name": "stdout", "text": text} for text in ("a\n", "b\n")]
    notebook = {"cells": [{"cell_type": "code", "outputs": lines}, {"cell_type": "markdown"}]}
    generated.join_prints(notebook)
    assert [output["text"] for output in notebook["cells"][0]["outputs"]] == ["a\nb\n"]
