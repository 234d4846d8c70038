"""Every published number of both papers, and what became of it here.

The state of a number is computed: from the rows of this build, and from the catalogue, which says
whether its data can be had.
What we derived from published numbers is none of them: it would be compared with itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import page_tables
import pandas as pd

from sclin import datasets, published

STATES = ("reproduced", "differs", "needs the paper profile", "cannot be reproduced")
#: Largest difference of a score that still counts as reproduced.
TOLERANCE = 0.02
#: How the papers name their data, and the catalogue.
DATA = {
    r"tabula sapiens|^ts2|^tsv2": "tabula_sapiens",
    r"sars-cov-2": "sars_cov_2_lung",
    r"testis|spermatogenesis|^human vs|divergence": "testis",
    r"^gse276896": "gse276896",
    r"^d1": "cd4_perturb",
    r"^d4": "cd4_perturb_D4",
    r"^brain$": "brain",
    r"^liver$": "liver",
    r"^spinal$": "spinal_cord",
}
#: Methods of others that no adapter here runs, and numbers that are no result of a method.
ABSENT = re.compile(r"^(UCE|AIDO|scVI|scGPT|TF-Sapiens PMI|TF-Metazoa CGE)")
ASIDE = re.compile(r"^(seconds|parameters|n_predicted_targets|p_value)$")


def _entry(data: str) -> str | None:
    return next((name for asked, name in DATA.items() if re.search(asked, data, re.I)), None)


def _given() -> pd.DataFrame:
    """Numbers as the papers gave them."""
    scores, cross = published.table("classification"), published.table("crossspecies")
    cross = cross[~cross["kind"].str.endswith("_derived")]
    layers, genes = published.table("layers"), published.table("perturbation_genes")
    parts = [
        scores.assign(what=scores["section"], published=scores["value"]),
        cross.assign(what="cross-species", dataset="testis", published=cross["value"]),
        layers.assign(
            what="layers: " + layers["task"].str.replace("_", " "),
            published=layers["value"],
            method=layers["model"] + " layer " + layers["layer"].astype(str),
            source=layers["source_path"],
        ),
        genes.assign(
            what="layers: perturbed genes",
            dataset=genes["context"],
            method="",
            metric="perturbation scored",
            published=genes["gene"],
        ),
    ]
    columns = ["what", "dataset", "method", "metric", "published", "source"]
    return pd.concat([part[columns] for part in parts], ignore_index=True)


def states(results: pd.DataFrame | None) -> pd.DataFrame:
    """One row a published number: its state, the number of this build, and the reason."""
    given = _given().astype({"method": str})
    keys = ["dataset", "metric"]
    ours = pd.DataFrame(columns=[*keys, "value"]) if results is None else results
    for column, value in {"source": "reproduced", "variant": ""}.items():
        ours = ours[ours.get(column, pd.Series(value, ours.index)).eq(value)]
    ours = ours.reindex(columns=[*keys, "representation", "head", "value"])
    by_keys = {key: rows.to_dict("records") for key, rows in ours.groupby(keys)}
    rows = []
    for one in given.itertuples():
        entry, here, why = _entry(one.dataset), np.nan, ""
        if ABSENT.match(one.method):
            state, why = STATES[3], f"{one.method.split()[0]} is not run here"
        elif ASIDE.match(one.metric):
            state, why = STATES[3], "no score of a method on cells"
        elif entry is None:
            state, why = STATES[3], f"{one.dataset}: not in the catalogue"
        else:
            found = [row for row in by_keys.get((entry, one.metric), ()) if _same(one.method, row)]
            state, why = STATES[2], datasets.catalogue()[entry].title
            if len(found) == 1:
                here = float(found[0]["value"])
                state = STATES[abs(here - float(one.published)) > TOLERANCE]
        rows.append((state, here, why))
    return given.join(pd.DataFrame(rows, columns=["state", "here", "reason"]))


def _same(method: str, row: dict) -> bool:
    """Whether a row of ours is of the method that a paper names."""
    representation, head = published.counterpart(method)
    return row["representation"] == representation and head in ("", row["head"])


def published_numbers(root: Path) -> str:
    """Count the published numbers by state, and leave the whole list for download."""
    found = states(page_tables.results(root))
    target = root / "book" / "_generated" / "published.csv"
    target.parent.mkdir(exist_ok=True)
    text = found.to_csv(index=False)
    if not target.exists() or target.read_text() != text:  # a page is older than its download
        target.write_text(text)
    counts = found.groupby(["what", "state"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=STATES, fill_value=0)
    rows = [
        [what, int(row.sum()), *(int(n) or "–" for n in row)] for what, row in counts.iterrows()
    ]
    rows.append(["**all**", len(found), *(int(n) or "–" for n in counts.sum())])
    reasons = found[found["state"] == STATES[3]].groupby("reason").size().sort_values()[::-1]
    told = [[reason, int(n)] for reason, n in reasons.items()]
    return "\n\n".join([
        page_tables.markdown(rows, ["Numbers of", "n", *STATES]),
        "Every number with its source, state and reason: {download}`published.csv "
        "</book/_generated/published.csv>`.",
        "## Why some cannot be reproduced",
        page_tables.markdown(told, ["Reason", "n"]),
    ]) + "\n"  # fmt: skip
