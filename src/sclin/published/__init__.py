"""The numbers of the two papers, each with its source and how certain it is.

They are shown as published and never enter a computation of ours.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from sclin import results as tidy
from sclin.errors import unknown

__all__ = ["TABLES", "results", "table"]

#: Published tables by name.
TABLES = {
    "classification": "scores of both papers and of the models compared, with confidence",
    "crossspecies": "spermatogenesis of 8 mammals: matrix, averages, cell and gene numbers",
    "layers": "stored score of every layer of scFoundation and Tahoe-x1",
    "best_layers": "best, first and final layer of each score, derived from `layers`",
    "perturbation_genes": "perturbed genes of each T cell state in the stored scores",
    "claims": "what the papers claim: in which words, where, and by which rule it is tested",
}


@cache
def _read(name: str) -> pd.DataFrame:
    with files(__package__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def table(name: str) -> pd.DataFrame:
    """Read a table of published numbers.

    Parameters
    ----------
    name
        One of `TABLES`.

    Returns
    -------
    DataFrame
        One row per number, or per claim; every table has a column that names its source, except
        ``best_layers``, which is derived from ``layers``.

    Raises
    ------
    InputError
        When there is no such table.

    Examples
    --------
    >>> sorted(table("layers")["model"].unique())
    ['Tahoe-x1-1b', 'scFoundation']
    """
    if name not in TABLES:
        raise unknown("published table", name, TABLES)
    return _read(name).copy()


_SECTIONS = {
    "cell type": "cell_types",
    "disease state": "disease_state",
    "structure": "structure",
    "manifold": "manifold",
}
_DATASETS = {
    "Tabula Sapiens 2.0": "tabula_sapiens",
    "SARS-CoV-2 infection, human lung (Wu et al. 2024)": "sars_cov_2_lung",
    "bgee testis, 8 species": "testis",
    "vertebrates": "testis",
    "human testis, 7 x 500 cells": "testis",
}
_METRICS = {
    "f1_macro": "f1_macro",
    "spearman_distance_vs_cosine": "spearman_divergence_cosine",
    "pearson_euclid_geodesic": "pearson_euclid_geodesic",
    "Pseudotime_Corr": "spearman_pseudotime_reference",
    "correlation": "spearman_similarity",
}
_LAYER_TASKS = {"pseudotime": "trajectory", "perturbation_semantic_similarity": "perturbation"}


def results() -> pd.DataFrame:
    """Headline numbers of the papers as rows of the results table.

    Returns
    -------
    DataFrame
        Columns `sclin.results.COLUMNS`; ``source`` is ``published``, ``note`` says where the
        number stands and how certain it is. Averages over tissues or species carry no interval,
        because none was published.
    """
    shared: dict[str, Any] = {"protocol": "as_published", "source": "published", "profile": "paper"}
    rows: list[dict[str, Any]] = []
    scores = table("classification")
    chosen = scores["dataset"].isin(_DATASETS) & scores["metric"].isin(_METRICS)
    for row in scores[chosen & scores["section"].isin(_SECTIONS)].to_dict("records"):
        rows.append(
            tidy.row(
                task=_SECTIONS[row["section"]],
                dataset=_DATASETS[row["dataset"]],
                metric=_METRICS[row["metric"]],
                value=float(row["value"]),
                representation=row["method"],
                split=row["unit"],
                higher_is_better=row["section"] != "structure",
                note=f"{row['confidence']}; {row['source']}",
                **shared,
            )
        )
    species = table("crossspecies")
    averages = species["kind"].str.startswith("average_by_source") & (
        species["basis_species"] == "Average"
    )
    for row in species[averages].to_dict("records"):
        rows.append(
            tidy.row(
                task="cross_species",
                dataset="testis",
                metric="f1_macro",
                value=row["value"],
                representation=row["method"],
                split=row["target_species"],
                note=f"{row['source']}; {row['note']}",
                **shared,
            )
        )
    layers = table("layers")
    depth = layers["task"].isin(_LAYER_TASKS) & layers["metric"].isin(_METRICS)
    for row in layers[depth & (layers["layer"] != "Baseline_PCA")].to_dict("records"):
        rows.append(
            tidy.row(
                task=_LAYER_TASKS[row["task"]],
                dataset=row["dataset"],
                metric=_METRICS[row["metric"]],
                value=row["value"],
                # The papers count blocks from 0; layer 0 is the embedding here.
                representation=f"layer:{row['model']}/{int(row['layer']) + 1}",
                relative_depth=row["relative_depth"],
                note=f"{row['source_path'].rpartition('/')[2]}; {row['note']}",
                **shared,
            )
        )
    return tidy.table(rows)
