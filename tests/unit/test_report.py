"""The report of `sclin judge` as text: whole, escaped, self-contained, small."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from judged import HOSTILE, bare, good, hard, render


def text_of(page: str) -> str:
    return unescape(re.sub("<[^>]*>", " ", page.split("</style>")[1]))


def numbers(judged: dict) -> set[str]:
    """Every number of the dictionary as the page writes it."""
    found = {f"{judged[key]:,}" for key in ("n_cells", "n_genes", "n_units")}
    found |= {f"{row['n']:,}" for row in judged["dropped"]} | set(judged["versions"].values())
    for task in judged["tasks"]:
        if task["status"] != "ran":
            continue
        found |= {f"{task['n']:,.0f}", f"{task['n_classes'] or 0:,}"}
        for row in task["scores"]:
            ends = (row[key] for key in ("value", "low", "high", "shuffled"))
            found |= {f"{x:.3f}" for x in ends if x is not None}
        for row in task["classes"]:
            found |= {f"{row['n']:,}", f"{row['best']:.3f}", f"{row['simplest']:.3f}"}
        for table in task["confusion"]:
            found |= {str(n) for row in table["rows"] for n in row}
            found |= {str(table["left_out"])} - {"0"}
    return found


@pytest.mark.parametrize("judged", [good(), hard(), bare()], ids=["good", "hard", "bare"])
def test_every_number_and_word_is_shown(judged):
    page = render(judged)
    text = " ".join(text_of(page.replace("<wbr>", "")).split())
    assert numbers(judged) <= set(re.findall(r"[-+]?[\d][\d.,]*\d|\d", text))
    words = [judged[key] for key in ("title", "name", "when", "command", "matrix", "values")]
    words += [*judged["answer"], *judged["warnings"], *judged["columns"].values()]
    words += [row[key] for row in judged["dropped"] for key in ("what", "why")]
    words += [row[key] for row in judged["fitted"] for key in ("name", "why")]
    for task in judged["tasks"]:
        words += [task["title"], task["reason"], task.get("verdict", "")]
        words += [row[key] for row in task.get("scores", ()) for key in ("name", "note")]
        words += [row["name"] for row in task.get("classes", ())]
    assert [word for word in words if " ".join(word.split()) not in text] == []


def test_it_is_small_and_asks_for_nothing():
    page = render(hard())
    assert len(page.encode()) < 200_000
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)|url\(|@import|<script""", page)


def test_html_in_names_is_text():
    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag not in {"script", "bold"}
            assert not any(name.startswith(("on", "alert")) for name, _ in attrs)

    page = render(hard())
    Tags().feed(page)
    assert HOSTILE not in page and HOSTILE in unescape(page)


def test_a_task_without_scores_or_classes_leaves_no_empty_part():
    judged = bare()
    judged["tasks"][0] |= {"classes": [], "n_classes": None}
    for row in judged["tasks"][0]["scores"]:
        row |= {"value": None, "low": None, "high": None, "shuffled": None}
    page = render(judged)
    assert "<figure>" not in page and "Each type" not in page and "Macro F1" not in page
    assert "Fitted on all cells" not in page and "Warnings" not in page


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.12, 0.97, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.32, 0.4, ["-0.4", "-0.2", "0.0", "0.2", "0.4"]),
        (0.81, 0.84, ["0.81", "0.82", "0.83", "0.84"]),
        (0.5, 0.5, ["0.50", "0.51"]),
        (3, 28, ["0", "5", "10", "15", "20", "25", "30"]),
    ],
)
def test_the_axis_has_round_ticks_around_all_that_is_drawn(low, high, ticks):
    judged = bare()
    blank = {"low": None, "high": None, "shuffled": None, "note": "", "kind": "ours"}
    judged["tasks"][0]["scores"] = [
        {"name": "a", "value": high} | blank,
        {"name": "b", "value": low} | blank,
    ]
    page = render(judged)
    assert re.findall(r"<i style=[^>]*>([^<]*)</i>", page) == ticks
    places = [
        float(x)
        for x in re.findall(r'<use href="#ours" x="([-\d.]+)%" y="50%"/></svg></span', page)
    ]
    assert len(places) == 2 and all(0 <= x <= 100 for x in places)
