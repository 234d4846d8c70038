"""Draw the logo and the favicon: cells, each projected onto one line."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN = "#2E8BC0", "#E07A1F", "#1AA37A"
FOLDER = Path(__file__).parent
CELLS = [(0.16, 0.44, ORANGE), (0.42, 0.12, GREEN), (0.44, 0.82, ORANGE), (0.86, 0.56, GREEN)]


def draw(stroke: float) -> plt.Figure:
    """Draw the mark with lines of a given width."""
    figure = plt.figure(figsize=(2, 2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    direction = np.array([1.0, 1.0]) / np.sqrt(2)
    axes.plot([0.06, 0.94], [0.06, 0.94], color=BLUE, lw=stroke, solid_capstyle="round", zorder=3)
    for x, y, color in CELLS:
        foot = direction * (np.array([x, y]) @ direction)
        axes.plot([x, foot[0]], [y, foot[1]], color=color, lw=stroke * 0.45)
        axes.plot(x, y, "o", color=color, ms=stroke * 2.5, mew=0)
    return figure


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "sclin"
    mark = draw(12)
    mark.savefig(FOLDER / "logo.svg", transparent=True, metadata={"Date": None})
    mark.savefig(FOLDER / "logo.png", transparent=True, dpi=160)
    draw(15).savefig(FOLDER / "favicon.png", transparent=True, dpi=32)
