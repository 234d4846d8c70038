"""The example of the README runs, and says what it promises."""

import re
from pathlib import Path

from sclin import datasets
from sclin.datasets import simulate

README = Path(__file__).parents[2] / "README.md"


def test_the_example_prints_a_table_and_a_verdict(monkeypatch, capsys):
    cells = simulate.atlas(n_cells=200, n_genes=100, n_types=3, n_donors=3, seed=1)
    asked = []
    monkeypatch.setattr(datasets, "load", lambda name: asked.append(name) or cells)
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```", README.read_text())
    exec(code, {})
    assert asked == ["baron_human"]
    told = capsys.readouterr().out
    assert "f1_macro over 3 donors:" in told and "balanced_accuracy" in told
