"""What `sclin plan` says of ten jobs, beside what they take.

    python benchmarks/bench_plan.py

Each job runs in a process of its own after a small one that compiles, short ones three times;
`run.py` calls this last.
The model has the shape of the one that is named, with random weights. `ratio` is the measured time
over the geometric mean of the two ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
from aims import RESULTS
from cells import annotated, write
from harness import environment, peak_mb

#: Task, cells, genes, molecules of a cell.
JOBS = (
    ("rank", 10_000, 20_000, 2700), ("rank", 40_000, 20_000, 2700), ("rank", 10_000, 30_000, 8000),
    ("pipeline", 6000, 20_000, 2700), ("pipeline", 20_000, 20_000, 2700),
    ("evaluate", 2000, 20_000, 2700), ("judge", 2000, 20_000, 2700), ("judge", 8000, 20_000, 2700),
    ("layers:geneformer-v1-10m", 24, 20_000, 2700), ("layers:geneformer-v2-104m", 4, 20_000, 2700),
)  # fmt: skip


def model_of(name: str, genes: list[str]):
    """Geneformer of the shape in the catalogue."""
    from transformers import BertConfig

    from sclin.datasets import catalogue
    from sclin.layers.models.geneformer import Geneformer

    shape = catalogue().models[name]
    tokens = {gene: i for i, gene in enumerate(["<pad>", "<mask>", "<cls>", "<eos>", *genes])}
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64, intermediate_size=shape.inner or 4 * shape.width,
        max_position_embeddings=shape.context, hidden_act="relu", pad_token_id=0,
    )  # fmt: skip
    return Geneformer(config, tokens, dict.fromkeys(genes, 1.0), name=name).eval()


def do(task: str, file: Path) -> None:
    """The job, and before it a small one."""
    from sclin import datasets, layers, plan

    small = file.with_name("small.h5ad")
    if task in plan.TASKS:
        plan.TASKS[task].do(small)
        work = partial(plan.TASKS[task].do, file)
    else:
        model = model_of(task.removeprefix("layers:"), list(datasets.load(small).var_names))

        def work():
            store = Path(tempfile.mkdtemp(dir=file.parent)) / "store"
            layers.extract(model, datasets.load(file), store, progress=False)

    measured = plan.median_seconds(work, enough=5)
    print("\n" + json.dumps({"measured": measured, "peak_mb": peak_mb()}))


def table(jobs=JOBS) -> pd.DataFrame:
    """One row a job."""
    from sclin import plan

    rows = []
    rates = plan.measure()
    kept = rates | {"machine": {"threads": rates["machine"]["threads"]}}
    (RESULTS / "rates.json").write_text(json.dumps(kept), encoding="utf-8")
    for task, n_cells, n_genes, molecules in jobs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "cells.h5ad"
            write(Path(folder), n_cells, n_genes, molecules=molecules)
            cells = annotated(Path(folder))
            cells.var_names = [f"ENSG{i:011d}" for i in range(n_genes)]
            cells.write_h5ad(file)
            cells[:300].write_h5ad(file.with_name("small.h5ad"))
            cost = plan.plan(task, file, rates=rates)
            done = subprocess.check_output(
                [sys.executable, __file__, task, str(file)], env=environment(), text=True
            )
        took = json.loads(done.splitlines()[-1])
        low, high = cost.seconds
        row = {
            "job": task, "n_cells": n_cells, "n_genes": n_genes, "low": low, "high": high,
            "measured": took["measured"], "ratio": took["measured"] / (low * high) ** 0.5,
            "low_mb": cost.memory[0] / 1e6, "high_mb": cost.memory[1] / 1e6,
            "peak_mb": took["peak_mb"] * 1.048576,
        }  # fmt: skip
        rows.append(row)
        print(f"{task:26s} {n_cells:7,d} cells  {low:.3g} to {high:.3g} s, {took['measured']:.3g} s"
              f"; {row['low_mb']:,.0f} to {row['high_mb']:,.0f} MB, {row['peak_mb']:,.0f} MB",
              flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def save(jobs=JOBS) -> None:
    table(jobs).to_csv(RESULTS / "plan.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        do(sys.argv[1], Path(sys.argv[2]))
    else:
        save()
