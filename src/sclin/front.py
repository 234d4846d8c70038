"""What the first page shows: one figure of all tasks, its sentences, and the depth explorer.

Everything is drawn from results tables and from the published numbers; nothing is computed anew.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sclin import published
from sclin.errors import InputError
from sclin.plotting import PALETTE, set_style

__all__ = [
    "alt_text",
    "caption",
    "depth_explorer",
    "findings",
    "front_figure",
    "headline",
    "save_front_figure",
]


class Family(NamedTuple):
    """A kind of representation: its colour, and who stands for it, first come first taken."""

    label: str
    color: str
    members: tuple[str, ...]


FAMILIES = {
    "rank": Family("rank scores", PALETTE["blue"], ("rank_pca", "rank")),
    "usual": Family("log counts, PCA", PALETTE["orange"], ("hvg_pca", "lognorm", "counts")),
    "model": Family("model layers (final)", PALETTE["green"], ("layer:",)),
    "control": Family("control", PALETTE["grey"], ("library_size", "random")),
}
HEADS = ("logistic", "projection", "knn", "centroid")


class Task(NamedTuple):
    """A task of the front figure: its name, and the metrics that may stand for it, in order.

    Where ``over_states``, the rows of a representation are cell states, and their mean is taken.
    """

    label: str
    metrics: tuple[str, ...]
    over_states: bool = False


TASKS = {
    "cell_types": Task("Cell type", ("macro_f1",)),
    "disease_state": Task("Disease state", ("macro_f1",)),
    "cross_species": Task("Across species", ("mean_macro_f1", "macro_f1")),
    "trajectory": Task("Trajectory", ("pseudotime_time_spearman",)),
    "perturbation": Task("Perturbation", ("effect_similarity",), over_states=True),
}
#: Notes of rows that answer another question than the task's own.
SIDE_ROWS = "shuffled|one gene alone|split alone"


_SCORE = ["value", "ci_low", "ci_high"]


def headline(results: pd.DataFrame) -> pd.DataFrame:
    """Take one number per task and kind of representation, without looking at the numbers.

    Parameters
    ----------
    results
        A results table (`sclin.evaluation.COLUMNS`).

    Returns
    -------
    DataFrame
        The rows taken, with a column ``family``. Of each task the first dataset in the table
        stands for it, real before simulated; head and representation follow a fixed order of
        preference, so no row is picked because it is high. Perturbation scores, and the ends of
        their intervals, are means over cell states. Tasks without results are absent.
    """
    taken = []
    for task, about in TASKS.items():
        rows = results[
            (results["task"] == task)
            & (results["source"] == "reproduced")
            & (results["protocol"] == "corrected")
            & ~results["note"].astype(str).str.contains(SIDE_ROWS)
        ]
        metric = next((name for name in about.metrics if (rows["metric"] == name).any()), None)
        rows = rows[rows["metric"] == metric]
        if rows.empty:
            continue
        simulated = rows["dataset"].str.startswith("sim_")
        rows = rows[rows["dataset"] == rows[simulated == simulated.min()]["dataset"].iloc[0]]
        for family, kind in FAMILIES.items():
            row = _representative(rows, family, kind.members)
            if row is not None and about.over_states:
                states = rows[rows["representation"] == row["representation"]]
                row = row.copy()
                row[_SCORE] = states[_SCORE].mean()
            if row is not None:
                taken.append(row.to_frame().T.assign(family=family))
    if not taken:
        return results.iloc[:0].assign(family=pd.Series(dtype=str))
    table = pd.concat(taken, ignore_index=True)
    return table.astype({"value": float, "ci_low": float, "ci_high": float})


def _representative(rows: pd.DataFrame, family: str, members: tuple[str, ...]) -> pd.Series | None:
    """First row of the first member that is there, the preferred head first."""
    names, heads = rows["representation"].astype(str), rows["head"].fillna("")
    untrained = names.str.contains("random") & names.str.startswith("layer:")
    for member in members:
        if family == "model":
            ours = rows[names.str.startswith(member) & ~untrained]
            final = ours[ours["representation"].str.endswith("/final")]
            ours = final if len(final) else ours[ours["layer"] == ours["layer"].max()]
        else:
            ours = rows[names == member]
        for head in (*HEADS, ""):
            if (heads[ours.index] == head).any():
                return ours[heads[ours.index] == head].iloc[0]
        if len(ours):
            return ours.iloc[0]
    return None


def _published() -> pd.DataFrame:
    """Numbers of the papers for the tasks of the figure, each of the kind it speaks for."""
    scores, best = published.table("classification"), published.table("best_layers")
    f1 = scores[scores["metric"] == "f1_macro"]
    whole = f1[
        f1["dataset"].eq("Tabula Sapiens 2.0") & f1["unit"].str.startswith("mean over")
    ].assign(task="cell_types")
    disease = f1[f1["section"] == "disease state"].assign(task="disease_state")
    rows = pd.concat([whole, disease])[["task", "paper", "method", "value"]]
    rows["family"] = np.where(rows["paper"] == "P1", "rank", "model")
    matrix = published.table("crossspecies")
    transfer = matrix[
        (matrix["method"] == "scTOP")
        & (matrix["metric"] == "f1_macro")
        & (matrix["kind"] == "matrix")
        & (matrix["basis_species"] != matrix["target_species"])
    ]["value"].astype(float)
    layers = best[
        best["metric"].eq("Pseudotime_Corr") & best["dataset"].eq("GSE276896")
        | best["metric"].eq("correlation") & best["dataset"].str.startswith("D1_")
    ]
    extra = pd.DataFrame(
        {
            "task": np.where(layers["task"] == "pseudotime", "trajectory", "perturbation"),
            "value": layers["final_layer_value"],
            "family": "model",
        }
    )
    species = pd.DataFrame(
        {"task": ["cross_species"], "value": [transfer.mean()], "family": ["rank"]}
    )
    table = pd.concat([rows, species, extra], ignore_index=True)
    return table.assign(value=pd.to_numeric(table["value"], errors="coerce")).dropna(
        subset=["value"]
    )


def front_figure(results: pd.DataFrame) -> Figure:
    """Draw published numbers beside the numbers of this book, task by task.

    Parameters
    ----------
    results
        A results table; tasks without rows keep their line, empty on the right.

    Returns
    -------
    Figure
        Two panels that share their rows.
    """
    set_style()
    ours, papers = headline(results), _published()
    tasks = [task for task in TASKS if task in set(ours["task"]) | set(papers["task"])]
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9.6, 0.62 * len(tasks) + 1.6))
    for panel, table, title in zip(
        panels,
        (papers, ours),
        ("Published, other data and protocols", "Reproduced here, one protocol"),
        strict=True,
    ):
        _draw_panel(panel, table, tasks)
        panel.set_title(title)
        panel.set_xlabel("score (1 is perfect)")
    panels[0].set_yticks(range(len(tasks)), [TASKS[str(task)].label for task in tasks])
    panels[0].set_ylim(len(tasks) - 0.4, -0.6)
    handles = [
        plt.Line2D([], [], ls="", marker="o", ms=8, color=kind.color, label=kind.label)
        for kind in FAMILIES.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10)
    return figure


def _draw_panel(panel: plt.Axes, table: pd.DataFrame, tasks: list[str]) -> None:
    is_ours = "ci_low" in table.columns
    for _, row in table.iterrows():
        order = list(FAMILIES).index(row["family"])
        y = tasks.index(row["task"]) + 0.17 * (order - 1.5)
        color = FAMILIES[row["family"]].color
        if is_ours and pd.notna(row["ci_low"]):
            panel.plot([row["ci_low"], row["ci_high"]], [y, y], color=color, lw=2.2, alpha=0.55)
        panel.plot(
            row["value"],
            y,
            "o" if is_ours else "D",
            color=color,
            ms=8 if is_ours else 6.5,
            mfc=color if is_ours else "white",
            mew=1.6,
        )
    low = min(0.0, float(table["value"].min()) - 0.05) if len(table) else 0.0
    panel.set_xlim(low, 1.02)
    for line in range(1, len(tasks)):
        panel.axhline(line - 0.5, color="#E4E7EB", lw=0.8)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)


def save_front_figure(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the front figure as SVG and PNG, and leave files that would not change alone.

    Parameters
    ----------
    results
        A results table.
    folder
        Where ``front.svg`` and ``front.png`` go; made when absent.

    Returns
    -------
    list of Path
        Both files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "front.svg", folder / "front.png"]
    stamp = folder / "front.csv"
    table = headline(results).to_csv(index=False)
    if all(path.exists() for path in (*paths, stamp)) and stamp.read_text() == table:
        return paths
    with plt.rc_context({"svg.hashsalt": "sclin"}):
        figure = front_figure(results)
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1])
    plt.close(figure)
    stamp.write_text(table)
    return paths


def _describe(row: pd.Series) -> str:
    head = f" + {row['head']}" if isinstance(row["head"], str) and row["head"] else ""
    interval = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if pd.notna(row["ci_low"]) else ""
    return f"**{row['value']:.2f}**{interval} `{row['representation']}`{head}"


def findings(results: pd.DataFrame) -> pd.DataFrame:
    """Table what the corrected protocol gave, one row per task.

    Parameters
    ----------
    results
        A results table.

    Returns
    -------
    DataFrame
        Index: task and data, simulated data called so. Columns: kinds of representation.
        Cells: value, interval and who stands for the kind, in Markdown.
    """
    rows = {}
    for task, group in headline(results).groupby("task", sort=False):
        first = group.iloc[0]
        kind = "simulated, " if first["dataset"].startswith("sim_") else ""
        name = f"{TASKS[str(task)].label}, {first['metric'].replace('_', ' ')} "
        name += f"({kind}`{first['dataset']}`)"
        rows[name] = {FAMILIES[row["family"]].label: _describe(row) for _, row in group.iterrows()}
    labels = [kind.label for kind in FAMILIES.values()]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=labels).fillna("–")


def caption(results: pd.DataFrame) -> str:
    """Caption of the front figure.

    Parameters
    ----------
    results
        The results table that is drawn.

    Returns
    -------
    str
        Markdown sentences.
    """
    ours = headline(results)
    simulated = [
        TASKS[str(task)].label.lower()
        for task, rows in ours.groupby("task", sort=False)
        if rows["dataset"].iloc[0].startswith("sim_")
    ]
    told = f"Simulated data: {', '.join(simulated)}. " if simulated else ""
    return (
        "What the papers report (left, open diamonds) and what this book measures under one "
        "corrected protocol (right, dots with 95 % intervals where the task has them). "
        f"{told}"
        "The two sides use different cells, so compare colours within a side, not across. "
        "Each dot is fixed by an order of preference, not picked for its height."
    )


def alt_text(results: pd.DataFrame) -> str:
    """Alternative text of the front figure: its numbers as one line.

    Parameters
    ----------
    results
        The results table that is drawn.

    Returns
    -------
    str
        Plain text without line breaks.
    """
    parts = []
    for task, rows in headline(results).groupby("task", sort=False):
        numbers = ", ".join(
            f"{FAMILIES[row['family']].label} {row['value']:.2f}" for _, row in rows.iterrows()
        )
        parts.append(f"{TASKS[str(task)].label}: {numbers}")
    return "Dot plot of scores by task, published beside reproduced. " + "; ".join(parts) + "."


# The depth explorer ------------------------------------------------------------------------------

MODEL_COLORS = {"scFoundation": PALETTE["vermilion"], "Tahoe-x1-1b": PALETTE["blue"]}
EXPLORED = {
    "Pseudotime_Corr": "Agreement with reference pseudotime",
    "Global_Geom_Corr": "Global geometry of the trajectory",
    "correlation": "Perturbation similarity",
    "F1_macro": "Cell type, macro F1",
    "Silhouette_Score": "Cell type, silhouette",
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 62, 16, 18, 52


def depth_explorer(table: pd.DataFrame) -> str:
    """Draw stored scores against relative depth as one HTML figure to explore.

    It needs neither a server nor JavaScript: radio buttons and style rules choose the score,
    a pointer on a dot shows its numbers, and the chosen curves have a table of peaks below.

    Parameters
    ----------
    table
        Columns ``dataset``, ``model``, ``layer``, ``relative_depth``, ``metric`` and ``value``,
        as in ``published.table("layers")``.

    Returns
    -------
    str
        HTML of a ``<figure>``, with its styles.

    Raises
    ------
    InputError
        If a column is missing or no row has a metric that can be drawn.

    Examples
    --------
    >>> from sclin import published
    >>> depth_explorer(published.table("layers")).count('type="radio"')
    5
    """
    needed = {"dataset", "model", "layer", "relative_depth", "metric", "value"}
    if missing := needed - set(table.columns):
        raise InputError(
            f"the table of layers lacks {sorted(missing)}; pass published.table('layers')"
        )
    metrics = [name for name in EXPLORED if (table["metric"] == name).any()]
    if not metrics:
        raise InputError(
            f"no row has one of the metrics {', '.join(EXPLORED)}; pass published.table('layers')"
        )
    inputs, labels, panels, rules = [], [], [], []
    for index, metric in enumerate(metrics):
        key = f"dx-{index}"
        checked = " checked" if index == 0 else ""
        inputs.append(f'<input type="radio" name="dx" id="{key}"{checked}>')
        labels.append(f'<label for="{key}">{html.escape(EXPLORED[metric])}</label>')
        panels.append(
            f'<div class="dx-panel" tabindex="0" data-panel="{index}">'
            f"{_panel(table[table['metric'] == metric], EXPLORED[metric])}</div>"
        )
        rules.append(
            f'#{key}:checked ~ .dx-panels [data-panel="{index}"]{{display:block}}'
            f'#{key}:checked ~ .dx-choices label[for="{key}"]'
            "{background:var(--pst-color-primary,#005a8f);color:var(--dx-on,#fff)}"
            f'#{key}:focus-visible ~ .dx-choices label[for="{key}"]'
            "{outline:3px solid #D55E00;outline-offset:2px}"
        )
    return (
        f'<figure class="depth-explorer"><style>{STYLE}{"".join(rules)}</style>'
        f'<div role="group" aria-label="Score to show">{"".join(inputs)}'
        f'<div class="dx-choices">{"".join(labels)}</div>'
        f'<div class="dx-panels">{"".join(panels)}</div></div></figure>'
    )


STYLE = (
    ".depth-explorer{margin:1rem 0;color:#1F2933}"
    ".depth-explorer input{position:absolute;opacity:0;width:1px;height:1px}"
    ".dx-choices{display:flex;flex-wrap:wrap;gap:.4rem;margin-bottom:.6rem}"
    ".dx-choices label{padding:.3rem .8rem;border-radius:1rem;font-size:.9rem;cursor:pointer;"
    "background:#E4E7EB;color:#1F2933;margin:0}"
    ".dx-panel{display:none;background:#fff;border-radius:.5rem;padding:.6rem;overflow-x:auto}"
    ".dx-panel svg{width:100%;height:auto;min-width:32rem;display:block}"
    ".dx-panel table{color:#1F2933;width:100%;font-size:.85rem;border-collapse:collapse}"
    ".dx-panel th,.dx-panel td{text-align:left;padding:.2rem .5rem;"
    "border-bottom:1px solid #E4E7EB;background:#fff;color:#1F2933}"
    ".dx-panel g.series:hover path{stroke-width:4.5}"
)
DASHES = ("", "7 4", "2 4", "10 4 2 4")


def _series(table: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Curves with their names, colours (model) and dashes (dataset)."""
    order: dict[str, int] = {}
    for (model, dataset), rows in table.groupby(["model", "dataset"], sort=False):
        dash = DASHES[order.setdefault(str(model), 0) % len(DASHES)]
        order[str(model)] += 1
        color = MODEL_COLORS.get(str(model), PALETTE["purple"])
        yield f"{model}, {dataset}", color, dash, rows.sort_values("relative_depth")


def _panel(table: pd.DataFrame, title: str) -> str:
    """One SVG and its table of peaks."""
    table = table.dropna(subset=["relative_depth", "value"])
    low, high = float(table["value"].min()), float(table["value"].max())
    step = _nice((high - low) / 4)
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step

    def x(depth: float) -> float:
        return LEFT + depth * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)} '
        'against relative depth; the table below names the peaks" font-size="13" '
        'font-family="system-ui, sans-serif" fill="#1F2933">'
    ]
    for value in np.arange(low, high + step / 2, step):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#E4E7EB"/><text x="{LEFT - 8}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.{max(0, -int(np.floor(np.log10(step))))}f}</text>'
        )
    for depth in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<text x="{x(depth):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
            f"{depth:g}</text>"
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        "relative depth (0 first block, 1 last block)</text>"
    )
    peaks = []
    for name, color, dash, rows in _series(table):
        peaks.append(_peak(name, color, dash, rows))
        points = [
            (x(float(depth)), y(float(value)), layer, float(value))
            for depth, value, layer in zip(
                rows["relative_depth"], rows["value"], rows["layer"], strict=True
            )
        ]
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py, *_ in points)
        dots = "".join(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{color}">'
            f"<title>{html.escape(name)}, layer {layer}: {value:.3f}</title></circle>"
            for px, py, layer, value in points
        )
        parts.append(
            f'<g class="series"><path d="{path}" fill="none" stroke="{color}" stroke-width="2.2" '
            f'stroke-dasharray="{dash}"/>{dots}</g>'
        )
    head = "<tr><th>Curve</th><th>Best layer</th><th>Best</th><th>Final</th></tr>"
    return (
        "".join(parts)
        + f"</svg><table><thead>{head}</thead><tbody>{''.join(peaks)}</tbody></table>"
    )


def _peak(name: str, color: str, dash: str, rows: pd.DataFrame) -> str:
    best, final = rows.iloc[int(np.argmax(rows["value"]))], rows.iloc[-1]
    key = (
        f'<svg width="34" height="10" style="width:34px;min-width:0;display:inline-block" '
        f'aria-hidden="true"><path d="M1 5H33" stroke="{color}" stroke-width="3" '
        f'stroke-dasharray="{dash}"/></svg>'
    )
    return (
        f"<tr><td>{key} {html.escape(name)}</td><td>{best['layer']} of {final['layer']}</td>"
        f"<td>{best['value']:.3f}</td><td>{final['value']:.3f}</td></tr>"
    )


def _nice(step: float) -> float:
    """Round a step to 1, 2 or 5 times a power of ten."""
    if step <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(step))
    return float(power * next(m for m in (1, 2, 5, 10) if step <= m * power * (1 + 1e-9)))
