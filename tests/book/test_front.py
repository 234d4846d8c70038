"""The first page shows rows found by their keys, and calls a lead only from paired rows."""

from __future__ import annotations

from pathlib import Path

import front
import page_tables
import pandas as pd
import pytest
from rows import row, save, versus

from sclin.errors import InputError

ROWS = [
    row("rank", 0.2, variant="shuffled_labels"),
    row("rank", 0.7, ci_low=0.6, ci_high=0.8),
    row("rank", 0.99, head="knn"),
    row("rank_pca", 0.95),
    row("lognorm", 0.65, ci_low=0.5, ci_high=0.7),
    row("lognorm", 0.9, protocol="as_published", split="folds"),
    row("layer:tiny/1", 0.8),
    row("layer:tiny/final", 0.5),
    row("layer:tiny-random/final", 0.6),
    row("random", 0.1),
    row("rank", 0.9, dataset="sim_atlas"),
]
TIMES = {
    "task": "trajectory",
    "dataset": "sim_trajectory",
    "metric": "pseudotime_time_spearman",
    "head": "",
    "split": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "_toc.yml").write_text("parts: []")
    save(tmp_path, ROWS)
    save(tmp_path, [row("rank_pca", 0.4, **TIMES)], "12_layers_trajectory")
    save(tmp_path, [row("rank_pca", 0.3)], "01_first_run")
    return tmp_path


def _with(root: Path, rows: list[dict]) -> pd.DataFrame:
    save(root, [*ROWS, *rows])
    return page_tables.results(root)


def test_a_number_is_one_row_by_its_keys_whatever_its_height(root: Path) -> None:
    taken = front.headline(page_tables.results(root))
    cells = taken[taken["task"] == "cell_types"].set_index("family")["value"].to_dict()
    assert cells == {"rank": 0.7, "usual": 0.65, "model": 0.5, "control": 0.1}
    assert set(taken["chapter"]) == {"05_cell_types", "12_layers_trajectory"}


def test_a_large_model_stands_before_the_small_one_and_a_control_for_none(root: Path) -> None:
    large = [row("layer:big/final", 0.55), row("layer:big-shuffled/final", 0.9)]
    taken = front.headline(_with(root, large))
    assert 0.55 in set(taken["value"]) and not {0.5, 0.9} & set(taken["value"])


def test_two_rows_for_one_number_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match="tell"):
        front.headline(_with(root, [row("rank", 0.71, seed=1)]))


def test_nothing_without_results(tmp_path: Path) -> None:
    (tmp_path / "_toc.yml").write_text("parts: []")
    front.draw(tmp_path)
    assert "make book" in front.front_figure(tmp_path)
    assert front.findings(tmp_path) == front.verdicts(tmp_path) == ""


def test_figure_has_a_band_for_each_task(root: Path) -> None:
    (panel,) = front.figure(page_tables.results(root)).axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert [label.partition("\n")[0] for label in labels] == [t.label for t in front.TASKS.values()]
    assert "simulated" not in labels[0] and "simulated" in labels[3]


def test_figure_is_written_once_for_the_same_rows(root: Path) -> None:
    front.draw(root)
    path = root / "book" / "_generated" / "front.svg"
    first = path.stat().st_mtime_ns
    front.draw(root)
    assert path.stat().st_mtime_ns == first
    save(root, [row("rank", 0.1)])
    front.draw(root)
    assert path.stat().st_mtime_ns != first
    keys = pd.read_csv(root / "book" / "_generated" / "front.csv")
    assert {"chapter", "representation", "head", "variant", "split"} <= set(keys)


def test_findings_name_chapter_row_and_simulation(root: Path) -> None:
    first, second = front.findings(root).split("\n")[3:5]
    assert "[Cell type](chapters/05_cell_types)" in first and "simulated" not in first
    assert "**0.70** [0.60, 0.80]<br>`rank`<br>`logistic`" in first
    assert "simulated, `sim_trajectory`" in second
    page = front.front_figure(root)
    assert "rank scores 0.70" in page and "Simulated cells: trajectory" in page


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ([], "Not tested in pairs: cell type (0.70 against 0.65)"),
        (versus("rank", "lognorm", 0.05, -0.01, 0.1, 0.3), "No difference is shown"),
        (versus("rank", "lognorm", 0.05, 0.01, 0.1, 0.06), "No difference is shown"),
        (versus("rank", "lognorm", 0.05, 0.01, 0.1, 0.01), "puts rank scores ahead"),
        (versus("rank", "lognorm", -0.05, -0.1, -0.01, 0.01), "puts rank scores behind"),
        (versus("lognorm", "rank", 0.05, 0.01, 0.1, 0.01), "puts rank scores behind"),
        (versus("rank", "lognorm", 0.05, 0.01, 0.1, 0.13, n=4), "Too few donors"),
    ],
)
def test_a_lead_is_called_from_paired_rows_alone(root: Path, pair, words: str) -> None:
    said, model = front.sentences(_with(root, pair))
    assert words in said
    assert "Not tested in pairs" in model


def test_layers_gain_only_where_interval_and_p_agree(root: Path) -> None:
    about = {"task": "layer_choice", "head": "", "model": "tiny"}
    ends = {"ci_low": 0.01, "ci_high": 0.2, "n": 8, "unit": "donor"}
    gain = [row("", 0.1, metric="gain_over_final", split=s, **ends, **about) for s in ("a", "b")]
    p = [row("", 0.02, metric="gain_over_final_p", split="a", **about)]
    assert "on 1 of 2 tasks, by 0.10" in front.sentences(_with(root, [*gain, *p]))[-1]
