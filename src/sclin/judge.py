"""Your own cells: what the labels allow, every task they allow, a verdict, one page."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.model_selection import GroupKFold

from sclin import __version__, results
from sclin.datasets import name_of
from sclin.errors import InputError, SclinError
from sclin.evaluation import Results, evaluate, measure
from sclin.tasks import perturbation, trajectory
from sclin.tasks.cell_types import donor_column, keep_classes
from sclin.tasks.disease_state import host_genes

__all__ = ["COLUMNS", "Judgement", "candidates", "judge", "plan", "report"]

#: Columns of ``obs`` that are looked for.
COLUMNS = ("cell_type", "donor", "condition", "time", "perturbation")
_WIDE = ("rank", "lognorm", "counts")
_MOST_FOLDS = 10


@dataclass(frozen=True)
class Judgement:
    """What was found.

    Attributes
    ----------
    plan
        Which tasks ran and why the others did not; see `plan`.
    found
        Results of each task that ran.
    """

    plan: pd.DataFrame
    found: Mapping[str, Results]

    @property
    def table(self) -> pd.DataFrame:
        """Rows of all tasks."""
        return results.table(*(found.table for found in self.found.values()))

    @property
    def scores(self) -> pd.DataFrame:
        """Rows of the metric that decides each task, the first that the task gives."""
        parts = [
            f.table[f.table["metric"].eq(f.table["metric"].iloc[0])] for f in self.found.values()
        ]
        return results.table(*parts)

    @property
    def verdict(self) -> pd.DataFrame:
        """Best representation of each task, its score, its equals, and the verdict in words."""
        rows = {}
        for task, found in self.found.items():
            said = found.verdict()
            top = found.table[found.table["representation"].eq(said.best)].iloc[0]
            score = top[["metric", "value", "ci_low", "ci_high", "n", "unit"]].to_dict()
            equals = ", ".join(said.equals)
            rows[task] = {"best": said.best, **score, "equals": equals, "verdict": said.words}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")


def plan(adata: AnnData, *, min_cells: int = 20, control: str = "control") -> pd.DataFrame:
    """Say which tasks the labels of a dataset allow.

    Parameters
    ----------
    adata
        Cells with any of `COLUMNS` in ``obs``.
    min_cells
        Cells that a class or perturbation needs.
    control
        Name of unperturbed cells.

    Returns
    -------
    DataFrame
        Index ``task``; ``runs`` and ``why``.
    """
    donor = donor_column(adata)
    held = f"{adata.obs[donor].nunique()} {donor}s held out in turn" if donor else "no donors"

    def enough(values: pd.Series, least: int, what: str, more: str = "") -> tuple[bool, str]:
        n = int((values.value_counts() >= min_cells).sum())
        needed = more if n >= least else f"; {least} are needed"
        return n >= least, f"{n} {what} with {min_cells} cells or more{needed}"

    def times(values: pd.Series) -> tuple[bool, str]:
        if not pd.api.types.is_numeric_dtype(values):
            return False, "time is text; give numbers"
        n = values.nunique()
        return n >= 3, f"{n} time points" + ("" if n >= 3 else "; three are needed")

    def perturbed(values: pd.Series) -> tuple[bool, str]:
        if control not in set(values):
            return False, f"perturbation has no {control!r} cells"
        if values.isna().any():
            return False, f"{values.isna().sum()} cells have no perturbation; drop them first"
        names = pd.Series(perturbation.read_names(adata, control=control))
        return enough(names[names != control], 4, "perturbations")

    classes = partial(enough, least=2, what="classes", more=f"; {held}")
    checks: dict[str, tuple[str, Callable[..., tuple[bool, str]]]] = {
        "cell_types": ("cell_type", classes),
        "disease_state": ("condition", classes),
        "trajectory": ("time", times),
        "perturbation": ("perturbation", perturbed),
    }
    rows = {
        task: check(adata.obs[name])
        if name in adata.obs
        else (False, f"obs has no column {name!r}")
        for task, (name, check) in checks.items()
    }
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
        The controls are not among them; `judge` adds them.
    """
    stored = [f"obsm:{key}" for key in adata.obsm if np.ndim(adata.obsm[key]) == 2]
    return list(dict.fromkeys(["rank", "rank_pca", "lognorm", "hvg_pca", *stored, *names]))


def _classes(cells: AnnData, label: str, *, min_cells: int, **options: Any) -> Results:
    """Predict a label for donors held out, each at a time while there are few."""
    kept, _ = keep_classes(cells, label, min_cells=min_cells)
    donor = donor_column(kept)
    few = donor is None or kept.obs[donor].nunique() <= _MOST_FOLDS
    cv = None if few else GroupKFold(_MOST_FOLDS)
    return evaluate(kept, label, cv=cv, groups=donor, **options)


def _effects(cells: AnnData, *, control: str, min_cells: int, seed: int, **options: Any) -> Results:
    """Compare effects in one half of the cells with those in the other."""
    halves = perturbation.halve(cells, control=control, min_cells=min_cells, seed=seed)
    score = partial(perturbation.score, screen=halves["all"], seed=seed)
    return measure(cells, score, seed=seed, **options)


def judge(
    adata: AnnData,
    *,
    representations: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    min_cells: int = 20,
    control: str = "control",
    seed: int = 0,
    progress: bool = False,
) -> Judgement:
    """Run every task that the labels allow, in the corrected protocol, with controls.

    Parameters
    ----------
    adata
        Counts in ``X``; labels in ``obs`` under the names of `COLUMNS`.
    representations
        Names; `candidates` when ``None``. Trajectory and perturbation need distances, so
        whole-genome matrices stand there as their components.
    tasks
        Tasks to run; all that can run when ``None``.
    min_cells
        Cells that a class or perturbation needs.
    control
        Name of unperturbed cells.
    seed
        Seed of every random step.
    progress
        Show a bar over representations and folds.

    Returns
    -------
    Judgement

    Raises
    ------
    InputError
        When no task can run; the message says what each one lacks.
    """
    names = list(representations) if representations else candidates(adata)
    narrow = [name for name in names if name not in _WIDE]
    planned = plan(adata, min_cells=min_cells, control=control)
    if tasks is not None:
        planned.loc[~planned.index.isin(list(tasks))] = (False, "not asked for")
    shared: dict[str, Any] = {"controls": True, "seed": seed, "progress": progress}
    wide: dict[str, Any] = {"min_cells": min_cells, "representations": names}
    order = partial(trajectory.score, seed=seed)
    runs: dict[str, Callable[..., Results]] = {
        "cell_types": partial(_classes, adata, "cell_type", **wide),
        "disease_state": partial(_classes, adata[:, host_genes(adata)], "condition", **wide),
        "trajectory": partial(measure, adata, order, representations=narrow),
        "perturbation": partial(
            _effects, adata, control=control, min_cells=min_cells, representations=narrow
        ),
    }
    found = {}
    for task in planned.index[planned["runs"]]:
        try:
            found[task] = runs[task](task=task, **shared)
        except SclinError as error:
            planned.loc[task] = (False, str(error))
    if not found:
        lacks = "; ".join(f"{task}: {why}" for task, why in planned["why"].items())
        raise InputError(f"No task can run on these cells. {lacks}. Rename columns of obs to fit.")
    return Judgement(planned, found)


def _table(frame: pd.DataFrame) -> str:
    return f'<div class="wide">{frame.to_html(border=0, float_format="{:.3f}".format)}</div>'


def report(judgement: Judgement, folder: str | Path, *, adata: AnnData) -> Path:
    """Write the verdict as one self-contained HTML page, named after the data and the time.

    Parameters
    ----------
    judgement
        What `judge` returned.
    folder
        Folder of reports.
    adata
        The cells, for their name and number.

    Returns
    -------
    Path
        The page; a later run writes another.
    """
    when, name = datetime.now(), name_of(adata)
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    path = Path(folder) / f"{plain}_{when:%Y-%m-%d_%H%M%S}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["representation", "variant", "metric", "value", "ci_low", "ci_high", "n", "unit"]
    page = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Representations of {name}"),
        cells=f"{adata.n_obs:,}",
        genes=f"{adata.n_vars:,}",
        version=__version__,
        when=f"{when:%Y-%m-%d at %H:%M}",
        verdict=_table(judgement.verdict),
        plan=_table(judgement.plan),
        scores=_table(judgement.scores.set_index("task")[columns]),
    )
    path.write_text(page, encoding="utf-8")
    return path
