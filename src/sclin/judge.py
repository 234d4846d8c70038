"""The whole battery on anyone's cells: what the labels allow, run, judged, reported."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sclin.benchmarks import cell_types, disease_state, perturbation, trajectory
from sclin.errors import InputError, SclinError
from sclin.evaluation import results_table
from sclin.representations import Matrix, representation

__all__ = ["COLUMNS", "METRICS", "BatteryOutcome", "candidates", "plan", "report", "run", "verdict"]

#: Columns of ``obs`` that the battery looks for.
COLUMNS = ("cell_type", "donor", "condition", "time", "perturbation")

#: The number that decides each task, and what it means.
METRICS = {
    "cell_types": ("macro_f1", "macro F1 of cell types, logistic head"),
    "disease_state": ("macro_f1", "macro F1 of conditions, logistic head"),
    "trajectory": ("pseudotime_time_spearman", "Spearman of pseudotime with measured time"),
    "perturbation": ("effect_similarity", "agreement of effects with the other half of the cells"),
}
_CONTROLS = ("library_size", "random")


@dataclass(frozen=True)
class BatteryOutcome:
    """What the battery found.

    Attributes
    ----------
    plan
        Which tasks ran and why the others did not; see `plan`.
    results
        Tidy results table of all tasks.
    verdict
        One row per task; see `verdict`.
    """

    plan: pd.DataFrame
    results: pd.DataFrame
    verdict: pd.DataFrame


def plan(adata: AnnData, *, min_cells: int = 20, control: str = "control") -> pd.DataFrame:
    """Say which tasks the labels of a dataset allow.

    Parameters
    ----------
    adata
        Cells with any of `COLUMNS` in ``obs``.
    min_cells
        Cells that a class needs.
    control
        Name of unperturbed cells.

    Returns
    -------
    DataFrame
        Index ``task``; ``runs`` and ``why``.
    """
    donors = adata.obs.get("donor")
    n_donors = 0 if donors is None else donors.nunique()
    split = f"{n_donors} donors held out in turn" if n_donors > 1 else "split by cells: no donors"

    def classes(name: str) -> tuple[bool, str]:
        column = adata.obs.get(name)
        if column is None:
            return False, f"obs has no column {name!r}"
        enough = int((column.value_counts() >= min_cells).sum())
        if enough < 2:
            return False, f"{name}: {enough} classes with {min_cells} cells, two are needed"
        return True, f"{enough} classes with {min_cells} cells or more; {split}"

    def times() -> tuple[bool, str]:
        column = adata.obs.get("time")
        if column is None:
            return False, "obs has no column 'time'"
        if not pd.api.types.is_numeric_dtype(column):
            return False, "time is text; give numbers"
        points = column.nunique()
        return points >= 3, f"{points} time points" + ("" if points >= 3 else ", three are needed")

    def perturbed() -> tuple[bool, str]:
        column = adata.obs.get("perturbation")
        if column is None:
            return False, "obs has no column 'perturbation'"
        counts = column.value_counts()
        if control not in counts.index:
            return False, f"perturbation has no {control!r} cells"
        enough = int((counts.drop(control) >= min_cells).sum())
        return enough >= 4, f"{enough} perturbations with {min_cells} cells, four are needed"

    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "cell_types": lambda: classes("cell_type"),
        "disease_state": lambda: classes("condition"),
        "trajectory": times,
        "perturbation": perturbed,
    }
    rows = {task: check() for task, check in checks.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["runs", "why"]).rename_axis("task")


def candidates(adata: AnnData, names: Sequence[str] = ()) -> list[str]:
    """Representations to judge: ours, the baselines, and every numeric array of ``obsm``.

    Parameters
    ----------
    adata
        Cells.
    names
        More names, such as ``layer:tiny/3``.

    Returns
    -------
    list of str
        Controls come last.
    """
    stored = [f"obsm:{key}" for key in adata.obsm if np.ndim(adata.obsm[key]) == 2]
    known = ["rank", "rank_pca", "lognorm", "hvg_pca", *stored, *names, *_CONTROLS]
    return list(dict.fromkeys(known))


def _as_arrays(adata: AnnData, names: Sequence[str], seed: int) -> Mapping[str, Matrix]:
    """Dense arrays for tasks that need distances; whole-genome matrices stand as their PCA."""
    dense = [name for name in names if name not in ("rank", "lognorm", "counts")]
    return {n: representation(n, seed=seed).fit(adata).transform(adata) for n in dense}


def run(
    adata: AnnData,
    *,
    representations: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    min_cells: int = 20,
    control: str = "control",
    dataset: str = "yours",
    seed: int = 0,
) -> BatteryOutcome:
    """Run every task that the labels allow, in the corrected protocol.

    Parameters
    ----------
    adata
        Counts in ``X``; labels in ``obs`` under the names of `COLUMNS`.
    representations
        Names; `candidates` when ``None``.
    tasks
        Tasks to run, among those of `METRICS`; all that can run when ``None``.
    min_cells
        Cells that a class or perturbation needs.
    control
        Name of unperturbed cells.
    dataset
        Name in the results table.
    seed
        Seed of every random step.

    Returns
    -------
    BatteryOutcome

    Raises
    ------
    InputError
        When no task can run; the message says what each one lacks.
    """
    names = list(representations) if representations else candidates(adata)
    planned = plan(adata, min_cells=min_cells, control=control)
    if tasks is not None:
        for task in planned.index.difference(list(tasks)):
            planned.loc[task] = (False, "not asked for")
    if not planned["runs"].any():
        lacks = "; ".join(f"{task}: {why}" for task, why in planned["why"].items())
        raise InputError(f"No task can run on these cells. {lacks}. Rename columns of obs to fit.")
    donors = adata.obs.get("donor")
    donor = "donor" if donors is not None and donors.nunique() > 1 else None
    cells = adata.copy()
    cells.uns["sclin"] = {**adata.uns.get("sclin", {}), "dataset": dataset}
    shared: dict[str, Any] = {"representations": names, "heads": ["logistic"], "seed": seed}
    arrays: Mapping[str, Matrix] = {}
    if planned.loc[["trajectory", "perturbation"], "runs"].any():
        arrays = _as_arrays(cells, names, seed)
    runs: dict[str, Callable[[], Any]] = {
        "cell_types": lambda: cell_types.run(cells, donor=donor, min_cells=min_cells, **shared),
        "disease_state": lambda: disease_state.run(
            cells, donor=donor, min_cells=min_cells, clusterwise=(), n_splits=5, **shared
        ),
        "trajectory": lambda: trajectory.run(cells, arrays, dataset=dataset, seed=seed),
        "perturbation": lambda: perturbation.run(
            cells, arrays, control=control, min_cells=min_cells, dataset=dataset, seed=seed
        ),
    }
    tables = []
    for task, start in runs.items():
        if not planned.loc[task, "runs"]:
            continue
        try:
            tables.append(start().results.assign(dataset=dataset))
        except SclinError as error:
            planned.loc[task] = (False, str(error))
    if not tables:
        raise InputError("Every task stopped: " + "; ".join(planned["why"]))
    table = results_table(pd.concat(tables, ignore_index=True))
    return BatteryOutcome(planned, table, verdict(table))


def verdict(
    results: pd.DataFrame, *, baseline: Sequence[str] = ("lognorm", "hvg_pca")
) -> pd.DataFrame:
    """Name the best representation of each task, and say whether it beats plain log values.

    Parameters
    ----------
    results
        Rows of the battery.
    baseline
        Representations that anyone has; the better one is the bar.

    Returns
    -------
    DataFrame
        Index ``task``; the best representation and its interval, the bar, the best control, and
        a sentence. A lead counts only when the interval of the best lies above the bar's value.
    """
    rows = {}
    for task, (metric, _) in METRICS.items():
        scores = results[
            results["task"].eq(task)
            & results["metric"].eq(metric)
            & ~results["note"].str.contains("shuffled")
        ]
        # Several states or folds of one task are averaged, never pooled with another task.
        means = scores.groupby("representation")[["value", "ci_low", "ci_high"]].mean()
        means = means.dropna(subset=["value"])
        if means.empty:
            continue
        control = means[means.index.isin(_CONTROLS)]["value"]
        real = means.drop(index=control.index)
        bar = real[real.index.isin(baseline)]["value"]
        row = real.iloc[int(real["value"].argmax())]
        best = str(row.name)
        beaten = bool(len(bar)) and row["ci_low"] > bar.max()
        if best in baseline or not len(bar):
            words = f"{best} is best; it is the baseline itself"
        elif beaten:
            words = f"{best} beats {bar.idxmax()}: its interval lies above it"
        else:
            words = f"{best} leads, but its interval holds the score of {bar.idxmax()}"
        if len(control) and row["ci_low"] <= control.max():
            words += f"; {control.idxmax()} does as well, so the task says little here"
        rows[task] = {
            "best": best,
            **row.to_dict(),
            "baseline": bar.idxmax() if len(bar) else "",
            "baseline_value": bar.max() if len(bar) else float("nan"),
            "control_value": control.max() if len(control) else float("nan"),
            "verdict": words,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2933; background: #fff; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} .wide {{ overflow-x: auto; }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #cbd2d9; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
</style></head><body><h1>{title}</h1>
<p>{cells:,} cells, {genes:,} genes. Made by sclin {version} on {day}, seed {seed}.</p>
<h2>Verdict</h2>{verdict}
<p>Lines in brackets are 95 % bootstrap intervals.
Scores come from cells, donors or halves of cells that were not used for fitting.</p>
<h2>What ran</h2>{plan}
<h2>Every representation</h2>{scores}
</body></html>
"""


def _table(frame: pd.DataFrame) -> str:
    return f'<div class="wide">{frame.to_html(border=0, float_format="{:.3f}".format)}</div>'


def report(outcome: BatteryOutcome, path: str | Path, *, adata: AnnData, seed: int = 0) -> Path:
    """Write the verdict as one self-contained HTML page.

    Parameters
    ----------
    outcome
        What `run` returned.
    path
        File to write.
    adata
        The cells, for their number.
    seed
        Seed to print.

    Returns
    -------
    Path
    """
    from sclin import __version__

    chosen = pd.concat(
        outcome.results[outcome.results["task"].eq(task) & outcome.results["metric"].eq(metric)]
        for task, (metric, _) in METRICS.items()
    )
    columns = ["task", "representation", "split", "value", "ci_low", "ci_high", "n", "note"]
    name = chosen["dataset"].iloc[0]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        _PAGE.format(
            title=html.escape(f"Representations of {name}"),
            cells=adata.n_obs,
            genes=adata.n_vars,
            version=__version__,
            day=date.today().isoformat(),
            seed=seed,
            verdict=_table(outcome.verdict),
            plan=_table(outcome.plan),
            scores=_table(chosen[columns].set_index("task")),
        ),
        encoding="utf-8",
    )
    return path
