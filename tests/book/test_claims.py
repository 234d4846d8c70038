"""Sentences of pages, held against the frozen tables that they speak of."""

from __future__ import annotations

import re
from pathlib import Path

import front
import jupytext
import pandas as pd
import pytest

from sclin import datasets, results
from sclin.errors import InputError
from sclin.notebooks import claims

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.md"))
PAGES = [path for path in sorted((ROOT / "book").glob("*.md")) if path.stem != "changelog"]
# Sentences that hold words of comparison and speak of no result: definitions, advice, the papers.
GENERAL = Path(__file__).parent / "not_results"
# Kinds of cells and the studies of the default data, and how roles name these data.
OURS = re.compile(
    r"pancrea|baron2016"
    r"|\b(alpha|beta|delta|gamma|acinar|ductal|ducts|endocrine|endothelial|stellate)\b",
    re.I,
)
NAMED = re.compile("baron_| to (mouse|human)")


def read(path: Path) -> dict:
    """Cells of a chapter; a page is one."""
    if path in CHAPTERS:
        return jupytext.read(path)
    return {"cells": [{"cell_type": "markdown", "source": path.read_text(), "metadata": {}}]}


def told(path: Path) -> list[str]:
    return path.read_text().split("\n") if path.exists() else []


@pytest.fixture(scope="module", params=["offline", "public"])
def frozen(request) -> pd.DataFrame:
    try:
        return results.load(ROOT / "results" / request.param)
    except InputError as error:
        pytest.skip(f"make freeze PROFILE={request.param}: {error}")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_claim_of_a_chapter_holds_on_the_frozen_rows(path, frozen) -> None:
    rows = frozen[frozen["chapter"].eq(path.stem)]
    chapter = jupytext.read(path)
    if rows.empty:
        assert not claims.ROLE.search(path.read_text())
    else:
        assert claims.problems(chapter, claims.Rows(rows), set(datasets.catalogue())) == []


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda path: path.stem)
def test_every_sentence_that_compares_is_bound_or_speaks_of_no_result(path) -> None:
    found, general = claims.unbound(read(path)), told(GENERAL / f"{path.stem}.txt")
    assert [s for s in found if s not in general] == []
    assert [s for s in general if s and s not in found] == [], "no longer in the chapter"


@pytest.mark.parametrize("path", CHAPTERS[:15], ids=lambda path: path.stem)
def test_what_speaks_of_the_cells_of_the_book_is_left_out_on_others(path) -> None:
    for cell in jupytext.read(path).cells:
        prose, *captions = claims._texts(cell)
        for line in [*prose.split("\n"), *(s for c in captions for s in claims.SENTENCE.split(c))]:
            rests_on = " ".join(role["text"] for role in claims.ROLE.finditer(line))
            if OURS.search(re.sub("`[^`]*`", "", claims.ROLE.sub("", line))):
                assert NAMED.search(rests_on) or line.startswith("The public profile"), line


def test_every_claim_of_a_page_holds_on_the_frozen_rows(frozen) -> None:
    for path in PAGES:
        found = claims.problems(read(path), claims.Rows(frozen), set(datasets.catalogue()))
        assert found == [], path.name


def test_every_task_of_the_first_page_has_both_rivals(frozen) -> None:
    taken = front.headline(frozen)
    for task in front.TASKS:
        assert {"rank", "usual", "control"} <= set(taken.loc[taken["task"] == task, "family"])


def test_rows_of_one_key_hold_one_number_whichever_chapter_wrote_them(frozen) -> None:
    twice = frozen[frozen.duplicated(list(results.KEY), keep=False)]
    spread = twice.groupby(list(results.KEY), dropna=False)["value"].agg(
        lambda v: v.max() - v.min()
    )
    assert spread[spread > 1e-9].empty


def test_layers_stand_beside_random_weights_in_every_table(frozen) -> None:
    layers = frozen[frozen["representation"].str.startswith("layer:") & frozen["variant"].eq("")]
    layers = layers[
        ~layers["task"].isin(["layer_choice", "weights"])
    ]  # these compare with random weights
    assert {"12_layers_trajectory", "13_layers_perturbation"} <= set(layers["chapter"])
    keys = ["chapter", "task", "dataset", "protocol", "split", "head", "metric"]
    for group, rows in layers.groupby(keys):
        controls = ("-random", "-shuffled")
        trained = {model for model in rows["model"] if not model.endswith(controls)}
        assert {f"{model}-random" for model in trained} <= set(rows["model"]), group
