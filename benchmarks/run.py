"""Every benchmark in one run: each way in a process of its own, with equal threads, repeated.

    python benchmarks/run.py [--only normalization] [--quick] [--repeats 3]

Writes `results/speed.csv` (one row a repeat), `machine.csv` and `aims.csv`. With `--only` the rows
of that benchmark are renewed and the others stay.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aims
import bench_plan
import pandas as pd
from harness import environment, time_apart

BENCHES = (
    "normalization", "pipeline", "projection", "cross_species", "evaluate", "judge", "layers",
    "store", "out_of_core", "book", "plan",
)  # fmt: skip
COLUMNS = ["bench", "way", "n_cells", "n_genes", "seen", "repeat", "seconds", "cpu_seconds",
           "peak_mb", "added_mb", "checksum"]  # fmt: skip


def measure(bench: str, *, quick: bool, repeats: int) -> pd.DataFrame:
    """Every way of a benchmark at every size."""
    module = importlib.import_module(f"bench_{bench}")
    absent: dict[str, str] = {}
    rows = []
    for n_cells in module.QUICK if quick else module.SIZES:
        with tempfile.TemporaryDirectory() as folder:
            facts = module.prepare(Path(folder), n_cells)
            for way in module.WAYS:
                if n_cells > module.UP_TO.get(way, n_cells) or way in absent:
                    continue
                found = time_apart(bench, way, Path(folder), repeats)
                if isinstance(found, str):
                    absent[way] = found
                    continue
                about = {"bench": bench, "way": way, "n_cells": n_cells, **facts}
                rows += [about | row for row in found]
                s = pd.Series([row["seconds"] for row in found])
                spread = f"{s.median():9.3f} s ({s.min():.3f} to {s.max():.3f})"
                print(f"{bench:14s} {way:26s} {n_cells:7,d} cells {spread}", flush=True)
    for way, why in absent.items():
        print(f"{bench:14s} {way} was left out: {why}")
    return pd.DataFrame(rows, columns=COLUMNS)


def save(table: pd.DataFrame, name: str) -> None:
    table.to_csv(aims.RESULTS / f"{name}.csv", index=False, float_format="%.5g")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHES)
    parser.add_argument("--quick", action="store_true", help="small sizes; figures mean little")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("machine.py"))]
    here = json.loads(subprocess.check_output(command, env=environment(), text=True))
    there = aims.RESULTS / "speed.csv"
    done = pd.read_csv(there) if asked.only and there.exists() else pd.DataFrame(columns=COLUMNS)
    for bench in [asked.only] if asked.only else BENCHES:
        if bench == "plan":
            bench_plan.save(bench_plan.JOBS[::4] if asked.quick else bench_plan.JOBS)
        else:
            found = measure(bench, quick=asked.quick, repeats=asked.repeats)
            kept = [part for part in (done[done["bench"] != bench], found) if len(part)]
            save(done := pd.concat(kept, ignore_index=True), "speed")
        here["sizes"] = "quick" if asked.quick else "full"
        if not asked.only:  # else it is the time of one part
            here["minutes"] = round((time.perf_counter() - began) / 60, 1)
        save(pd.DataFrame(here.items(), columns=["what", "value"]), "machine")
        save(aims.table(), "aims")
    print(f"\n{aims.table().to_string(index=False, float_format='%.3g')}\n")
    took = (time.perf_counter() - began) / 60
    print(f"{here['processor']}, {here['threads']} threads, {took:.1f} minutes")


if __name__ == "__main__":
    main()
