"""What the first page shows: one figure of all tasks, its sentences, and the depth explorer.

Everything is drawn from results tables and from the published numbers; nothing is computed anew.
"""

from __future__ import annotations

import html
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    "verdicts",
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
    taken = [results.iloc[:0].assign(family=pd.Series(dtype=str))]
    honest = results[
        (results["source"] == "reproduced")
        & (results["protocol"] == "corrected")
        & ~results["note"].astype(str).str.contains(SIDE_ROWS)
    ]
    for task, about in TASKS.items():
        rows = honest[honest["task"] == task]
        metric = next((name for name in about.metrics if (rows["metric"] == name).any()), None)
        rows = rows[rows["metric"] == metric]
        if rows.empty:
            continue
        simulated = rows["dataset"].str.startswith("sim_")
        rows = rows[rows["dataset"] == rows[simulated == simulated.min()]["dataset"].iloc[0]]
        if about.over_states:
            means = rows.groupby("representation")[_SCORE].transform("mean")
            rows = rows.assign(**means)
        rows = rows.assign(place=[_place(row) for _, row in rows.iterrows()]).dropna(
            subset=["place"]
        )
        rows = rows.sort_values("place", kind="stable")
        rows["family"] = [list(FAMILIES)[place[0]] for place in rows.pop("place")]
        taken.append(rows.drop_duplicates("family"))
    table = pd.concat([part for part in taken if len(part)] or taken, ignore_index=True)
    return table.astype(dict.fromkeys(_SCORE, float))


def _place(row: pd.Series) -> tuple[int, int, float, int] | None:
    """Place of a row in the order of preference: family, member, late layers first, head."""
    name, head = str(row["representation"]), row["head"]
    layer = name.startswith("layer:") and "random" not in name
    depth = name.rpartition("/")[2] if layer else "0"
    for k, family in enumerate(FAMILIES.values()):
        for place, member in enumerate(family.members):
            if name == member or (layer and member == "layer:"):
                late = np.inf if depth == "final" else float(depth)
                return k, place, -late, HEADS.index(head) if head in HEADS else len(HEADS)
    return None


def _published() -> pd.DataFrame:
    """Numbers of the papers for the tasks of the figure, each of the kind it speaks for."""
    scores, best = published.table("classification"), published.table("best_layers")
    f1 = scores[scores["metric"] == "f1_macro"]
    means = f1["dataset"].eq("Tabula Sapiens 2.0") & f1["unit"].str.startswith("mean over")
    heads = pd.concat(
        [
            f1[means].assign(task="cell_types"),
            f1[f1["section"] == "disease state"].assign(task="disease_state"),
        ]
    ).assign(family=lambda rows: np.where(rows["paper"] == "P1", "rank", "model"))
    matrix = published.table("crossspecies")
    transfers = matrix.query(
        "method == 'scTOP' and metric == 'f1_macro' and kind == 'matrix'"
        " and basis_species != target_species"
    )["value"].astype(float)
    species = pd.DataFrame(
        {"task": ["cross_species"], "value": [transfers.mean()], "family": ["rank"]}
    )
    layers = best[
        best["metric"].eq("Pseudotime_Corr") & best["dataset"].eq("GSE276896")
        | best["metric"].eq("correlation") & best["dataset"].str.startswith("D1_")
    ]
    final = layers.assign(
        task=np.where(layers["task"] == "pseudotime", "trajectory", "perturbation"),
        value=layers["final_layer_value"],
        family="model",
    )
    table = pd.concat([heads, species, final], ignore_index=True)[["task", "value", "family"]]
    return table.assign(value=pd.to_numeric(table["value"], errors="coerce")).dropna()


def front_figure(results: pd.DataFrame) -> Figure:
    """Draw published numbers beside the numbers of this book, task by task.

    Parameters
    ----------
    results
        A results table; tasks without rows keep their published numbers.

    Returns
    -------
    Figure
        One panel: a band for each task, published numbers on top of ours.
    """
    set_style()
    ours, papers = headline(results), _published()
    tasks = [task for task in TASKS if task in set(ours["task"]) | set(papers["task"])]
    figure, panel = plt.subplots(figsize=(6.6, 0.84 * len(tasks) + 1.0))
    for k in range(0, len(tasks), 2):
        panel.axhspan(k - 0.5, k + 0.5, color="#F3F5F7", lw=0)
    for table, top, step, style in ((papers, -0.38, 0.06, "D"), (ours, -0.1, 0.15, "o")):
        for _, row in table.iterrows():
            place = list(FAMILIES).index(row["family"])
            y, color = tasks.index(row["task"]) + top + step * place, FAMILIES[row["family"]].color
            if style == "o":
                panel.plot([row["ci_low"], row["ci_high"]], [y, y], color=color, lw=2.2, alpha=0.55)
            fill = color if style == "o" else "white"
            panel.plot(row["value"], y, style, color=color, ms=7, mfc=fill, mew=1.5)
    made = set(ours.loc[ours["dataset"].str.startswith("sim_"), "task"])
    names = [TASKS[task].label + "\n(simulated)" * (task in made) for task in tasks]
    panel.set_yticks(range(len(tasks)), names)
    panel.set_ylim(len(tasks) - 0.5, -0.5)
    panel.set_xlim(right=1.02)
    panel.set_xlabel("score (1 is perfect)")
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    handles = [
        plt.Line2D([], [], ls="", marker=marker, color=color, mfc=fill, ms=7, label=label)
        for label, color, marker, fill in (
            *((kind.label, kind.color, "o", kind.color) for kind in FAMILIES.values()),
            ("published, other cells", PALETTE["ink"], "D", "white"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def save_front_figure(results: pd.DataFrame, folder: Path) -> Path:
    """Write the front figure as SVG, and leave a file that would not change alone.

    Parameters
    ----------
    results
        A results table.
    folder
        Where ``front.svg`` and the numbers it shows (``front.csv``) go; made when absent.

    Returns
    -------
    Path
        The figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, stamp = folder / "front.svg", folder / "front.csv"
    table = headline(results).to_csv(index=False)
    if not (path.exists() and stamp.exists() and stamp.read_text() == table):
        with plt.rc_context({"svg.hashsalt": "sclin"}):
            figure = front_figure(results)
            figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        stamp.write_text(table)
    return path


def _interval(row: pd.Series, digits: int = 2) -> str:
    ends = f" [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]"
    return f"{row['value']:.{digits}f}" + (ends if pd.notna(row["ci_low"]) else "")


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
        data = first["dataset"].replace(" + ", "`, `")
        name = f"**{TASKS[str(task)].label}**<br>{first['metric'].replace('_', ' ')}<br>"
        rows[f"{name}{kind}`{data}`"] = {
            FAMILIES[row["family"]].label: "<br>".join(
                [f"**{_interval(row).replace(' ', '** ', 1)}" + "**" * pd.isna(row["ci_low"])]
                + [f"`{part}`" for part in (row["representation"], row["head"]) if pd.notna(part)]
            )
            for _, row in group.iterrows()
        }
    labels = [kind.label for kind in FAMILIES.values()]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=labels).fillna("–")


def verdicts(results: pd.DataFrame) -> list[str]:
    """Say in sentences what the tables show, so that the words follow the numbers.

    Parameters
    ----------
    results
        A results table.

    Returns
    -------
    list of str
        Markdown, one finding each; a finding whose rows are absent is left out.
    """
    ours = {(row["task"], row["family"]): row for _, row in headline(results).iterrows()}
    told = []
    pairs = {
        TASKS[task].label: (ours[task, "rank"], ours[task, "usual"])
        for task in TASKS
        if {(task, "rank"), (task, "usual")} <= set(ours)
    }
    apart = [
        f"{name}: rank scores {a['value']:.2f}, log counts {b['value']:.2f}"
        + ("." if pd.notna(a["ci_low"]) else ", without an interval.")
        for name, (a, b) in pairs.items()
        if not (a["ci_low"] <= b["ci_high"] and b["ci_low"] <= a["ci_high"])
    ]
    if pairs:
        alike = len(pairs) - len(apart)
        claim = "keep up with" if 2 * alike > len(pairs) else "differ from"
        told.append(
            f"**Rank scores {claim} log counts.** Their 95 % intervals overlap on {alike} of "
            f"{len(pairs)} tasks. {' '.join(apart)}"
        )
    layers = {task: row for (task, family), row in ours.items() if family == "model"}
    rivals = [task for task in layers if (task, "usual") in ours]
    if rivals:
        behind = sum(layers[task]["value"] < ours[task, "usual"]["value"] for task in rivals)
        made = all(layers[task]["dataset"].startswith("sim_") for task in rivals)
        told.append(
            f"**A model must earn its cost.** On {behind} of {len(rivals)} tasks the final layer "
            f"of the model `{layers[rivals[0]]['model']}` lies behind log counts"
            + (" (simulated cells)." if made else ".")
        )
    gain = results[results["metric"] == "gain_over_final"]
    sure = gain[gain["ci_low"] > 0]
    if len(gain):
        least, most = f"{sure['value'].min():.2f}", f"{sure['value'].max():.2f}"
        size = f", by {least}" + (f" to {most}" if most != least else "") if len(sure) else ""
        made = bool(gain["dataset"].str.startswith("sim_").all())
        told.append(
            "**The layer is a choice to be tested.** Chosen on some donors or perturbations and "
            f"judged on others, an earlier layer beats the final one on {len(sure)} of {len(gain)} "
            f"tasks{size}" + (" (simulated cells)." if made else ".")
        )
    return told


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
    made = ours[ours["dataset"].str.startswith("sim_")]["task"].unique()
    simulated = ", ".join(TASKS[task].label.lower() for task in made)
    told = f"Simulated cells: {simulated}. " if simulated else ""
    return (
        "Published numbers (open diamonds) above those of this book (dots, lines are 95 % "
        f"intervals where the task has them). {told}"
        "Papers and book use different cells: compare colours among the dots. "
        "A fixed order of preference chose each dot, not its height."
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
        numbers = [
            f"{FAMILIES[f].label} {v:.2f}"
            for f, v in zip(rows["family"], rows["value"], strict=True)
        ]
        parts.append(f"{TASKS[str(task)].label}: {', '.join(numbers)}")
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
DASHES = ("", "7 4", "2 4", "10 4 2 4")


def depth_explorer(table: pd.DataFrame) -> str:
    """Draw stored scores against relative depth as one HTML figure to explore.

    It needs neither a server nor JavaScript: radio buttons and the style rules of the book choose
    the score, a pointer on a dot shows its numbers, and each score has a table of peaks below.

    Parameters
    ----------
    table
        Columns ``dataset``, ``model``, ``layer``, ``relative_depth``, ``metric`` and ``value``,
        as in ``published.table("layers")``.

    Returns
    -------
    str
        HTML of a ``<figure>``.

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
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="'
        f"{html.escape(EXPLORED[metric])} "
        'against relative depth; the table below names the peaks" font-size="13" '
        'font-family="inherit" fill="#1F2933">'
    ]

    def height(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - TOP)

    for value in ticks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height(value):.1f}" '
            f'y2="{height(value):.1f}" stroke="#E4E7EB"/><text x="{LEFT - 8}" '
            f'y="{height(value) + 4:.1f}" text-anchor="end">{round(value, 6):g}</text>'
        )
    for depth in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<text x="{LEFT + depth * inner:.1f}" y="{bottom + 20}" text-anchor="middle">'
            f"{depth:g}</text>"
        )
    parts.append(
        f'<text x="{LEFT + inner / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        "relative depth (0 first block, 1 last block)</text>"
    )
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
