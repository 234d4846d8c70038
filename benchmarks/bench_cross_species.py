"""Time and memory of the 8-species matrix at the paper's size, on simulated cells.

Run: python benchmarks/bench_cross_species.py [--small]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

from sclin.benchmarks import cross_species
from sclin.datasets import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="300 cells x 1,500 genes a species")
    small = parser.parse_args().small
    start = time.perf_counter()
    data = (
        simulate.species(n_cells=300, n_genes=1500)
        if small
        else simulate.species(n_cells="paper", n_genes="paper")
    )
    simulated = time.perf_counter() - start
    # Compile before the clock starts: a reader pays for it once, not per matrix.
    tiny = simulate.species(n_cells=60, n_genes=200)
    cross_species.run(
        tiny.adatas, tiny, representations=("rank",), heads=("projection",), min_cells=1, n_boot=2
    )
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = cross_species.run(
        data.adatas, data, representations=("rank",), heads=("projection",),
        types=("shared",), n_boot=200,
    )  # fmt: skip
    print(
        json.dumps(
            {
                "cells": sum(a.n_obs for a in data.adatas.values()),
                "genes": {name: a.n_vars for name, a in data.adatas.items()},
                "genes_seen_per_cell": {
                    name: round(a.X.nnz / a.n_obs) for name, a in data.adatas.items()
                },
                "seconds_to_simulate": round(simulated, 1),
                "seconds_of_matrix": round(time.perf_counter() - wall, 1),
                "cpu_seconds_of_matrix": round(time.process_time() - cpu, 1),
                "peak_gb_with_simulation": round(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2
                ),
                "transfers": len(outcome.scores),
                "mean_macro_f1_simulated": round(outcome.scores["macro_f1"].mean(), 3),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
