"""The tidy table of results: one row a number, and no two rows alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sclin.errors import InputError, unknown

if TYPE_CHECKING:  # it takes long to import, and only its shape is used
    from sclin.statistics import Interval

#: What tells two rows apart.
KEY = (
    "task", "dataset", "profile", "protocol", "representation", "head", "variant", "split",
    "metric", "seed", "source",
)  # fmt: skip
#: Columns of every results table, in order.
COLUMNS = (
    *KEY[:9], "value", "ci_low", "ci_high", "n", "unit", "higher_is_better", "model", "layer",
    "relative_depth", "seed", "source", "note",
)  # fmt: skip
_NUMBERS = ("value", "ci_low", "ci_high", "n", "relative_depth", "seed")
_TEXT = tuple(c for c in COLUMNS if c not in (*_NUMBERS, "higher_is_better"))
_SAID = {"higher_is_better": True, "protocol": "corrected", "source": "reproduced"}
_DEFAULTS: dict[str, Any] = dict.fromkeys(_TEXT, "") | dict.fromkeys(_NUMBERS, np.nan) | _SAID
_WORDS = {"protocol": ("corrected", "as_published"), "source": ("reproduced", "published")}


def row(
    *, task: str, dataset: str, metric: str, value: float | Interval, **fields: Any
) -> dict[str, Any]:
    """One row: one number.

    Parameters
    ----------
    task, dataset, metric
        What was asked, and of which cells.
    value
        The number; an `Interval` fills ``ci_low``, ``ci_high`` and ``n`` as well.
    **fields
        Other `COLUMNS`; text is empty and numbers are missing where nothing is said.
        ``protocol`` is ``corrected``, ``source`` is ``reproduced``, ``higher_is_better`` is true,
        and ``profile`` what the environment's ``SCLIN_PROFILE`` says, else ``offline``.
        ``variant`` is what else tells this row from others, such as ``shuffled_labels``; ``n``
        and ``unit`` what the interval rests on, such as donors. A representation
        ``layer:MODEL/i`` fills ``model`` and ``layer``.
        ``note`` is a remark for readers; never what tells two rows apart.

    Returns
    -------
    dict
        Keys are `COLUMNS`.

    Raises
    ------
    InputError
        A field is no column.
    """
    for name in fields.keys() - set(COLUMNS):
        raise unknown("column of results", name, COLUMNS)
    if isinstance(value, tuple):
        value, fields["ci_low"], fields["ci_high"], n = value
        fields.setdefault("n", n)
    what = str(fields.get("representation", ""))
    if what.startswith("layer:") and not fields.get("model"):
        fields["model"], _, fields["layer"] = what.removeprefix("layer:").rpartition("/")
    profile = os.environ.get("SCLIN_PROFILE", "offline")
    asked = {"task": task, "dataset": dataset, "metric": metric, "value": value}
    whole = {**_DEFAULTS, "profile": profile, **asked, **fields}
    return {column: whole[column] for column in COLUMNS}


def table(*parts: Iterable[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Join rows and tables into one whose columns, words and keys are checked.

    Parameters
    ----------
    *parts
        Lists of `row`, or tables.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`.

    Raises
    ------
    InputError
        A column is missing or unknown, a word is not in the vocabulary, or a key repeats.
    """
    frames = [p if isinstance(p, pd.DataFrame) else pd.DataFrame(list(p)) for p in parts]
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    for frame in frames:
        given = set(map(str, frame))
        absent, other = set(COLUMNS) - given, given - set(COLUMNS)
        if absent or other:
            raise InputError(
                f"A results table lacks {sorted(absent)} and has {sorted(other)} too many; "
                "make its rows with sclin.results.row. Tables of the first edition must be run "
                "again."
            )
    kinds = dict.fromkeys(_TEXT, object) | dict.fromkeys(_NUMBERS, float)
    whole = pd.concat([f.astype(kinds) for f in frames], ignore_index=True)
    whole[list(_TEXT)] = whole[list(_TEXT)].fillna("").astype(str)
    for column, words in _WORDS.items():
        for word in set(whole[column]) - set(words):
            raise unknown(f"word of column {column!r}", word, words)
    again = whole.duplicated(list(KEY))
    if again.any():
        key = whole[again].iloc[0][list(KEY)]
        raise InputError(
            f"{int(again.sum())} of {len(whole)} results share their key with another row, such "
            f"as {', '.join(f'{k}={v}' for k, v in key.items() if v != '')}.\n"
            "Say in `variant` what tells them apart."
        )
    return whole.loc[:, list(COLUMNS)]


def _folder(folder: str | Path | None) -> Path:
    return Path(folder or os.environ.get("SCLIN_RESULTS", "sclin-results"))


def save(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, chapter: str) -> Path:
    """Write a table as ``<chapter>.csv`` into the folder that ``SCLIN_RESULTS`` names.

    Parameters
    ----------
    rows
        Rows, or a table.
    chapter
        Name of the notebook, such as ``05_cell_types``.

    Returns
    -------
    Path
        The file written; the folder is ``sclin-results`` when the environment names none.
    """
    path = _folder(None) / f"{chapter}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    table(rows).to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    partial.replace(path)
    return path


def load(folder: str | Path | None = None) -> pd.DataFrame:
    """Read every table of a folder into one.

    Parameters
    ----------
    folder
        Folder of tables; defaults to the environment's ``SCLIN_RESULTS``.

    Returns
    -------
    DataFrame
        Columns `COLUMNS` and ``chapter``.

    Raises
    ------
    InputError
        The folder holds no table, or a table is of an older edition.
    """
    root = _folder(folder)
    paths = sorted(root.glob("*.csv"))
    if not paths:
        raise InputError(f"No results table in {root}; run a chapter first, such as `make book`.")
    parts = [table(pd.read_csv(p, dtype={"layer": str})).assign(chapter=p.stem) for p in paths]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Join what several trainings of a model gave: a row for each seed, and a plain one for all.

    Parameters
    ----------
    rows
        Rows of which some have a ``model`` named ``NAME-seedN``, as `sclin.layers.tiny.train`
        names what it trains.

    Returns
    -------
    DataFrame
        Those become rows of ``NAME`` with ``variant`` ``training seed N``. The plain row of a
        score is their mean, with the lowest and the highest seed as its ends. That of a
        difference keeps its units and takes the widest ends, and that of a p value the largest:
        what it shows, every seed shows.
    """
    model = rows["model"].str.extract("^(.+)-seed([0-9]+)$")
    ours = model[0].notna()
    named = rows["representation"].str.replace("-seed[0-9]+/", "/", regex=True)
    plain = rows.assign(model=model[0], representation=named)[ours]
    words = ("training seed " + model[1])[ours]
    each = plain.assign(variant=words + ("; " + plain["variant"]).where(plain["variant"] != "", ""))
    by = plain.groupby(list(KEY), sort=False, dropna=False)
    p, gap = (plain["metric"].str.endswith(end) for end in ("_p", "_difference"))
    ends, spread = by[["ci_low", "ci_high"]], by["value"]
    lowest, highest = spread.transform("min"), spread.transform("max")
    whole = plain.assign(
        value=highest.where(p, spread.transform("mean")),
        ci_low=ends.transform("min")["ci_low"].where(gap, lowest),
        ci_high=ends.transform("max")["ci_high"].where(gap, highest),
        n=plain["n"].where(p | gap, spread.transform("size")),
        unit=plain["unit"].where(p | gap, "seed"),
    )
    return table(rows[~ours], whole.drop_duplicates(list(KEY)), each)
