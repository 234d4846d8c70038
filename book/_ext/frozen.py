"""The tables that the book keeps: hold a run against them, or keep a run in their place.

    python book/_ext/frozen.py freeze RUN KEPT
    python book/_ext/frozen.py compare RUN KEPT

The second leaves with 1 where a number moved, came or went.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from sclin import results


def freeze(source: str | Path, target: str | Path) -> pd.DataFrame:
    """Copy the tables of a run to where they are kept, and say what changed.

    Parameters
    ----------
    source, target
        Folders, such as ``_build/results/offline`` and ``results/offline``.

    Returns
    -------
    DataFrame
        What `compare` finds between the tables kept before and those of the run.
    """
    new, target = results.load(source), Path(target)
    changed = compare(results.load(target) if any(target.glob("*.csv")) else new[:0], new)
    target.mkdir(parents=True, exist_ok=True)
    for path in Path(source).glob("*.csv"):
        (target / path.name).write_bytes(path.read_bytes())
    return changed


def compare(
    old: pd.DataFrame, new: pd.DataFrame, *, rtol: float = 1e-5, spread: float = 0.5
) -> pd.DataFrame:
    """List the rows that came, went, or hold another number.

    Parameters
    ----------
    old, new
        Tables.
    rtol
        Relative difference of values that counts as the same.
    spread
        What was trained is never the same twice on two machines: the new mean over seeds may lie
        outside the old lowest and highest seed by this part of their distance. Rows of one seed,
        and p values and differences of trained models, need only be there.

    Returns
    -------
    DataFrame
        Columns `sclin.results.KEY`, ``old``, ``new``, and ``change``: came, went or differs.
    """
    trained = set(old.loc[old["variant"].str.startswith("training seed"), "model"])
    before = old[[*results.KEY, "value", "ci_low", "ci_high", "unit", "model"]]
    before = before.rename(columns={"value": "old"})
    after = new[[*results.KEY, "value"]].rename(columns={"value": "new"})
    both = before.merge(after, on=list(results.KEY), how="outer", indicator=True)
    room = spread * (both["ci_high"] - both["ci_low"])
    near = both["new"].between(both["ci_low"] - room, both["ci_high"] + room)
    same = np.isclose(both["old"], both["new"], rtol=rtol, equal_nan=True)
    same |= both["model"].isin(trained) & (near | both["unit"].ne("seed"))
    same |= both["representation"].str.contains("-seed[0-9]+")
    words = {"left_only": "went", "right_only": "came", "both": "differs"}
    both["change"] = both["_merge"].map(words)
    found = both.loc[both["change"].ne("differs") | ~same, [*results.KEY, "old", "new", "change"]]
    return found.reset_index(drop=True)


def main(task: str, run: str, kept: str) -> int:
    """Do what ``make freeze`` and ``make compare`` ask for; the exit status."""
    if task == "freeze":
        known, found = any(Path(kept).glob("*.csv")), freeze(run, kept)
        print(found.to_string() if known else f"{len(found):,} rows are kept in {kept}.")
        return 0
    found = compare(results.load(kept), results.load(run))
    print(found.to_string() if len(found) else f"The numbers are those of {kept}.")
    return int(len(found) > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
