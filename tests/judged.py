"""Dictionaries that the report of `sclin judge` is drawn from: a good, a hard, and a bare one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

import sclin

TEMPLATE = Path(sclin.__file__).with_name("report.html")
TYPES = ["alpha", "beta", "delta", "gamma", "ductal", "acinar"]
NAMES = ["rank_pca", "lognorm", "rank", "hvg_pca", "obsm:X_scGPT", "layer:tiny/3"]
CONTROLS = ["library_size", "random"]


def render(judged: dict[str, Any]) -> str:
    return Environment(autoescape=True).from_string(TEMPLATE.read_text("utf-8")).render(judged)


def scores(names: list[str], *, best: float, seed: int = 0, gap: float = 0.03) -> list[dict]:
    rng, rows = np.random.default_rng(seed), []
    for i, name in enumerate([*names, *CONTROLS]):
        control = name in CONTROLS
        value = rng.uniform(-0.05, 0.2) if control else best - gap * i
        wide = rng.uniform(0.01, 0.08)
        kind = "control" if control else "yours" if name.startswith(("obsm", "layer")) else "ours"
        rows.append(
            {
                "name": name,
                "value": value,
                "low": value - wide,
                "high": value + wide / 2,
                "kind": kind,
                "shuffled": None if control else rng.uniform(0.08, 0.16),
                "note": "",
            }
        )
    return rows


def classes(title: str, types: list[str], names: list[str], **options: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    table = scores(names, **options)
    shown = min(25, len(types))
    matrices = []
    for of in (names[0], names[2]):
        rows = np.diag(rng.integers(20, 900, shown)) + rng.poisson(0.8, (shown, shown))
        left = len(types) - shown
        matrices.append(
            {"of": of, "labels": types[:shown], "rows": rows.tolist(), "left_out": left}
        )
    each = [
        {"name": name, "n": int(n), "best": float(f), "simplest": float(f - d)}
        for name, n, f, d in zip(
            types,
            np.sort(rng.integers(21, 2_000, len(types)))[::-1],
            rng.uniform(0.55, 1.0, len(types)),
            rng.normal(0.01, 0.04, len(types)),
            strict=True,
        )
    ]
    return {
        "name": title.lower().replace(" ", "_"),
        "title": title,
        "status": "ran",
        "reason": f"{len(types)} classes with 20 cells or more; 6 donors held out in turn",
        "n_classes": len(types),
        "metric": "f1_macro",
        "unit": "donor",
        "n": 6.0,
        "best": names[0],
        "simplest": names[2],
        "verdict": f"{names[0]} has {table[0]['value']:.3f}. No difference is shown between "
        f"{names[0]} and {names[2]} (+0.012 [-0.004, 0.031], p = 0.31). p is corrected.",
        "scores": table,
        "classes": each,
        "confusion": matrices,
    }


def impossible(title: str, reason: str) -> dict[str, Any]:
    name = title.lower().replace(" ", "_")
    return {"name": name, "title": title, "status": "impossible", "reason": reason}


def good() -> dict[str, Any]:
    return {
        "title": "Representations of pancreas.h5ad",
        "name": "pancreas.h5ad",
        "when": "2026-11-28 at 02:40",
        "command": "sclin judge pancreas.h5ad --cell-type 'Cell type' --donor donor_id "
        "--condition disease --embedding scGPT=scgpt.npy --seed 0 --report report.html",
        "versions": {"sclin": "0.6.0", "scikit-learn": "1.5.2", "numpy": "2.1.3"},
        "answer": [
            "You do not need a foundation model to name the cell types of these cells.",
            "rank_pca has the highest macro F1, 0.941, and lognorm is not shown to be worse.",
            "For disease no representation is shown to do better than the number of counts.",
        ],
        "matrix": "layers['counts']",
        "values": "counts",
        "n_cells": 8_569,
        "n_genes": 20_125,
        "unit": "donor",
        "n_units": 6,
        "columns": {"cell_type": "Cell type", "donor": "donor_id", "condition": "disease"},
        "tasks": [
            classes("Cell types", TYPES, NAMES, best=0.941),
            classes("Disease state", ["normal", "type 2 diabetes"], NAMES, best=0.63, seed=2),
            impossible("Trajectory", "No column of times; name one with --time."),
            impossible("Perturbation", "No column of perturbations; see --perturbation."),
        ],
        "dropped": [
            {"what": "cells", "n": 1_204, "why": "no cell type: empty, nan or unknown"},
            {"what": "class", "n": 7, "why": "epsilon has 7 cells; 20 are needed"},
        ],
        "warnings": ["Donors d3 and d4 hold one condition only."],
        "fitted": [
            {"name": "obsm:X_scGPT", "why": "an array of the file; how it was made is not known."}
        ],
    }


LONG = ("geneformer_12L_zero_shot", "scGPT_whole_human_finetuned_on_all_cells", "uce_33l_8ep")
HOSTILE = "<script>alert('x')</script> & \"quoted\" <b>bold</b>"


def hard() -> dict[str, Any]:
    """60 types of long names, 15 representations, scores below 0 or absent, names with HTML."""
    stored = [f"obsm:X_{LONG[i % 3]}_{i}" for i in range(9)]
    types = [f"CD{i}-positive, alpha-beta memory T cell of the lamina propria" for i in range(60)]
    types[0] = HOSTILE
    names = ["rank", "obsm:" + HOSTILE, "lognorm", "hvg_pca", *stored]
    named = classes("Cell types", types, names, best=0.72, gap=0.02)
    course = classes("Trajectory", [], names, best=0.4, gap=0.06)
    course |= {"classes": [], "confusion": [], "n_classes": None, "unit": "species", "n": 1}
    course |= {"metric": "pseudotime_time_spearman", "simplest": "rank"}
    for row in course["scores"][2:5]:
        row |= {"low": None, "high": None, "note": "one donor only: no interval"}
    course["scores"][5] |= {"value": None, "low": None, "high": None, "note": "did not finish"}
    return good() | {
        "title": "Representations of " + "a_rather_long_name_of_a_file_from_a_consortium_" * 2,
        "name": f"/data/{HOSTILE}.h5ad",
        "tasks": [named, course, impossible("Perturbation", HOSTILE)],
        "warnings": [HOSTILE, "Group <d1> is confounded with the label."],
        "answer": [HOSTILE],
    }


def bare() -> dict[str, Any]:
    """One task, cells as units, nothing dropped, nothing to warn of."""
    task = classes("Cell types", TYPES[:3], NAMES[:3], best=0.8)
    task |= {"unit": "cell", "n": 300, "simplest": task["best"], "confusion": []}
    task["classes"] = [row | {"simplest": row["best"]} for row in task["classes"]]
    keep = {"columns": {"cell_type": "type"}, "unit": "cell", "n_units": 300, "n_cells": 300}
    empty: dict[str, Any] = {"dropped": [], "warnings": [], "fitted": []}
    return good() | keep | empty | {"tasks": [task]}
