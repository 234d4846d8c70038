"""The first page shows what the tables hold, and picks nothing by its height."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from sclin import front, published
from sclin.errors import InputError
from sclin.evaluation import result, results_table


def _row(representation: str, value: float, **more) -> dict:
    fields = {
        "task": "cell_types",
        "dataset": "baron_human",
        "protocol": "corrected",
        "metric": "macro_f1",
        "head": "logistic",
    }
    return result(representation=representation, value=value, **(fields | more))


@pytest.fixture
def results() -> pd.DataFrame:
    return results_table(
        [
            _row("rank_pca", 0.2, note="labels shuffled within donors"),
            _row("rank_pca", 0.7, ci_low=0.6, ci_high=0.8),
            _row("rank_pca", 0.99, head="knn"),
            _row("rank", 0.95),
            _row("lognorm", 0.65),
            _row("lognorm", 0.9, protocol="as_published"),
            _row("layer:tiny/1", 0.8),
            _row("layer:tiny/final", 0.5),
            _row("layer:tiny-random/final", 0.6),
            _row("random", 0.1),
            _row("rank_pca", 0.9, dataset="sim_atlas"),
            _row(
                "rank_pca",
                0.4,
                task="trajectory",
                dataset="sim_trajectory",
                metric="pseudotime_time_spearman",
            ),
        ]
    )


def test_headline_follows_preference_not_height(results) -> None:
    taken = front.headline(results)
    cells = taken[taken["task"] == "cell_types"].set_index("family")["value"].to_dict()
    assert cells == {"rank": 0.7, "usual": 0.65, "model": 0.5, "control": 0.1}


def test_headline_of_nothing_is_empty(results) -> None:
    assert front.headline(results.iloc[:0]).empty


def test_front_figure_has_a_band_for_each_task(results) -> None:
    (panel,) = front.front_figure(results).axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert [label.partition("\n")[0] for label in labels] == [t.label for t in front.TASKS.values()]
    assert "simulated" not in labels[0] and "simulated" in labels[3]


def test_front_figure_is_written_once(results, tmp_path: Path) -> None:
    path = front.save_front_figure(results, tmp_path)
    first = path.stat().st_mtime_ns
    front.save_front_figure(results, tmp_path)
    assert path.stat().st_mtime_ns == first
    front.save_front_figure(results.assign(value=results["value"] / 2), tmp_path)
    assert path.stat().st_mtime_ns != first


def test_verdicts_follow_the_numbers(results) -> None:
    tie, model = front.verdicts(results)
    assert "differ from" in tie and "0 of 1" in tie  # one of the two has no interval
    assert "on 1 of 1 tasks" in model.lower() and "`tiny`" in model
    ends = results.assign(ci_low=results["value"] - 0.1, ci_high=results["value"] + 0.1)
    assert "keep up with" in front.verdicts(ends)[0]
    assert front.verdicts(results.iloc[:0]) == []


def test_sentences_call_simulated_data_simulated(results) -> None:
    found = front.findings(results)
    assert "simulated" not in found.index[0] and "simulated" in found.index[1]
    assert "**0.70** [0.60, 0.80]" in found.iloc[0]["rank scores"]
    assert "trajectory" in front.caption(results)
    assert "rank scores 0.70" in front.alt_text(results) and "\n" not in front.alt_text(results)


def test_depth_explorer_draws_every_stored_layer() -> None:
    table = published.table("layers")
    drawn = table[table["metric"].isin(front.EXPLORED)].dropna(subset=["value", "relative_depth"])
    page = front.depth_explorer(table)
    assert page.count("<circle") == len(drawn)
    assert page.count('type="radio"') == page.count("<label") == page.count('class="dx-panel"')
    best = drawn[(drawn["metric"] == "Pseudotime_Corr") & (drawn["dataset"] == "GSE276896")]
    assert f"{best['value'].max():.3f}" in page
    assert not re.search(r"<script|https?://", page)


def test_depth_explorer_refuses_other_tables() -> None:
    with pytest.raises(InputError, match="relative_depth"):
        front.depth_explorer(pd.DataFrame({"dataset": []}))
    layers = published.table("layers")
    with pytest.raises(InputError, match="F1_macro"):
        front.depth_explorer(layers[layers["metric"] == "p_value"])
