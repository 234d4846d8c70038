from __future__ import annotations

import pytest

from sclin import published, results


def test_published_numbers_are_rows_of_the_results_table():
    rows = published.results()
    assert tuple(rows.columns) == results.COLUMNS
    assert (rows["source"] == "published").all()
    assert rows["value"].notna().all()
    best = rows[(rows["dataset"] == "GSE276896") & (rows["model"] == "Tahoe-x1-1b")]
    top = best.loc[best["value"].idxmax()]
    assert top["layer"] == "16"  # block 15 of the papers' count from 0
    assert top["relative_depth"] == pytest.approx(15 / 23, abs=1e-5)
