"""The example of the README runs, and prints what the first chapter prints."""

import re
from pathlib import Path

import jupytext
import pandas as pd

from sclin import datasets
from sclin.datasets import simulate

ROOT = Path(__file__).parents[2]


def test_the_example_prints_the_numbers_of_the_first_chapter(monkeypatch, capsys):
    cells = simulate.atlas(n_cells=200, n_genes=100, n_types=3, n_donors=3, seed=1)
    asked = []
    monkeypatch.setattr(datasets, "load", lambda name: asked.append(name) or cells)
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text())
    exec(code, readme := {})
    assert asked == ["baron_human"]
    told = capsys.readouterr().out
    assert "f1_macro over 3 donors:" in told and "balanced_accuracy" in told
    chapter: dict = {}
    for cell in jupytext.read(ROOT / "notebooks" / "01_first_run.md")["cells"]:
        drawn = "fig, ax" in cell["source"]
        if cell["cell_type"] == "code" and not drawn and "found" not in chapter:
            exec(cell["source"], chapter)
    one, other = (said["found"].table.drop(columns="task") for said in (readme, chapter))
    pd.testing.assert_frame_equal(one, other)
