"""What the papers' data cost: the plan, with the rates of the machine of the page on speed."""

from __future__ import annotations

import json
from pathlib import Path

import page_tables
import pandas as pd

from sclin.plan import plan

# Cells, genes and genes seen in a cell, as the papers and the files state them.
DATA = {
    "one organ of Tabula Sapiens": "50000x60000x3000",
    "eight testes": "74000x20000x3000",
    "Tabula Sapiens": "1100000x60000x3000",
    "one state of a donor, T cell screen": "3100000x18000x3000",
    "T cell screen": "22000000x18000x3000",
}
MODELS = ("scfoundation", "tahoe-x1-1.3b")


def _span(low: float, high: float, units: dict[str, float]) -> str:
    """Both ends in the largest unit that the low one reaches."""
    fits = [name for name, size in units.items() if low >= size]
    unit = fits[-1] if fits else next(iter(units))
    low, high = (f"{x / units[unit]:,.2g}" if x < 100 * units[unit] else f"{x / units[unit]:,.0f}"
                 for x in (low, high))  # fmt: skip
    return f"{low} to {high} {unit}"


def costs(root: Path) -> str:
    """One row a data set of the papers: pipeline from a file, layers on one GPU."""
    results = root / "benchmarks" / "results"
    rates = json.loads((results / "rates.json").read_text(encoding="utf-8"))
    speed = pd.read_csv(results / "speed.csv").query("bench == 'out_of_core' and way == 'sclin'")
    last = speed[speed["n_cells"] == speed["n_cells"].max()].median(numeric_only=True)
    a_count = last["seconds"] / (last["n_cells"] * last["seen"])
    time = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}
    size = {"GB": 1e9, "TB": 1e12}
    lines = []
    for name, cells in DATA.items():
        held = plan("pipeline", cells, rates=rates).memory
        there = [plan(f"layers:{model}", cells, rates=rates) for model in MODELS]
        gpu = (_span(*cost.gpu_hours, {"min": 1 / 60, "h": 1.0, "days": 24.0}) for cost in there)
        n_cells, _, seen = map(int, cells.split("x"))
        seconds = a_count * n_cells * seen
        row = [name, f"{n_cells:,}", _span(0.8 * seconds, 1.25 * seconds, time)]
        lines.append([*row, _span(*held, size), *gpu, _span(*there[0].disk, size)])
    head = ["Data", "Cells", "Pipeline from a file, two cores", "Memory, if loaded instead"]
    head += ["scFoundation, one GPU", "Tahoe-x1 1.3B, one GPU", "Layers of scFoundation on disk"]
    return page_tables.markdown(lines, head)
