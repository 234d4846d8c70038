from __future__ import annotations

import pandas as pd
from bs4 import BeautifulSoup
from scoreboard import filterable

TABLE = pd.DataFrame({"name": ["a & b", "c"], "value": [0.25, float("nan")], "n": [3, 4]})
MARKUP = TABLE.to_html(index=False, na_rep="", float_format="{:.3f}".format)


def test_every_row_is_there_without_javascript() -> None:
    page = BeautifulSoup(filterable(MARKUP, caption="Scores"), "html.parser")
    assert [[td.text for td in tr("td")] for tr in page.select("tbody tr")] == [
        ["a & b", "0.250", "3"],
        ["c", "", "4"],
    ]
    assert [td.text for td in page.select("td.number")] == ["0.250", "3", "4"]
    assert page.select_one("caption").text == "Scores"


def test_filters_have_labels_and_are_hidden_until_the_script_runs() -> None:
    page = BeautifulSoup(filterable(MARKUP, caption="S", choices=("name",)), "html.parser")
    assert page.select_one("div.filters").has_attr("hidden")
    assert len(page.select("label")) == 2
    assert [option.text for option in page.select("option")] == ["all", "a & b", "c"]


def test_links_are_made_of_known_values() -> None:
    assert '<a href="c.html">c</a>' in filterable(MARKUP, caption="S", links={"c": "c.html"})
