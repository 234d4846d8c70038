"""The depth explorer: stored scores of every layer against relative depth, as one HTML figure.

It needs neither a server nor JavaScript: radio buttons and the style rules of the book choose the
score, a pointer on a dot shows its numbers, and each score has a table of peaks below.
"""

from __future__ import annotations

import html
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from sclin import published
from sclin.plotting import PALETTE

MODEL_COLORS = {"scFoundation": PALETTE["vermilion"], "Tahoe-x1-1b": PALETTE["blue"]}
EXPLORED = {
    "Pseudotime_Corr": "Agreement with reference pseudotime",
    "Global_Geom_Corr": "Global geometry of the trajectory",
    "correlation": "Perturbation similarity",
    "F1_macro": "Cell type, macro F1",
    "Silhouette_Score": "Cell type, silhouette",
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 62, 16, 18, 52
DASHES = ("", "7 4", "2 4", "10 4 2 4")


def depths(root: Path) -> str:
    """Show the stored score of every layer as a figure to explore."""
    return f"```{{raw}} html\n{explorer(published.table('layers'))}\n```"


def explorer(table: pd.DataFrame) -> str:
    """Draw ``published.table("layers")`` as the HTML of a ``<figure>``."""
    metrics = [name for name in EXPLORED if (table["metric"] == name).any()]
    inputs = [
        f'<input type="radio" name="dx" id="dx-{k}"{" checked" * (k == 0)}>'
        for k in range(len(metrics))
    ]
    labels = [
        f'<label for="dx-{k}">{html.escape(EXPLORED[name])}</label>'
        for k, name in enumerate(metrics)
    ]
    panels = [
        f'<div class="dx-panel" tabindex="0">{_panel(table[table["metric"] == name], name)}</div>'
        for name in metrics
    ]
    return (
        '<figure class="depth-explorer"><div role="group" aria-label="Score to show">'
        f'{"".join(inputs)}<div class="dx-choices">{"".join(labels)}</div>'
        f'<div class="dx-panels">{"".join(panels)}</div></div></figure>'
    )


def _panel(table: pd.DataFrame, metric: str) -> str:
    """One SVG and its table of peaks; colours are models, dashes are datasets."""
    table = table.dropna(subset=["relative_depth", "value"])
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(
        table["value"].min(), table["value"].max()
    )
    inner, bottom = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM

    def height(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - TOP)

    parts = [_axes(ticks, height, EXPLORED[metric])]
    peaks = []
    for model, ours in table.groupby("model", sort=False):
        color = MODEL_COLORS.get(str(model), PALETTE["purple"])
        for dash, (dataset, rows) in zip(cycle(DASHES), ours.groupby("dataset", sort=False)):
            rows = rows.sort_values("relative_depth")
            name = html.escape(f"{model}, {dataset}")
            line = f'fill="none" stroke="{color}" stroke-dasharray="{dash}"'
            best, final = rows.iloc[int(rows["value"].argmax())], rows.iloc[-1]
            peaks.append(
                f'<tr><td><svg width="34" height="10" aria-hidden="true"><path d="M1 5H33" {line} '
                f'stroke-width="3"/></svg> {name}</td><td>{best["layer"]} of {final["layer"]}</td>'
                f"<td>{best['value']:.3f}</td><td>{final['value']:.3f}</td></tr>"
            )
            points = [
                (LEFT + row["relative_depth"] * inner, height(row["value"]), row)
                for _, row in rows.iterrows()
            ]
            path = "L".join(f"{px:.1f} {py:.1f}" for px, py, _ in points)
            parts.append(f'<g class="series"><path d="M{path}" {line} stroke-width="2.2"/>')
            parts += [
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{color}">'
                f"<title>{name}, layer {row['layer']}: {row['value']:.3f}</title></circle>"
                for px, py, row in points
            ]
            parts.append("</g>")
    head = "<tr><th>Curve</th><th>Best layer</th><th>Best</th><th>Final</th></tr>"
    return (
        f"{''.join(parts)}</svg><table><thead>{head}</thead><tbody>{''.join(peaks)}</tbody></table>"
    )


def _axes(ticks, height, label: str) -> str:
    """Open the SVG and draw its grid and its scales."""
    inner, bottom = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM
    grid = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height(value):.1f}" '
        f'y2="{height(value):.1f}" stroke="#E4E7EB"/><text x="{LEFT - 8}" '
        f'y="{height(value) + 4:.1f}" text-anchor="end">{round(value, 6):g}</text>'
        for value in ticks
    ]
    scale = [
        f'<text x="{LEFT + depth * inner:.1f}" y="{bottom + 20}" text-anchor="middle">'
        f"{depth:g}</text>"
        for depth in (0, 0.25, 0.5, 0.75, 1)
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)} '
        'against relative depth; the table below names the peaks" font-size="13" '
        f'font-family="inherit" fill="#1F2933">{"".join(grid)}{"".join(scale)}'
        f'<text x="{LEFT + inner / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        "relative depth (0 first block, 1 last block)</text>"
    )
