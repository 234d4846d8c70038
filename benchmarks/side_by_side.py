"""Time and peak memory of competing ways, each in a process of its own.

A benchmark defines functions that take the path of their input and return a dict of figures.
`race` runs each in a fresh process with the same number of threads and gathers the figures.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pandas as pd

THREADS = 2
RESULTS = Path(__file__).parent / "results"


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def stopwatch(figures: dict, name: str) -> Iterator[None]:
    """Add the seconds of a block to the figures, by the clock and summed over the cores."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    figures[name] = time.perf_counter() - start
    figures[f"cpu_{name}"] = time.process_time() - busy


def race(script: str, data: Path, ways: list[str]) -> pd.DataFrame:
    """Run each way of a benchmark script in a fresh process; one row each."""
    variables = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    threads = {f"{name}_NUM_THREADS": str(THREADS) for name in variables}
    rows = []
    for way in ways:
        print(f"{way} ...", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, script, "--way", way, "--data", str(data)],
            env=os.environ | threads,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append({"way": way, **json.loads(done.stdout.splitlines()[-1])})
    return pd.DataFrame(rows)


def run_one(functions: dict[str, Callable[[Path], dict]], way: str, data: Path) -> None:
    """Run one way here and print its figures, with the peak memory, as the last line."""
    figures = functions[way](data)
    print(json.dumps(figures | {"peak_mb": peak_mb()}))


def save(
    table: pd.DataFrame,
    name: str,
    *,
    packages: tuple[str, ...] = ("numpy", "numba", "scikit-learn", "sctop"),
) -> None:
    """Print a table and write it beside a description of the machine."""
    table = table.assign(
        threads=THREADS,
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        **{package: version(package) for package in packages},
    )
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="%.4g"))
