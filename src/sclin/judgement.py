"""Your own cells: what the labels allow, every task they allow, and a verdict."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from sclin import datasets, results, tables
from sclin.columns import ROLES, likely_donors, nested, read_columns
from sclin.errors import InputError, SclinError
from sclin.evaluation import Results, evaluate, measure
from sclin.representations import REPRESENTATIONS, representation
from sclin.tasks import trajectory
from sclin.tasks.cell_types import keep_classes
from sclin.tasks.disease_state import host_genes
from sclin.tasks.draws import draw
from sclin.tasks.perturbation import halve, read_names
from sclin.tasks.perturbation import score as effects_score
from sclin.verdict import Verdict

#: What every array of the user competes with.
OURS = ("lognorm", "hvg_pca", "rank", "rank_pca")
#: The column that each task rests on.
TASKS = {
    "cell_types": "cell_type",
    "disease_state": "condition",
    "trajectory": "time",
    "perturbation": "perturbation",
}
_WIDE = ("counts", "lognorm", "hellinger", "rank")
_NARROW = "whole-genome matrices stand as their components"
_MOST_FOLDS = 10
# Names of arrays that methods fit on the cells at hand, and of those that see labels as well.
_FITTED = "pca|umap|tsne|diffmap|lsi|svd|ica|nmf|harmony|scvi|totalvi|mde|mnn|scanorama|liger|phate"
_SUPERVISED = "scanvi|scgen|scpoli|_lda"


@dataclass
class Judgement:
    """What was read, what its labels allow, and what was found.

    Attributes
    ----------
    cells
        The cells, with the columns that were named, under the names of `ROLES`.
    about
        ``dataset``, ``matrix``, ``values``, ``n_cells``, ``n_genes``, ``unit``, ``n_units`` and
        ``columns`` by role.
    representations
        Names of what is judged.
    tasks
        ``status`` (``ran``, ``ready`` or ``impossible``), ``reason`` and ``n_classes`` by task.
    parts
        The cells of each task that can run.
    dropped
        What was left out: ``what``, ``n`` and ``why``.
    warnings
        What to know before believing a score.
    fitted
        Why an array of ``obsm`` is not blind to the cells it is tested on.
    found
        Results of each task that ran.
    command
        The call that does it again.
    """

    cells: AnnData
    about: dict[str, Any]
    representations: list[str]
    tasks: dict[str, dict[str, Any]]
    parts: dict[str, AnnData]
    dropped: list[dict[str, Any]]
    warnings: list[str]
    fitted: dict[str, str]
    found: dict[str, Results] = field(default_factory=dict)
    command: str = ""

    @property
    def plan(self) -> pd.DataFrame:
        """What the labels allow: ``status``, ``reason`` and ``n_classes`` by task."""
        return pd.DataFrame.from_dict(self.tasks, orient="index").rename_axis("task")

    @property
    def table(self) -> pd.DataFrame:
        """Rows of all tasks."""
        return results.table(*(found.table for found in self.found.values()))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Rows of the metric that decides each task, the first that the task gives."""
        tables = (found.table for found in self.found.values())
        return results.table(*(t[t["metric"].eq(t["metric"].iloc[0])] for t in tables))

    @cached_property
    def verdict(self) -> pd.DataFrame:
        """Best representation of each task, its score, its simplest equal, the answer in words."""
        rows: dict[str, dict[str, Any]] = {}
        effort = [*REPRESENTATIONS, *self.representations].index
        for task, found in self.found.items():
            said = found.verdict()
            top = found.table[found.table["representation"].eq(said.best)].iloc[0]
            simplest = min((said.best, *said.equals), key=effort)
            rows[task] = {"best": said.best, "simplest": simplest}
            rows[task] |= dict(top[["metric", "value", "ci_low", "ci_high", "n", "unit"]])
            rows[task] |= {"answer": _answer(said, simplest), "verdict": said.words}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")

    def json(self) -> dict[str, Any]:
        """All of it in plain types, as the command line's ``--json`` writes it."""
        tasks = {task: dict(about) for task, about in self.tasks.items()}
        said = ["best", "simplest", "metric", "answer", "verdict"]
        for task, row in self.verdict.iterrows():
            rows = self.scores.query("task == @task and variant == ''")
            rows = rows.set_index("representation")[["value", "ci_low", "ci_high"]]
            scores = rows.astype(object).where(rows.notna(), None).to_dict("index")
            tasks[str(task)] |= {**row[said], "scores": scores}
        told = {"dropped": self.dropped, "warnings": self.warnings, "command": self.command}
        return {**self.about, "tasks": tasks, **told}


def _answer(said: Verdict, simplest: str) -> str:
    """The verdict in one plain sentence, or two."""
    words = set(said.outcomes.values())
    behind = ", ".join(name for name, word in said.outcomes.items() if word == "behind")
    if "silent" in words:
        return f"No answer: {said.best} is not shown to do better than a control."
    few = " With so few units no test can show a lead." * ("too few" in words)
    if behind and simplest == said.best:
        return f"{said.best} is better than {behind}.{few}"
    score = f"; {said.best} has the highest score" * (simplest != said.best)
    return f"Nothing is shown to be better than {simplest}{score}.{few}"


def _suspicion(key: str, X: NDArray[Any]) -> str:
    """Why an array may know the cells that it is tested on; empty where nothing tells."""
    spread, many = X.std(axis=0), X.shape[1] > 1
    if many and spread.all() and (np.abs(X.mean(axis=0)) < 1e-3 * spread).all():
        alike = np.abs(np.corrcoef(X.T) - np.eye(X.shape[1])).max()
        if alike < 1e-3:
            return "its columns are centred and uncorrelated over all cells, as components are"
    words = {_SUPERVISED: "all cells and from labels", _FITTED: "all cells"}
    found = [what for names, what in words.items() if re.search(names, key, re.I)]
    return f"its name is of a method that learns from {found[0]}" if found else ""


def _arrays(cells: AnnData, warnings: list[str]) -> dict[str, str]:
    """Take out arrays that cannot be used, and say which know all cells."""
    fitted = {}
    for key, X in [*cells.obsm.items()]:
        bad = np.argwhere(~np.isfinite(X))
        if len(bad):
            where = f"{len(bad)} values that are not finite, first in {cells.obs_names[bad[0][0]]}"
            warnings.append(f"obsm:{key} is left out: it has {where}.")
            del cells.obsm[key]
        elif why := _suspicion(key, X):
            fitted[f"obsm:{key}"] = why
            text = f"obsm:{key} was fitted on all cells, test cells included ({why})"
            warnings.append(f"{text}: its score may be too high.")
    return fitted


def _donors(obs: pd.DataFrame, columns: pd.DataFrame, warnings: list[str]) -> None:
    """Say what donors cannot tell; one donor is none."""
    if "donor" not in columns:
        near = [f"{c!r} ({obs[c].nunique()} values)" for c in likely_donors(obs)[:3]]
        hint = f" obs has {', '.join(near)}: name it with --donor." * bool(near)
        warnings.append(f"No donor is named, so cells are split at random, which is easier.{hint}")
    elif columns["donor"].nunique() == 1:
        warnings.append("The column of donors holds one donor, so cells are split at random.")
        del columns["donor"]
    for role in ("condition", "time"):
        if {role, "donor"} <= {*columns} and nested(columns[role], columns["donor"]):
            alike = f"each donor has one {role}, so donors cannot be told from {role}"
            warnings.append(f"{alike[0].upper()}{alike[1:]}: what is told apart may be donors.")


def _plan(
    cells: AnnData, drop: Callable[..., None], *, min_cells: int, control: str
) -> tuple[dict[str, dict[str, Any]], dict[str, AnnData]]:
    """What the labels allow, and the cells of each task that can run."""
    donor = "donor" if "donor" in cells.obs else None

    def classes(label: str) -> tuple[AnnData, int | None, str]:
        kept, left_out = keep_classes(cells, label, min_cells=min_cells, groups=donor)
        for name, n, why in left_out.itertuples(index=False):
            drop(f"{label} {name!r}" if name else f"cells without a label of {label}", n, why)
        if label == "condition":
            host = host_genes(kept)
            drop("genes", (~host).sum(), "of a pathogen or spike-in: they are the condition")
            kept = kept[:, host].copy()
        n = kept.obs[label].nunique()
        held = f"{kept.obs[donor].nunique()} donors" if donor else "fifths of the cells"
        return kept, n, f"{n} classes with {min_cells} cells or more; {held} held out in turn"

    def known(label: str) -> AnnData:
        at = cells.obs[label].notna().to_numpy()
        drop(f"cells without a label of {label}", (~at).sum(), "no label")
        return cells[at].copy()

    def times(label: str) -> tuple[AnnData, int | None, str]:
        kept = known(label)
        n = np.unique(trajectory.measured_time(kept)).size
        return kept, None, f"{n} time points; {_NARROW}"

    def effects(label: str) -> tuple[AnnData, int | None, str]:
        kept = known(label)
        sizes = pd.Series(read_names(kept, control=control)).value_counts().drop(control)
        return kept, None, f"{(sizes >= min_cells).sum()} perturbations; {_NARROW}"

    checks: Any = dict(zip(TASKS, (classes, classes, times, effects), strict=True))
    tasks, parts = {}, {}
    for task, role in TASKS.items():
        status, n, why = "impossible", None, f"no column of {role} is named"
        try:
            if role in cells.obs:
                parts[task], n, why = checks[task](role)
                status = "ready"
        except InputError as error:
            why = str(error)
        tasks[task] = {"status": status, "reason": why, "n_classes": n}
    return tasks, parts


def _run(
    task: str, cells: AnnData, names: list[str], *, control: str, min_cells: int, **options: Any
) -> Results:
    """One task, in the corrected protocol."""
    options |= {"task": task, "controls": True}
    if task in ("cell_types", "disease_state"):
        donor = "donor" if "donor" in cells.obs else None
        many = donor is not None and cells.obs[donor].nunique() > _MOST_FOLDS
        options |= {"cv": StratifiedGroupKFold(_MOST_FOLDS) if many else None, "groups": donor}
        return evaluate(cells, TASKS[task], representations=names, **options)
    score: Any = partial(trajectory.score, seed=options["seed"])
    if task == "perturbation":
        halves = halve(cells, control=control, min_cells=min_cells, seed=options["seed"])
        score = partial(effects_score, screen=halves["all"], seed=options["seed"])
    narrow = [name for name in names if name not in _WIDE]
    return measure(cells, score, representations=narrow, **options)


def _prepare(
    source: Any, roles: Mapping[str, str | None], *, labels: Any, control: str,
    representations: Sequence[str] | None, embeddings: Mapping[str, str | Path] | None,
    max_cells: int, min_cells: int, seed: int, **reading: Any,
) -> Judgement:  # fmt: skip
    """Read cells and say what their labels allow."""
    take: Any = datasets.take if isinstance(source, AnnData) else datasets.load
    found = take(source, **{key: value for key, value in reading.items() if value is not None})
    if labels is not None:
        found.obs = tables.with_labels(found.obs, labels)
    has = ", ".join(map(str, found.obs.columns)) or "no column: bring a table with --labels"
    if found.obs.empty or not any(roles[role] for role in TASKS.values()):
        raise InputError(
            "No column of labels is named, so there is nothing to judge by. Name one with "
            f"--cell-type, --condition, --time or --perturbation; obs has {has}."
        )
    for name, path in (embeddings or {}).items():
        found.obsm[name] = datasets.embedding(path, found)
    said = found.uns["sclin"]
    dropped, warnings = said["dropped"].to_dict("records"), list(said["warnings"])

    def drop(what: str, n: int, why: str) -> None:
        if n:
            dropped.append({"what": what, "n": int(n), "why": why})

    obs = read_columns(found.obs, roles, control=control)
    if "perturbation" in obs:  # another name of the control is a mistake, not a missing task
        read_names(AnnData(obs=obs[obs["perturbation"].notna()]), control=control)
    _donors(found.obs, obs, warnings)
    fitted = _arrays(found, warnings)
    names = list(representations or [*OURS, *(f"obsm:{key}" for key in found.obsm)])
    full = found.X.getnnz(axis=1) > 0
    drop("cells", (~full).sum(), "no counts")
    if "donor" in obs:
        drop("cells", (full & obs["donor"].isna()).sum(), "no donor")
        full &= obs["donor"].notna().to_numpy()
    arrays = {key: X[full] for key, X in found.obsm.items()}
    cells = AnnData(found.X[full], obs=obs[full], var=found.var, uns=found.uns, obsm=arrays)
    drop("cells", max(cells.n_obs - max_cells, 0), f"not drawn: at most {max_cells} (--max-cells)")
    cells = draw(cells, max_cells, control=control, seed=seed)
    for name in names:  # a mistyped name is found before time is spent
        one = representation(name)
        if ":" in name:
            one.fit(cells).transform(cells)
    n_units = cells.obs["donor"].nunique() if "donor" in obs else cells.n_obs
    about = {
        "dataset": datasets.name_of(found), "matrix": said["found_in"],
        "values": said["values"], "n_cells": cells.n_obs, "n_genes": cells.n_vars,
        "unit": "donor" if "donor" in obs else "cell", "n_units": n_units,
        "columns": {role: column for role, column in roles.items() if column},
    }  # fmt: skip
    tasks, parts = _plan(cells, drop, min_cells=min_cells, control=control)
    return Judgement(cells, about, names, tasks, parts, dropped, warnings, fitted)


def judge(
    source: str | Path | AnnData, *,
    cell_type: str | None = None, donor: str | None = None, condition: str | None = None,
    time: str | None = None, perturbation: str | None = None, control: str = "control",
    layer: str | None = None, values: str | None = None, labels: str | Path | None = None,
    representations: Sequence[str] | None = None,
    embeddings: Mapping[str, str | Path] | None = None,
    max_cells: int = 5000, min_cells: int = 20, seed: int = 0,
    run: bool = True, progress: bool = False,
) -> Judgement:  # fmt: skip
    """Run every task that the labels allow, in the corrected protocol, with controls.

    Parameters
    ----------
    source
        Path of a file, name of a dataset, or cells; see `sclin.datasets.load` and
        `sclin.datasets.take` for how a matrix is chosen.
    cell_type, donor, condition, time, perturbation
        Columns of ``obs``; what is not named is not used.
    control
        Label of unperturbed cells in the column of perturbations.
    layer, values
        Matrix to take (``"X"``, ``"raw"`` or a layer) and what it holds (``"counts"``, ``"log"``
        or ``"linear"``), where these are not to be found out.
    labels
        Table of labels by cell name, for a file that holds none.
    representations
        What to judge; `OURS` and every array of ``obsm`` when ``None``.
    embeddings
        Files of embeddings by name, see `sclin.datasets.embedding`.
    max_cells
        Most cells; of more, so many are drawn that every group stays.
    min_cells
        Cells that a class or perturbation needs.
    seed
        Seed of every random step.
    run
        Without it the cells are read and the tasks planned only.
    progress
        Show what is running and how long it will take.

    Returns
    -------
    Judgement

    Raises
    ------
    InputError
        A column, array, label or value cannot be used, or no task can run.
    DataError
        A file cannot be read.
    """
    usual = {name: p.default for name, p in inspect.signature(judge).parameters.items()}
    given = {k: v for k, v in locals().items() if k not in ("source", "usual") and v != usual[k]}
    roles = dict(zip(ROLES, (cell_type, donor, condition, time, perturbation), strict=True))
    found = _prepare(
        source, roles, layer=layer, values=values, labels=labels, control=control,
        representations=representations, embeddings=embeddings, max_cells=max_cells,
        min_cells=min_cells, seed=seed,
    )  # fmt: skip
    shown = "cells" if isinstance(source, AnnData) else repr(str(source))
    found.command = f"sclin.judge({', '.join([shown, *(f'{k}={v!r}' for k, v in given.items())])})"
    options: Any = {"control": control, "min_cells": min_cells, "seed": seed, "progress": progress}
    for task, cells in found.parts.items() if run else ():
        try:
            found.found[task] = _run(task, cells, found.representations, **options)
            found.tasks[task]["status"] = "ran"
            lost = found.found[task].left_out[["reason", "fold", "n"]].itertuples(index=False)
            found.warnings.extend(f"{task}: {why} ({fold}, {n} cells)." for why, fold, n in lost)
        except SclinError as error:
            found.tasks[task] |= {"status": "impossible", "reason": str(error)}
    if run and not found.found:
        named = [task for task in TASKS if roles[TASKS[task]]]
        why = "; ".join(f"{task}: {found.tasks[task]['reason']}" for task in named)
        raise InputError(f"No task can run on these cells. {why}".replace("\n", " "))
    return found
