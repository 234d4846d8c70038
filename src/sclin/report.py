"""The page of a judgement: one self-contained file."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment
from sklearn.metrics import confusion_matrix

from sclin.errors import DataError
from sclin.representations import CONTROLS, REPRESENTATIONS
from sclin.statistics import per_class_f1
from sclin.verdict import SHUFFLED

if TYPE_CHECKING:
    from sclin.judgement import Judgement

_LIBRARIES = ("sclin", "anndata", "numpy", "pandas", "scanpy", "scikit-learn", "scipy")
_MOST_SHOWN = 25  # classes of a confusion matrix that a page can show


def new_file(path: str | Path | None, dataset: str) -> Path:
    """Path of a page that is not there yet, in a folder that is.

    Parameters
    ----------
    path
        A file that ends with ``.html``, or a folder, by default the current one; a page in a
        folder is named after the data and the time.
    dataset
        Name of the data.

    Raises
    ------
    DataError
        The file is there, or its folder cannot be made or written to.
    """
    path = Path(path or ".").expanduser()
    if path.suffix.lower() != ".html":
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in dataset)
        path /= f"{plain}_{datetime.now():%Y-%m-%d_%H%M%S}.html"
    if path.exists():
        raise DataError(f"The report {path} is there already; name another file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.unlink()
    except OSError as error:
        raise DataError(f"The report {path} cannot be written: {error.strerror}.") from error
    return path


def write(judgement: Judgement, path: str | Path | None = None) -> Path:
    """Write the page of a judgement.

    Parameters
    ----------
    judgement
        What `sclin.judge` returned.
    path
        See `new_file`.

    Returns
    -------
    Path
        The page, at most a megabyte, which asks for nothing else.
    """
    path, said = new_file(path, judgement.about["dataset"]), judgement.json()
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True)
    tasks = [about | _details(judgement, task) for task, about in said["tasks"].items()]
    page = environment.from_string(template).render(
        said | {"tasks": tasks},
        name=said["dataset"],
        title=f"What {said['dataset']} needs",
        answer=[f"{t['title']}: {t['answer']}" for t in tasks if t["status"] == "ran"],
        when=f"{datetime.now():%Y-%m-%d %H:%M}",
        versions={"python": platform.python_version()} | {n: version(n) for n in _LIBRARIES},
        fitted=[{"name": name, "why": why} for name, why in judgement.fitted.items()],
    )
    path.write_text(page, encoding="utf-8")
    return path


def _kind(name: str) -> str:
    return "control" if name in CONTROLS else "ours" if name in REPRESENTATIONS else "yours"


def _details(judgement: Judgement, task: str) -> dict[str, Any]:
    """What a page shows of a task beside its words: scores in order, classes, confusions."""
    about: dict[str, Any] = {"name": task, "title": task.replace("_", " ").capitalize()}
    about |= {"scores": [], "classes": [], "confusion": []}
    if task not in judgement.found:
        return about
    found, top = judgement.found[task], judgement.verdict.loc[task]
    rows = judgement.scores.query("task == @task").sort_values("value", ascending=False)
    null = rows[rows["variant"].eq(SHUFFLED)].set_index("representation")["value"]
    names = {"representation": "name", "ci_low": "low", "ci_high": "high"}
    rows = rows[rows["variant"].eq("")].rename(columns=names)
    kinds, notes = rows["name"].map(_kind), rows["name"].map(judgement.fitted).fillna("")
    rows = rows.assign(kind=kinds, shuffled=rows["name"].map(null), note=notes)
    rows = rows[["name", "value", "low", "high", "kind", "shuffled", "note"]].astype(object)
    about["scores"] = rows.where(rows.notna(), None).to_dict("records")
    about |= dict(top[["metric", "unit", "n", "best", "simplest"]])
    if "y_pred" not in found.predictions:
        return about
    named = {kind: found.of(str(top[kind])) for kind in ("best", "simplest")}
    f1 = {kind: per_class_f1(p["y_true"], p["y_pred"]) for kind, p in named.items()}
    table = pd.DataFrame({"n": f1["best"]["n"]} | {kind: f["f1"] for kind, f in f1.items()})
    table = table.sort_values("n", ascending=False, kind="stable").rename_axis("name")
    about["classes"] = table.reset_index().to_dict("records")
    shown = table.index[:_MOST_SHOWN].tolist()
    said = {"labels": shown, "left_out": len(table) - len(shown)}
    for of in dict.fromkeys(top[["best", "simplest"]]):
        p = found.of(of)
        counts = confusion_matrix(p["y_true"], p["y_pred"], labels=shown).tolist()
        about["confusion"].append({"of": of, "rows": counts, **said})
    return about
