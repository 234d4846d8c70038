from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

from sclin import results

ROOT = Path(__file__).parents[2]


def test_published_numbers_are_rows_of_the_results_table(monkeypatch):
    monkeypatch.setenv("SCLIN_RESULTS", str(ROOT / "results" / "offline"))
    seen: dict = {}
    for cell in jupytext.read(ROOT / "notebooks" / "16_scoreboard.md").cells:
        if cell.cell_type == "code" and "theirs" not in seen:
            exec(cell.source, seen)
    rows = seen["theirs"]
    assert tuple(rows.columns) == results.COLUMNS
    assert (rows["source"] == "published").all()
    assert rows["value"].notna().all()
    best = rows[(rows["dataset"] == "GSE276896") & (rows["model"] == "Tahoe-x1-1b")]
    top = best.loc[best["value"].idxmax()]
    assert top["layer"] == "16"  # block 15 of the papers' count from 0
    assert top["relative_depth"] == pytest.approx(15 / 23, abs=1e-5)
