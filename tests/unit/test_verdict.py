"""The one function that calls a lead, on numbers made up to have one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sclin
from sclin import results
from sclin.evaluation import Results


def scored(values, *, n=8, low=0.1, null=0.0):
    """Rows of representations, and of a control beside them, over n donors."""
    said = {"task": "toy", "dataset": "toy", "metric": "m", "unit": "donor", "n": n}
    rows = [
        results.row(**said, representation=name, value=v, ci_low=v - low, ci_high=v + low)
        for name, v in values.items()
    ]
    return [*rows, results.row(**said, representation="random", value=null)]


def versus(a, b, gap, p, *, n=8, half=0.05):
    said = {"task": "toy", "dataset": "toy", "representation": a, "variant": f"versus:{b}"}
    said |= {"unit": "donor", "n": n}
    ends = {"ci_low": gap - half, "ci_high": gap + half}
    return [
        results.row(**said, metric="m_difference", value=gap, **ends),
        results.row(**said, metric="m_p", value=p),
    ]


def said(*parts, **options):
    return Results(results.table(*parts)).verdict(**options)


TWO = {"rank": 0.6, "lognorm": 0.8}


def test_a_lead_is_called_from_written_rows_whichever_way_they_were_written():
    for rows in (versus("lognorm", "rank", 0.2, 0.01), versus("rank", "lognorm", -0.2, 0.01)):
        verdict = said(scored(TWO), rows)
        assert verdict.best == "lognorm" and verdict.outcomes == {"rank": "behind"}
        assert "lognorm leads rank (+0.200 [0.150, 0.250], p = 0.01)" in verdict.words
        assert said(scored(TWO), rows, reference="rank").outcomes == {"lognorm": "ahead"}


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ((scored(TWO), versus("lognorm", "rank", 0.2, 0.2)), "no difference"),
        ((scored(TWO), versus("lognorm", "rank", 0.2, 0.01, half=0.3)), "no difference"),
        ((scored(TWO, n=5), versus("lognorm", "rank", 0.2, 0.01, n=5)), "too few"),
        ((scored(TWO),), "not compared"),
        ((scored(TWO, null=0.75), versus("lognorm", "rank", 0.2, 0.01)), "silent"),
        ((scored(TWO, low=np.nan), versus("lognorm", "rank", 0.2, 0.01)), "silent"),
    ],
)
def test_no_lead_is_called_without_a_test_a_null_and_an_interval(rows, outcome):
    verdict = said(*rows)
    assert verdict.outcomes == {"rank": outcome} and verdict.equals == ("rank",)
    assert "leads" not in verdict.words


def test_p_is_corrected_for_the_number_of_candidates():
    many = TWO | {"rank_pca": 0.5, "hvg_pca": 0.79}
    rows = [versus(other, "lognorm", many[other] - 0.8, 0.02) for other in many if other[0] != "l"]
    verdict = said(scored(many), *rows)
    assert set(verdict.outcomes.values()) == {"no difference"}  # 3 x 0.02 is above 0.05
    assert "corrected for 3 comparisons" in verdict.words
    assert "leads" in said(scored(TWO), rows[0]).words


def test_units_that_suffice_for_one_comparison_are_too_few_for_several():
    six = [versus(o, "lognorm", -0.2, 2.0**-5, n=6) for o in ("rank", "rank_pca", "hvg_pca")]
    many = TWO | {"rank_pca": 0.6, "hvg_pca": 0.6}
    assert said(scored(TWO, n=6), six[0]).outcomes == {"rank": "behind"}
    verdict = said(scored(many, n=6), *six)
    assert set(verdict.outcomes.values()) == {"too few"}
    assert "With 6 donors and 3 comparisons no test can prove a lead" in verdict.words
    batches = results.table(scored(many, n=6), *six).replace({"unit": {"donor": "batch"}})
    assert "With 6 batches and 3 comparisons no test" in Results(batches).verdict().words


def test_what_comparisons_write_is_what_they_read(make_cells):
    cells = make_cells(seed=1, donors=4)
    found = sclin.evaluate(
        cells, "cell_type", groups="donor", representations=["rank", "lognorm", "random"],
        heads=["centroid", "knn"], n_boot=50,
    )  # fmt: skip
    rows = found.comparisons("lognorm", head="knn")
    assert set(rows["variant"]) == {"versus:lognorm", "versus:lognorm+knn"}
    read = Results(results.table(found.table, rows))
    for a, b in (("rank", "lognorm"), ("lognorm", "rank")):
        one, other = (r.compare(a, b, head="knn") for r in (found, read))
        assert one[:4] == pytest.approx(other[:4], abs=1e-12 if a == "rank" else 0.05)
    across = read.compare("rank", "lognorm", head="centroid", versus="knn")
    assert across.difference == pytest.approx(
        found.compare("rank", "lognorm", head="centroid", versus="knn").difference
    )
    assert isinstance(read.predictions, pd.DataFrame) and read.predictions.empty
    assert set(found.comparisons(head="knn").query("head == 'knn'")["variant"]) == {
        f"versus:{found.verdict(head='knn').best}"
    }


def test_species_is_its_own_plural():
    rows = [row | {"unit": "species"} for row in scored(TWO)]
    assert "over 8 species: lognorm" in said(rows).words
