"""The page on speed says what its tables say, losses first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import speed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    times = {"sclin": (1.0, 2.0, 4.0), "sctop": (10.0, 40.0), "SciPy, dense": (0.5,)}
    rows = [
        {"bench": "normalization", "way": way, "n_cells": 100 * 2**i, "seconds": seconds * noise,
         "cpu_seconds": 2 * seconds, "peak_mb": 100.0}
        for way, every in times.items()
        for i, seconds in enumerate(every)
        for noise in (0.9, 1.0, 1.2)
    ]  # fmt: skip
    book = {"bench": "book", "way": "a fresh clone", "n_cells": 19, "seconds": 700.0,
            "cpu_seconds": 1200.0}  # fmt: skip
    pd.DataFrame([*rows, book]).to_csv(folder / "speed.csv", index=False)
    aims = {"bench": ["store", "pipeline", "book"],
            "what": ["of memmap", "times faster", "minutes for a fresh clone, packages installed"],
            "aim": ["at least 0.7", "at least 8", "at most 6"], "value": [0.3, None, 11.7],
            "met": ["not met", "not measured", "not met"]}  # fmt: skip
    pd.DataFrame({"what": ["cores"], "value": [2]}).to_csv(folder / "machine.csv", index=False)
    pd.DataFrame(aims).to_csv(folder / "aims.csv", index=False)
    return tmp_path


def test_what_loses_is_named_with_its_size(root: Path) -> None:
    said = speed.speed_losses(root)
    assert "100 cells: SciPy, dense takes 0.5 of our time" in said and "sctop" not in said
    assert "store: 0.3 of memmap" in said and "times faster" not in said
    assert "1,200 s of processor time, so 2 cores need at least 600 s; it took 700 s." in said


def test_peers_are_compared_at_the_largest_size_that_both_ran(root: Path) -> None:
    assert "| Rank scores | sctop | 200 | 20 | 1 |" in speed.speed_peers(root)


def test_the_legend_holds_the_slope(root: Path) -> None:
    table = pd.read_csv(root / "benchmarks/results/speed.csv")
    drawn = (root / "book" / speed._draw(root, table, "seconds", 1, "seconds")).read_text()
    assert "sclin (1.00)" in drawn and "sctop (2.00)" in drawn and "<!-- SciPy, dense -->" in drawn


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    assert {speed.speed_aims(tmp_path), speed.speed_seconds(tmp_path)} == {speed.NONE}
