"""One figure style, one palette, and the few figures that several chapters share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

#: Okabe and Ito's colours, told apart by colour-blind readers; yellow is left out for contrast.
PALETTE = {
    "blue": "#0072B2", "vermilion": "#D55E00", "green": "#009E73", "purple": "#B65A93",
    "sky": "#4FA9DA", "orange": "#D98E04", "ink": "#1F2933", "grey": "#7B8794",
}  # fmt: skip

#: One colour per representation, in every chapter.
REPRESENTATION_COLORS = {
    "rank": PALETTE["blue"], "rank_pca": PALETTE["sky"],
    "lognorm": PALETTE["vermilion"], "hvg_pca": PALETTE["orange"],
    "hellinger": PALETTE["ink"], "counts": PALETTE["purple"],
    "library_size": PALETTE["grey"], "random": "#A5AFB9",
}  # fmt: skip

#: Colour map of matrices: light to dark, also when printed in grey.
SEQUENTIAL = "Blues"


def color_of(representation: str) -> str:
    """Colour of a representation; model layers are green, stored arrays purple."""
    if representation.startswith("layer:"):
        return PALETTE["grey"] if "random" in representation else PALETTE["green"]
    return REPRESENTATION_COLORS.get(representation, PALETTE["purple"])


def set_style() -> None:
    """Set the book's style: figures alike, sharp in notebooks, the text of tables whole."""
    pd.set_option("display.max_colwidth", None)
    plt.style.use(Path(__file__).with_name("book.mplstyle"))
    if shell := get_ipython():
        shell.run_line_magic("config", "InlineBackend.figure_format = 'retina'")


def dot_interval(
    table: pd.DataFrame, *, label: str, value: str = "value", colors: Sequence[str] | None = None,
    xlabel: str = "", reference: float | None = None, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw one dot with its interval per row, first row on top.

    Parameters
    ----------
    table
        One row per dot; the ends of its interval are ``ci_low`` and ``ci_high``.
    label, value
        Columns with the row's name and its number.
    colors
        Colour of each row; blue when ``None``.
    xlabel
        Label of the value axis.
    reference
        Draws a dashed line, such as chance.
    ax
        Axes to draw on.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    rows = np.arange(len(table))[::-1]
    palette = [PALETTE["blue"]] * len(table) if colors is None else list(colors)
    ax.hlines(rows, table["ci_low"], table["ci_high"], colors=palette, linewidth=2.2)
    ax.scatter(table[value].astype(float), rows, c=palette, s=49, edgecolor="white", zorder=3)
    if reference is not None:
        ax.axvline(reference, color=PALETTE["grey"], linestyle="--", linewidth=1.2)
    ax.set_yticks(rows, table[label].astype(str).tolist())
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    return ax


def matrix(
    values: pd.DataFrame, *, xlabel: str = "", ylabel: str = "", colorbar: str = "",
    fmt: str | None = ".2f", vmin: float | None = None, vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw a labelled matrix, with its numbers when they fit.

    Parameters
    ----------
    values
        Rows and columns as drawn.
    xlabel, ylabel, colorbar
        Labels of the axes and the colour bar.
    fmt
        Format of the numbers; ``None`` draws none.
    vmin, vmax
        Ends of the colour scale.
    ax
        Axes to draw on.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    data = values.to_numpy(dtype=float)
    image = ax.imshow(data, vmin=vmin, vmax=vmax, cmap=SEQUENTIAL, aspect="auto")
    ax.set_xticks(range(data.shape[1]), [str(c) for c in values.columns], rotation=45, ha="right")
    ax.set_yticks(range(data.shape[0]), [str(r) for r in values.index])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    if fmt is not None:
        inches = ax.get_window_extent().width / ax.figure.dpi
        size = min(9.0, 22 * inches / data.shape[1])
        for (i, j), number in np.ndenumerate(data):
            if np.isfinite(number):
                dark = float(image.norm(float(number))) > 0.55  # type: ignore[arg-type]
                shade = "white" if dark else PALETTE["ink"]
                ax.text(j, i, format(number, fmt), ha="center", va="center", color=shade, size=size)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label(colorbar)
    return ax


def curve(
    x: ArrayLike, y: ArrayLike, *, low: ArrayLike | None = None, high: ArrayLike | None = None,
    label: str = "", color: str | None = None, marker: str = "o", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw a line through points with a shaded interval.

    Parameters
    ----------
    x, y, low, high
        Points and the ends of their intervals, one length.
    label, color, marker
        Of the line.
    ax
        Axes to draw on.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    (line,) = ax.plot(x, y, marker=marker, markersize=4.5, label=label or None, color=color)
    if low is not None and high is not None:
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, lw=0)
    return ax


def beside(
    table: pd.DataFrame, *, label: str, by: str = "dataset", metric: str = "score",
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw published numbers on x and ours on y, one mark a row.

    On the dashed diagonal the two are equal.

    Parameters
    ----------
    table
        Rows of `sclin.results` with a column ``published``; filled marks are of the protocol
        ``corrected``, open ones of ``as_published``, and bars run from ``ci_low`` to ``ci_high``.
    label
        Column with the name of each published number, written above it.
    by
        Column that separates colours and shapes.
    metric
        Name of the number, for the axes.
    ax
        Axes to draw on.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    middle = table["published"].mean()
    ax.axline((middle, middle), slope=1, color=PALETTE["grey"], ls="--", lw=1.2, label="equal")
    styles = zip(pd.unique(table[by]), PALETTE.values(), cycle("osD^vP"), strict=False)
    for name, color, marker in styles:
        for protocol, rows in table[table[by].eq(name)].groupby("protocol", sort=False):
            face = color if protocol == "corrected" else "white"
            told = f"{name}, {str(protocol).replace('_', ' ')}"
            ax.vlines(rows["published"], rows["ci_low"], rows["ci_high"], color=color, lw=1.2)
            ax.plot(rows["published"], rows["value"], marker, color=color, mfc=face, label=told)
    ax.margins(0.08)
    ax.set(xlabel=f"published: {metric}", ylabel=f"ours: {metric}")
    leader = {"arrowstyle": "-", "lw": 0.6, "relpos": (0, 0), "shrinkA": 0, "shrinkB": 0}
    top, place, gap = ax.get_xaxis_transform(), -np.inf, 0.045 * np.ptp(table["published"])
    for x, name in table.groupby("published")[label].first().items():
        place = max(x, place + gap)  # names of near numbers stand side by side
        ax.annotate(name, (x, 1), (place, 1.08), xycoords=top, textcoords=top, rotation=60,
                    size=8.5, arrowprops=leader)  # fmt: skip
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def depth_profile(
    table: pd.DataFrame, *, by: str = "model", ylabel: str = "score", ax: Axes | None = None
) -> Axes:
    """Draw a score against relative depth, one line per model, best layer marked.

    Parameters
    ----------
    table
        Columns ``relative_depth`` (0 to 1), ``value``, optionally ``ci_low`` and ``ci_high``, and
        the column named by ``by``.
    by
        Column that separates the lines.
    ylabel
        Label of the score axis.
    ax
        Axes to draw on.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    for marker, (name, rows) in zip(cycle("osD^vP"), table.groupby(by, sort=False)):
        rows = rows.sort_values("relative_depth")
        ends: dict[str, Any] = {"low": rows.get("ci_low"), "high": rows.get("ci_high")}
        color = PALETTE["grey"] if "random" in str(name) else None
        x, y = rows["relative_depth"], rows["value"]
        curve(x, y, label=str(name), color=color, marker=marker, ax=ax, **ends)
        best = int(np.argmax(y))
        ring: dict[str, Any] = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.6}
        ax.plot(x.iloc[best], y.iloc[best], "o", color=ax.lines[-1].get_color(), **ring)
    ax.set_xlabel("relative depth (0 = embedding or first block, 1 = last block)")
    ax.set_ylabel(ylabel)
    ax.legend()
    return ax
