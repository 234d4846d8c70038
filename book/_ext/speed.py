"""The page on speed: figures, tables and sentences from the tables of `benchmarks/results/`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import page_tables
import pandas as pd

from sclin.plotting import PALETTE, set_style

#: Benchmarks in the order of the figures, by their titles.
TITLES = {
    "normalization": "Rank scores",
    "projection": "Projection",
    "pipeline": "Linear pipeline",
    "cross_species": "56 transfers between species",
    "evaluate": "Five donors held out",
    "judge": "sclin judge",
    "layers": "Layers of a model",
    "store": "Reading one layer",
    "out_of_core": "A file that is never read whole",
}
#: What no code can do without, by benchmark.
LIMITS = {
    "normalization": "copy of the non-zeros",
    "layers": "matrix products",
    "store": "numpy.memmap",
    "out_of_core": "reading the file",
}
#: Ways whose processor time is the limit of an aim, however it is shared out.
BUSY = {
    "times faster with two Dask workers than with one": "sclin, two Dask workers",
    "minutes for a fresh clone, packages installed": "a fresh clone",
    "seconds after an edit of prose": "after an edit of prose",
}
OURS = "sclin"
NONE = ":::{note}\nNothing was measured yet: `make bench` does it.\n:::"


def _of(*names: str) -> Callable[[Callable[..., str]], Callable[[Path], str]]:
    """Give a passage its tables, or say that they were not measured."""

    def passage(write: Callable[..., str]) -> Callable[[Path], str]:
        @wraps(write)
        def filled(root: Path) -> str:
            files = [root / "benchmarks" / "results" / f"{name}.csv" for name in names]
            if not all(file.exists() for file in files):
                return NONE
            return write(root, *map(pd.read_csv, files))

        return filled

    return passage


def _slope(seconds: pd.Series) -> float:
    """Exponent of the number of cells."""
    return float(np.polyfit(np.log(seconds.index), np.log(seconds), 1)[0])


def _number(value: float) -> str:
    """Three digits, thousands with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _said(table: pd.DataFrame, bench: str, column: str) -> pd.DataFrame:
    """Median, lowest and highest of the repeats: one row a way and size."""
    rows = table[table["bench"] == bench]
    return rows.groupby(["way", "n_cells"], sort=False)[column].agg(["median", "min", "max"])


def _draw(root: Path, table: pd.DataFrame, column: str, scale: float, label: str) -> str:
    """Log-log panels, one a benchmark; return the path of the picture."""
    path = root / "book" / "_generated" / f"speed_{column}.svg"
    if (
        path.exists()
        and path.stat().st_mtime > (root / "benchmarks/results/speed.csv").stat().st_mtime
    ):
        return f"_generated/{path.name}"
    set_style()
    shown = [bench for bench in TITLES if bench in set(table["bench"])]
    figure, panels = plt.subplots(-(-len(shown) // 2), 2, figsize=(7.6, 3.2 * -(-len(shown) // 2)))
    for panel, bench in zip(np.ravel(panels), shown, strict=False):
        said = _said(table, bench, column) / scale
        colors = cycle(
            [PALETTE[name] for name in ("vermilion", "green", "purple", "orange", "sky")]
        )
        for way in said.index.get_level_values("way").unique():
            line = said.loc[way].sort_index()
            limit = way == LIMITS.get(bench)
            color = PALETTE["grey" if limit else "blue"] if limit or way == OURS else next(colors)
            steep = f" ({_slope(line['median']):.2f})" if len(line) > 1 else ""
            ends = [line["median"] - line["min"], line["max"] - line["median"]]
            panel.errorbar(
                line.index.to_numpy(), line["median"].to_numpy(), yerr=np.array(ends),
                label=way + steep, color=color, ms=4,
                marker="os^Dv"[said.index.get_level_values("way").unique().get_loc(way) % 5],
                ls="--" if limit else "-", lw=1.5, capsize=2,
            )  # fmt: skip
        panel.set(xscale="log", yscale="log", title=TITLES[bench], xlabel="cells", ylabel=label)
        sizes = sorted(said.index.get_level_values("n_cells").unique())
        panel.set_xticks(sizes, [f"{n:,}" for n in sizes])
        panel.xaxis.set_minor_locator(plt.NullLocator())
        panel.yaxis.set_minor_formatter(plt.NullFormatter())
        low, high = said["min"].min(), said["max"].max()
        ways = said.index.get_level_values("way").nunique()
        panel.set_ylim(top=high * (3 * high / low) ** (0.1 * ways))  # room for the legend
        panel.legend(fontsize=7, loc="upper left")
    for panel in np.ravel(panels)[len(shown) :]:
        panel.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "sclin"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return f"_generated/{path.name}"


def _alt(table: pd.DataFrame, column: str, unit: str, scale: float = 1.0) -> str:
    """What the figure shows at the largest size of each way, in words."""
    told = []
    for bench, title in TITLES.items():
        said = _said(table, bench, column)["median"] / scale
        ways = [
            f"{way} {_number(part.iloc[-1])} {unit} for {part.index[-1]:,} cells"
            for way in said.index.get_level_values("way").unique()
            for part in [said[way].sort_index()]
        ]
        told += [f"{title}: {', '.join(ways)}"] * bool(ways)
    return ". ".join(told)


@_of("speed")
def speed_seconds(root: Path, table: pd.DataFrame) -> str:
    """Draw seconds against cells."""
    file = _draw(root, table, "seconds", 1, "seconds")
    return (
        "{numref}`fig-speed` draws each benchmark at several sizes.\nA line ends where a way takes "
        "minutes, or does not fit in memory.\n\n"
        f":::{{figure}} {file}\n:name: fig-speed\n:width: 100%\n:alt: Log-log lines of seconds "
        f"against cells. {_alt(table, 'seconds', 's')}.\n\nSeconds against cells, both on "
        "logarithmic axes. Points are medians of the repeats, bars reach from the fastest to the "
        "slowest. The number behind a name is its slope: 1 means twice the time for twice the "
        "cells. Dashed: a limit that no code goes below.\n:::"
    )


@_of("speed")
def speed_memory(root: Path, table: pd.DataFrame) -> str:
    """Draw peak memory against cells."""
    file = _draw(root, table, "peak_mb", 1000, "GB at the peak")
    return (
        "{numref}`fig-speed-memory` draws the peaks of the same processes.\nSome hundred megabytes "
        "of each are Python and its libraries.\n\n"
        f":::{{figure}} {file}\n:name: fig-speed-memory\n:width: 100%\n:alt: Log-log lines of peak "
        f"memory against cells. {_alt(table, 'peak_mb', 'GB', 1000)}.\n\nLargest memory that a way "
        "held, its libraries and its input included. A way is a process of its own; of Dask, all "
        "its processes count. Numbers behind the names are slopes.\n:::"
    )


@_of("machine")
def speed_machine(_: Path, found: pd.DataFrame) -> str:
    """Say where the tables were measured."""
    here = found.set_index("what")["value"]
    tried = " These tables are of small sizes, for a try." * (here["sizes"] == "quick")
    took = f" in {here['minutes']} minutes" if "minutes" in here else ""
    versions = here.loc["python":].drop(["sizes", "minutes"], errors="ignore")
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"Measured on {here['date']}{took}: {here['processor']}, "
        f"{here['cores']} cores, {here['threads']} threads for each way, {here['memory_gb']} GB, "
        f"load {here['load_before']} before the start.{tried}\nA copy moves {here['copy_gb_s']} "
        f"GB/s there, a triad {here['triad_gb_s']} GB/s, and a product of two large matrices in "
        f"single precision makes {here['matrix_gflop_s']} GFLOP/s.\nVersions: {packages}."
    )


def _beside(table: pd.DataFrame) -> list[tuple[str, str, int, float, float]]:
    """Benchmark, peer, cells, and time and memory of the peer in multiples of ours."""
    found = []
    for bench in TITLES:
        seconds, memory = (_said(table, bench, c)["median"] for c in ("seconds", "peak_mb"))
        for way in seconds.index.get_level_values("way").unique():
            if way.startswith(OURS) or way == LIMITS.get(bench):
                continue
            n = seconds[way].index.max()
            ours = seconds[OURS][n], memory[OURS][n]
            found.append((bench, way, n, seconds[way][n] / ours[0], memory[way][n] / ours[1]))
    return found


def _at_best(table: pd.DataFrame, what: str, cores: int) -> str:
    """Say what the processor time of a run allows, where that is the limit."""
    runs = table[table["way"].eq(BUSY.get(what))]
    if runs.empty:
        return ""
    last = runs[runs["n_cells"].eq(runs["n_cells"].max())]
    busy, took = last["cpu_seconds"].median(), last["seconds"].median()
    return (
        f" The run takes {_number(busy)} s of processor time, so {cores} cores need at least "
        f"{_number(busy / cores)} s; it took {_number(took)} s."
    )


@_of("speed", "aims", "machine")
def speed_losses(_: Path, table: pd.DataFrame, aims: pd.DataFrame, here: pd.DataFrame) -> str:
    """Name first where a peer is faster or smaller, and which aims are not met."""
    lines = [
        f"- **{TITLES[bench]}**, {n:,} cells: {way} takes {_number(times)} of our time and "
        f"{_number(memory)} of our memory."
        for bench, way, n, times, memory in _beside(table)
        if times < 1 or memory < 1
    ]
    cores = int(here.set_index("what")["value"]["cores"])
    lines += [
        f"- **Not met**, {row.bench.replace('_', ' ')}: {_number(row.value)} {row.what}; "
        f"the aim is {row.aim}.{_at_best(table, row.what, cores)}"
        for row in aims[aims["met"] == "not met"].itertuples()
    ]
    return (
        "\n".join(lines)
        or "Nothing that was measured lost, and every aim that was measured is met."
    )


@_of("speed")
def speed_peers(_: Path, table: pd.DataFrame) -> str:
    """Time and memory of every peer in multiples of ours."""
    rows = [
        [TITLES[bench], way, f"{n:,}", _number(times), _number(memory)]
        for bench, way, n, times, memory in _beside(table)
    ]
    return page_tables.markdown(
        rows, ["Benchmark", "Peer", "Cells", "Times our time", "Times our memory"]
    )


@_of("speed")
def speed_limits(_: Path, table: pd.DataFrame) -> str:
    """How far each benchmark is from what no code goes below."""
    rows = []
    for bench, limit in LIMITS.items():
        said = _said(table, bench, "seconds")["median"]
        if {OURS, limit} <= set(said.index.get_level_values("way")):
            ours, least = said[OURS].sort_index(), said[limit].sort_index()
            n = min(ours.index.max(), least.index.max())
            rows.append([TITLES[bench], limit, f"{n:,}", f"{_number(ours[n])} s",
                         f"{_number(least[n])} s", _number(ours[n] / least[n])])  # fmt: skip
    head = ["Benchmark", "Limit", "Cells", "Ours", "The limit", "Times the limit"]
    return page_tables.markdown(rows, head)


@_of("aims")
def speed_aims(_: Path, aims: pd.DataFrame) -> str:
    """List every aim with what was measured; a narrow screen shows the figures first."""
    rows = [
        ["–" if pd.isna(row.value) else _number(row.value), row.aim,
         f"**{row.met}**" if row.met == "not met" else row.met,
         f"{row.bench.replace('_', ' ')}: {row.what}"]
        for row in aims.itertuples()
    ]  # fmt: skip
    return page_tables.markdown(rows, ["Measured", "Aim", "", "Of what"])


@_of("plan")
def speed_plan(_: Path, found: pd.DataFrame) -> str:
    """Set what `sclin plan` said beside what the jobs took."""
    rows = [
        [f"`{row.job}`", f"{row.n_cells:,} x {row.n_genes:,}",
         f"{_number(row.low)} to {_number(row.high)} s", f"{_number(row.measured)} s",
         f"{row.ratio:.2f}", f"{row.low_mb / 1000:.2g} to {row.high_mb / 1000:.2g} GB",
         f"{row.peak_mb / 1000:.2g} GB"]
        for row in found.itertuples()
    ]  # fmt: skip
    head = ["Job", "Cells x genes", "Said", "Took", "Took / middle", "Memory said", "Held"]
    return page_tables.markdown(rows, head)


@_of("gpu_speed", "gpu_peers", "gpu_conformance")
def speed_gpu(_: Path, speed: pd.DataFrame, peers: pd.DataFrame, errors: pd.DataFrame) -> str:
    """Layers on a GPU: speed, the peers on the same card, errors by precision."""
    last = speed[speed["code"] == "after"]
    rows = [
        [row.model, row.precision, f"{row.cells:,}", f"{row.median_tokens:,.0f}",
         _number(row.cells_per_second), _number(row.tflops), f"{row.share_of_matrix_rate:.2f}",
         f"{row.peak_gib:.1f}"]
        for row in last.itertuples()
    ]  # fmt: skip
    head = ["Model", "Precision", "Cells", "Median tokens", "Cells a second", "TFLOP/s",
            "Share of the matrix rate", "GiB"]  # fmt: skip
    beside = [
        [row.peer, f"{row.cells:,}", _number(row.cells_per_second)]
        for row in peers[peers["code"] == "after"].itertuples()
    ]
    worst = errors.groupby(["model", "precision"], sort=False)["error"].max().unstack()
    wrong = [[model, *(f"{e:.1g}" for e in row)] for model, row in worst.iterrows()]
    return "\n\n".join([
        page_tables.markdown(rows, head),
        "Peers on the same card and cells:",
        page_tables.markdown(beside, ["Peer", "Cells", "Cells a second"]),
        "Largest error of any layer against the arrays of the official code:",
        page_tables.markdown(wrong, ["Model", *worst.columns]),
    ])  # fmt: skip
