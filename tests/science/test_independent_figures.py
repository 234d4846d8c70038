"""Chapters agree with figures that were computed without this package, on dense matrices."""

from pathlib import Path

import pytest

from sclin import results
from sclin.judgement import OURS

RESULTS = Path(__file__).parents[2] / "results"
FROZEN = RESULTS / "offline"
# Macro F1 over the nine types of baron_human with 20 cells or more, one donor held out.
FIGURES = {
    ("lognorm", "logistic"): 0.960,
    ("rank", "logistic"): 0.957,
    ("hvg_pca", "logistic"): 0.966,
    ("rank", "pipeline"): 0.937,
    ("rank", "projection"): 0.876,
    ("rank", "projection, ranks averaged"): 0.953,
    ("hvg_pca", "knn, Euclidean"): 0.956,
    ("hvg_pca", "knn"): 0.965,
}
# Macro F1 over two states of muscat_pbmc, one of its two donors held out; by scipy and sklearn.
STATES = {
    ("lognorm", "logistic"): 0.99100,
    ("lognorm", "centroid"): 0.91307,
    ("rank", "logistic"): 0.99035,
    ("rank", "centroid"): 0.92147,
    ("rank", "projection"): 0.97043,
    ("rank", "one gene"): 0.95752,
    ("rank", "five genes"): 0.98327,
}


@pytest.mark.parametrize(
    ("profile", "chapter", "dataset", "figures", "tolerance"),
    [
        ("offline", "05_cell_types", "baron_human", FIGURES, 0.01),
        ("public", "06_disease_state", "muscat_pbmc", STATES, 1e-4),
    ],
)
def test_a_chapter_agrees_with_independent_figures(profile, chapter, dataset, figures, tolerance):
    rows = results.load(RESULTS / profile).query(
        "chapter == @chapter and dataset == @dataset and metric == 'f1_macro'"
        " and variant == '' and protocol == 'corrected'"
    )
    ours = rows.set_index(["representation", "head"])["value"]
    assert ours[list(figures)].to_dict() == pytest.approx(figures, abs=tolerance)


def test_the_judge_says_of_pancreas_what_chapter_05_says():
    said = results.load(FROZEN).query(
        "dataset == 'baron_human' and task == 'cell_types' and metric == 'f1_macro'"
        " and variant == '' and protocol == 'corrected' and head == 'logistic'"
    )
    columns = ["value", "ci_low", "ci_high", "n"]
    judged = said[said["chapter"].eq("15_your_data")].set_index("representation")[columns]
    chapter = said[said["chapter"].eq("05_cell_types")].set_index("representation")[columns]
    assert {*OURS, "library_size", "random"} == {*judged.index}
    assert judged.to_dict() == chapter.loc[judged.index].to_dict()
