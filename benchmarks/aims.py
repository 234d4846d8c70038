"""What is aimed at, and what the tables say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Aim:
    """A figure to reach: of what, between which ends, and how it is read off the tables."""

    bench: str
    what: str
    value: Callable[[], float]
    low: float = -np.inf
    high: float = np.inf


def medians(bench: str, column: str = "seconds") -> pd.DataFrame:
    """Median over repeats: one row a size, one column a way."""
    table = pd.read_csv(RESULTS / "speed.csv")
    table = table[table["bench"] == bench]
    return table.pivot_table(column, "n_cells", "way", aggfunc="median")


def ratio(bench: str, way: str, other: str, column: str = "seconds") -> float:
    """How many times the figure of one way holds that of another, at their largest common size."""
    both = medians(bench, column)[[way, other]].dropna()
    return float((both[way] / both[other]).iloc[-1])


def slope(bench: str, way: str) -> float:
    """Exponent of the number of cells: 1 is time in proportion to them."""
    seconds = medians(bench)[way].dropna()
    return (
        float(np.polyfit(np.log(seconds.index), np.log(seconds), 1)[0])
        if len(seconds) > 1
        else np.nan
    )


def last(bench: str, way: str, column: str = "seconds", unit: float = 1.0) -> float:
    """The figure of a way at its largest size."""
    return float(medians(bench, column)[way].dropna().iloc[-1]) / unit


def on_gpu(column: str) -> float:
    """A figure of scFoundation in bfloat16, from the last run on a GPU."""
    table = pd.read_csv(RESULTS / "gpu_speed.csv")
    table = table[(table["model"] == "scfoundation") & (table["precision"] == "bfloat16")]
    return float(table[column].iloc[-1])


def on_gpu_beside(peer: str) -> float:
    """Cells a second of scFoundation, in multiples of a peer on the same card."""
    table = pd.read_csv(RESULTS / "gpu_peers.csv")
    rows = table[table["peer"].str.startswith(peer)]
    return on_gpu("cells_per_second") / float(rows["cells_per_second"].iloc[-1])


def farthest_plan() -> float:
    """The measured time farthest from its prediction, as a factor."""
    return float(np.exp(np.abs(np.log(pd.read_csv(RESULTS / "plan.csv")["ratio"])).max()))


OURS, CORE = "sclin", "out_of_core"
ONE, TWO = "sclin, one Dask worker", "sclin, two Dask workers"
DENSE = "sctop and scikit-learn"
AIMS = [
    Aim(
        "normalization", "times faster than sctop",
        partial(ratio, "normalization", "sctop", OURS), low=500,
    ),
    Aim(
        "normalization", "times as long as a copy of the non-zeros",
        partial(ratio, "normalization", OURS, "copy of the non-zeros"), high=6,
    ),
    Aim(
        "pipeline", f"times faster than {DENSE}",
        partial(ratio, "pipeline", DENSE, OURS), low=8,
    ),
    Aim(
        "pipeline", f"times less memory than {DENSE}",
        partial(ratio, "pipeline", DENSE, OURS, "peak_mb"), low=10,
    ),
    Aim(CORE, "GB at most, largest file", partial(last, CORE, OURS, "peak_mb", 1000), high=4),
    Aim(CORE, "exponent of the number of cells", partial(slope, CORE, OURS), low=0.95, high=1.1),
    Aim(
        CORE, "times faster with two Dask workers than with one",
        partial(ratio, CORE, ONE, TWO), low=1.6,
    ),
    Aim(
        "store", "of the speed of numpy.memmap",
        partial(ratio, "store", "numpy.memmap", OURS), low=0.7,
    ),
    Aim(
        "layers", "of the rate of matrix products",
        partial(ratio, "layers", "matrix products", OURS), low=0.85,
    ),
    Aim(
        "gpu", "of the matrix rate in bfloat16",
        partial(on_gpu, "share_of_matrix_rate"), low=0.4,
    ),
    Aim(
        "gpu", "times faster than the reference procedure",
        partial(on_gpu_beside, "scfoundation"), low=10,
    ),
    Aim(
        "book", "minutes for a fresh clone, packages installed",
        partial(last, "book", "a fresh clone", unit=60), high=6,
    ),
    Aim(
        "book", "seconds after an edit of prose",
        partial(last, "book", "after an edit of prose"), high=20,
    ),
    Aim("plan", "times off, the worst of the predicted jobs", farthest_plan, high=1.5),
]  # fmt: skip


def table() -> pd.DataFrame:
    """One row an aim: its ends, the value measured, and whether it is met."""
    rows = []
    for aim in AIMS:
        try:
            value = aim.value()
        except (KeyError, IndexError, FileNotFoundError):
            value = np.nan  # not measured yet
        low, high = np.isfinite([aim.low, aim.high])
        ends = (
            f"{aim.low:g} to {aim.high:g}"
            if low and high
            else (f"at least {aim.low:g}" if low else f"at most {aim.high:g}")
        )
        met = "met" if aim.low <= value <= aim.high else "not met"
        met = "not measured" if np.isnan(value) else met
        row = {"bench": aim.bench, "what": aim.what, "aim": ends, "value": value, "met": met}
        rows.append(row)
    return pd.DataFrame(rows)
