from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from sclin import published
from sclin.evaluation import COLUMNS
from sclin.scoreboard import filterable


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(table, **options):
    tags = Tags()
    tags.feed(filterable(table, caption="Scores", **options).data)
    assert tags.open == []
    return tags.seen


TABLE = pd.DataFrame({"name": ["a & b", "c"], "value": [0.25, float("nan")], "n": [3.0, 4.0]})


def test_every_row_is_there_without_javascript():
    seen = parsed(TABLE)
    assert sum(tag == "tr" for tag, _ in seen) == 1 + len(TABLE)
    assert "a &amp; b" in filterable(TABLE, caption="Scores").data


def test_filters_have_labels_and_are_hidden_until_the_script_runs():
    seen = parsed(TABLE, choices=("name",))
    assert ("div", {"class": "filters", "hidden": None}) in seen
    assert sum(tag == "label" for tag, _ in seen) == 2
    assert sum(tag == "option" for tag, _ in seen) == 3


def test_numbers_keep_their_value_for_sorting():
    text = filterable(TABLE, caption="Scores").data
    assert 'data-value="0.25">0.250<' in text
    assert 'data-value="3">3<' in text


def test_links_are_made_of_known_values():
    assert '<a href="c.html">c</a>' in filterable(TABLE, caption="S", links={"c": "c.html"}).data


def test_published_results_fit_the_results_table():
    rows = published.results()
    assert tuple(rows.columns) == COLUMNS
    assert (rows["source"] == "published").all()
    assert rows["value"].notna().all()
    best = rows[(rows["dataset"] == "GSE276896") & (rows["model"] == "Tahoe-x1-1b")]
    top = best.loc[best["value"].idxmax()]
    assert top["layer"] == "16"  # block 15 of the papers' count from 0
    assert top["relative_depth"] == pytest.approx(15 / 23, abs=1e-5)


@pytest.mark.parametrize("profile", ["offline", "public"])
def test_layers_stand_beside_random_weights_in_every_table(profile):
    folder = Path(__file__).parents[2] / "results" / profile
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("1[2-4]_*.csv"))}
    assert "13_layers_perturbation" in tables
    for name, table in tables.items():
        layers = table[table["representation"].str.startswith("layer:", na=False)]
        keys = ["task", "dataset", "protocol", "split", "head", "metric"]
        for group, rows in layers.groupby(keys, dropna=False):
            trained = {m for m in rows["model"] if not m.endswith("-random")}
            assert {f"{m}-random" for m in trained} <= set(rows["model"]), (name, group)
