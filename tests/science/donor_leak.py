"""Donor leak: how much of the donor does a representation carry?

A new task is one module like this one: data, labels and folds. The loop is the engine's.
One cell type is held out at a time, and the donor of its cells is predicted from the others.
What is found is then neither the share of types of a donor nor a type of one donor alone.
"""

from __future__ import annotations

from typing import Any

from anndata import AnnData
from sklearn.model_selection import LeaveOneGroupOut

import sclin
from sclin.evaluation import Results
from sclin.tasks.cell_types import keep_classes


def cells(dataset: str = "baron_human", *, min_cells: int = 20) -> AnnData:
    """Load cells of the types and donors that have enough of them."""
    kept, _ = keep_classes(sclin.datasets.load(dataset), "cell_type", min_cells=min_cells)
    return keep_classes(kept, "donor", min_cells=min_cells)[0]


def run(adata: AnnData, **options: Any) -> Results:
    """Predict the donor of cells whose type was not trained on; intervals over types."""
    return sclin.evaluate(
        adata,
        "donor",
        cv=LeaveOneGroupOut(),
        groups="cell_type",
        controls=True,
        task="donor_leak",
        **options,
    )
