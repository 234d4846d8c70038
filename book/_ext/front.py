"""What the first page shows: one figure of all tasks, its numbers, and sentences about them.

Every number is one row of a results table, found by key columns. `TASKS` says which chapter wrote
it and what was measured, `FAMILIES` which representations and `HEADS` which classifiers may stand
for a kind, first come first taken. No row is picked because it is high, and none is averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import page_tables
import pandas as pd
from matplotlib.figure import Figure

from sclin import published
from sclin.errors import InputError
from sclin.evaluation import Results
from sclin.plotting import PALETTE, set_style
from sclin.tasks.cross_species import off_diagonal_mean
from sclin.verdict import comparison


class Task(NamedTuple):
    """A task of the front page: its name, the chapter that ran it, and what it measured.

    Of several splits the first named here is taken, else the first in the table.
    """

    label: str
    chapter: str
    metric: str
    splits: tuple[str, ...] = ()


class Family(NamedTuple):
    """A kind of representation: its colour, and who may stand for it."""

    label: str
    color: str
    members: tuple[str, ...]


TASKS = {
    "cell_types": Task("Cell type", "05_cell_types", "f1_macro"),
    "disease_state": Task("Disease state", "06_disease_state", "f1_macro"),
    "cross_species": Task(
        "Across species",
        "07_cross_species",
        "mean_f1_macro",
        ("mean of transfers, diagonal out", "pooled"),
    ),
    "trajectory": Task("Trajectory", "12_layers_trajectory", "pseudotime_time_spearman"),
    "perturbation": Task(
        "Perturbation", "13_layers_perturbation", "effect_similarity", ("pooled", "all", "48h")
    ),
}
FAMILIES = {
    "rank": Family("rank scores", PALETTE["blue"], ("rank", "rank_pca")),
    "usual": Family("log counts or their PCA", PALETTE["orange"], ("lognorm", "hvg_pca", "counts")),
    "model": Family("model layers (final)", PALETTE["green"], ("layer:*/final",)),
    "control": Family("control", PALETTE["grey"], ("library_size", "random")),
}
OUTCOME_WORDS = {
    "ahead": "A paired test puts {who} ahead: {tasks}.",
    "behind": "A paired test puts {who} behind: {tasks}.",
    "no difference": "No difference is shown: {tasks}.",
    "too few": "Too few donors or other units for any test to prove a lead: {tasks}.",
    "not compared": "Not tested in pairs: {tasks}.",
    "silent": "No interval, or a control does as well, so nothing is said: {tasks}.",
}
HEADS = ("logistic", "", "clusterwise", "projection", "knn", "centroid")
KEYS = ["chapter", "task", "dataset", "representation", "head", "split", "metric"]


def headline(results: pd.DataFrame) -> pd.DataFrame:
    """Take one row for each task and kind of representation, by its keys.

    Parameters
    ----------
    results
        Rows of `page_tables.results`.

    Returns
    -------
    DataFrame
        The rows, with a column ``family``. The first dataset of a chapter stands for it, real
        before simulated. Tasks without rows are absent.
    """
    plain = page_tables.where(results, source="reproduced", protocol="corrected", variant="")
    taken = []
    for name, task in TASKS.items():
        rows = page_tables.where(plain, task=name, chapter=task.chapter, metric=task.metric)
        simulated = rows["dataset"].str.startswith("sim_")
        rows = _first(rows, "dataset", rows[simulated == simulated.min()]["dataset"])
        rows = _first(rows, "split", [*task.splits, *rows["split"]])
        # Components stand beside components where rank scores of all genes were not run.
        components = "rank" not in set(rows["representation"])
        for family, kind in FAMILIES.items():
            members = sorted(kind.members, key=lambda m: components and not m.endswith("_pca"))
            ours = rows.assign(
                member=rows["representation"].str.replace(
                    r"^layer:(?!.*-(random|shuffled)).*/", "layer:*/", regex=True
                )
            )
            ours = _first(_first(ours, "member", members), "head", HEADS)
            # A large model that was had stands before the small one.
            ours = _first(ours, "model", sorted(set(ours["model"]), key=lambda m: (m == "tiny", m)))
            if len(ours) > 1:
                raise InputError(
                    f"{len(ours)} rows of {task.chapter} claim one number of the front page: "
                    f"{ours[KEYS].iloc[0].to_dict()}; name what tells them apart in `variant`"
                )
            taken.append(ours.drop(columns="member").assign(family=family))
    return pd.concat(taken, ignore_index=True)


def _first(rows: pd.DataFrame, column: str, values) -> pd.DataFrame:
    """Rows with the first of these values that the column holds."""
    there = set(rows[column])
    value = next((value for value in values if value in there), None)
    return rows[rows[column] == value]


def outcomes(results: pd.DataFrame, taken: pd.DataFrame) -> dict[str, str]:
    """Where each kind stands to the usual one in a task, by the verdict over the rows taken.

    Parameters
    ----------
    results
        Rows of `page_tables.results`.
    taken
        Rows of one task of `headline`.

    Returns
    -------
    dict
        One of `sclin.verdict.OUTCOMES` by family; empty without a usual one.
    """
    kinds = taken.set_index("family")
    if "usual" not in kinds.index:
        return {}
    usual = kinds.loc["usual"]
    shared = ("task", "chapter", "dataset", "split", "protocol", "source")
    rows = page_tables.where(results, **{key: usual[key] for key in shared})
    rows = rows[rows["representation"].isin(kinds["representation"])]
    said = Results(rows).verdict(
        reference=usual["representation"], head=usual["head"], metric=usual["metric"]
    )
    ours = kinds.loc[kinds.index.isin(("rank", "model")), "representation"]
    return {kind: said.outcomes.get(name, "not compared") for kind, name in ours.items()}


# The figure --------------------------------------------------------------------------------------


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
    square = matrix.query("method == 'scTOP' and metric == 'f1_macro' and kind == 'matrix'").pivot(
        index="basis_species", columns="target_species", values="value"
    )
    mean = off_diagonal_mean(square, n_boot=1).value
    species = pd.DataFrame({"task": ["cross_species"], "value": [mean], "family": ["rank"]})
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


def figure(results: pd.DataFrame) -> Figure:
    """Draw published numbers beside the numbers of this book, a band for each task."""
    set_style()
    ours, papers = headline(results), _published()
    shown = [task for task in TASKS if task in set(ours["task"]) | set(papers["task"])]
    figure, panel = plt.subplots(figsize=(6.6, 0.84 * len(shown) + 1.0))
    for k in range(0, len(shown), 2):
        panel.axhspan(k - 0.5, k + 0.5, color="#F3F5F7", lw=0)
    for table, top, step, style in ((papers, -0.38, 0.06, "D"), (ours, -0.1, 0.15, "o")):
        for _, row in table.iterrows():
            place = list(FAMILIES).index(row["family"])
            y, color = shown.index(row["task"]) + top + step * place, FAMILIES[row["family"]].color
            if style == "o":
                panel.plot([row["ci_low"], row["ci_high"]], [y, y], color=color, lw=2.2, alpha=0.55)
            fill = color if style == "o" else "white"
            panel.plot(row["value"], y, style, color=color, ms=7, mfc=fill, mew=1.5)
    made = set(ours.loc[ours["dataset"].str.startswith("sim_"), "task"])
    names = [TASKS[task].label + "\n(simulated)" * (task in made) for task in shown]
    panel.set_yticks(range(len(shown)), names)
    panel.set_ylim(len(shown) - 0.5, -0.5)
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


def draw(root: Path) -> None:
    """Write the front figure and its rows, where there are results that it does not show yet."""
    if (results := page_tables.results(root)) is None:
        return
    folder = root / "book" / "_generated"
    folder.mkdir(parents=True, exist_ok=True)
    rows, stamp = headline(results).to_csv(index=False), folder / "front.csv"
    if (folder / "front.svg").exists() and stamp.exists() and stamp.read_text() == rows:
        return
    with plt.rc_context({"svg.hashsalt": "sclin"}):
        drawn = figure(results)
        drawn.savefig(folder / "front.svg", metadata={"Date": None})
    plt.close(drawn)
    stamp.write_text(rows)


def _caption(ours: pd.DataFrame) -> str:
    made = ours[ours["dataset"].str.startswith("sim_")]["task"].unique()
    simulated = ", ".join(TASKS[task].label.lower() for task in made)
    told = f"Simulated cells: {simulated}. " if simulated else ""
    trained = "seed" in set(ours["unit"])
    seeds = ", of a model trained here from the lowest to the highest seed" if trained else ""
    return (
        "Published numbers (open diamonds) above those of this book (dots, lines are 95 % "
        f"intervals where the task has them{seeds}). {told}"
        "Papers and book use different cells: compare colours among the dots. "
        "A fixed order of preference chose each dot, not its height."
    )


def _alt(ours: pd.DataFrame) -> str:
    parts = [
        f"{TASKS[str(task)].label}: "
        + ", ".join(
            f"{FAMILIES[row['family']].label} {row['value']:.2f}" for _, row in rows.iterrows()
        )
        for task, rows in ours.groupby("task", sort=False)
    ]
    return f"Dot plot of scores by task, published beside reproduced. {'; '.join(parts)}."


# What the first page asks for --------------------------------------------------------------------


def front_figure(root: Path) -> str:
    """Show the front figure, or say that there is none yet."""
    if (results := page_tables.results(root)) is None:
        return (
            ":::{note}\nThere are no results yet.\n"
            "`make book` computes them and draws the figure of this page.\n:::"
        )
    ours = headline(results)
    return (
        ":::{figure} _generated/front.svg\n:name: fig-front\n:figclass: front-figure\n"
        f":width: 100%\n:alt: {_alt(ours)}\n\n{_caption(ours)}\n:::"
    )


def findings(root: Path) -> str:
    """Table what the corrected protocol gave: a row a task, a column a kind of representation."""
    if (results := page_tables.results(root)) is None:
        return ""
    rows = []
    for task, group in headline(results).groupby("task", sort=False):
        about, first = TASKS[str(task)], group.iloc[0]
        data = first["dataset"].replace(" + ", "`, `")
        part = f"<br>{first['split']}" if about.splits and first["split"] != "pooled" else ""
        simulated = "simulated, " * first["dataset"].startswith("sim_")
        name = (
            f"**[{about.label}](chapters/{about.chapter})**<br>"
            f"{first['metric'].replace('_', ' ')}<br>{simulated}`{data}`{part}"
        )
        cells = dict.fromkeys(FAMILIES, "–")
        for _, row in group.iterrows():
            who = [f"`{part}`" for part in (row["representation"], row["head"]) if part]
            cells[row["family"]] = "<br>".join([page_tables.interval(row), *who])
        rows.append([name, *cells.values()])
    labels = [kind.label for kind in FAMILIES.values()]
    return page_tables.markdown(rows, ["Task", *labels], "findings")


def verdicts(root: Path) -> str:
    """Say in sentences what the tables show, so that the words follow the numbers."""
    results = page_tables.results(root)
    told = [] if results is None else sentences(results)
    return "\n".join(f"- {sentence}" for sentence in told)


def sentences(results: pd.DataFrame) -> list[str]:
    """Say what the paired comparisons show; a finding whose rows are absent is left out."""
    ours = headline(results)
    standing = {task: outcomes(results, rows) for task, rows in ours.groupby("task", sort=False)}
    told = []
    for family, claim, who in (
        ("rank", "Rank scores beside log counts.", "rank scores"),
        ("model", "A model beside log counts.", "the final layer"),
    ):
        found: dict[str, list[str]] = {}
        for task in (task for task in TASKS if family in standing.get(task, {})):
            rows = page_tables.where(ours, task=task).set_index("family")["value"]
            made = bool(page_tables.where(ours, task=task)["dataset"].str.startswith("sim_").any())
            numbers = (
                f"{TASKS[task].label.lower()} ({'simulated cells, ' * made}"
                f"{rows[family]:.2f} against {rows['usual']:.2f})"
            )
            found.setdefault(standing[task][family], []).append(numbers)
        words = [OUTCOME_WORDS[key].format(who=who, tasks=", ".join(t)) for key, t in found.items()]
        if words:
            told.append(f"**{claim}** {' '.join(words)}")
    gain = page_tables.where(results, metric="gain_over_final", variant="", source="reproduced")
    if len(gain):
        told.append(_layer_choice(results, gain))
    return told


def _layer_choice(results: pd.DataFrame, gain: pd.DataFrame) -> str:
    """Say on how many tasks a layer chosen on some units beats the final one on others."""
    tests = [comparison(results, row) for _, row in gain.iterrows()]
    sure = [c.difference for c in tests if c.proven and c.difference > 0]
    size = f", by {min(sure):.2f}" if sure else ""
    size += f" to {max(sure):.2f}" if len(sure) > 1 else ""
    made = bool(gain["dataset"].str.startswith("sim_").all())
    return (
        "**The layer is a choice to be tested.** Chosen on some donors or perturbations and "
        f"judged on others, an earlier layer beats the final one on {len(sure)} of {len(gain)} "
        f"tasks{size}" + (" (simulated cells)." if made else ".")
    )
