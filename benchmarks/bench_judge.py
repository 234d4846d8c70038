"""`sclin.judge` on a file: four representations and the controls, every task its labels allow.

Simulated cells, 20,000 genes, about 1,500 seen a cell, five donors held out in turn. No peer does
this in one call. The checksum is the best macro F1.
"""

from __future__ import annotations

from pathlib import Path

from cells import annotated, write

SIZES, QUICK = (500, 1000, 2000, 4000), (150, 250)


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    facts = write(folder, n_cells, 20_000, molecules=2700)
    annotated(folder).write_h5ad(folder / "cells.h5ad")
    return facts


def by_sclin(folder: Path):
    import sclin

    def work():
        return sclin.judge(folder / "cells.h5ad", cell_type="cell_type", donor="donor")

    return work, lambda found: found.found["cell_types"].table["value"].max()


WAYS = {"sclin": by_sclin}
UP_TO: dict[str, int] = {}
