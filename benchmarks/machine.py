"""Where a table was measured, and what no code can beat there: memory traffic and products."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
from numba import njit, prange

PACKAGES = (
    "numpy", "scipy", "numba", "scikit-learn", "anndata", "scanpy", "dask", "distributed", "zarr",
    "torch", "transformers", "sctop", "celltypist", "rapids-singlecell",
)  # fmt: skip


@njit(parallel=True)
def triad(a, b, c):
    for i in prange(len(a)):
        a[i] = b[i] + 3.0 * c[i]


def best(work, repeats: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def fingerprint() -> dict[str, object]:
    """Describe and measure this machine, with all threads that it may use."""
    a, b, c = (np.ones(1 << 26) for _ in range(3))
    x = np.ones((4096, 4096), dtype=np.float32)
    found = {
        "date": datetime.date.today().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "copy_gb_s": round(2 * a.nbytes / best(lambda: np.copyto(a, b)) / 1e9, 1),
        "triad_gb_s": round(3 * a.nbytes / best(lambda: triad(a, b, c)) / 1e9, 1),
        "matrix_gflop_s": round(2 * len(x) ** 3 / best(lambda: x @ x, 3) / 1e9, 1),
        "python": platform.python_version(),
    }  # fmt: skip
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    print(json.dumps(fingerprint()))
