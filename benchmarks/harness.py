"""One way of one benchmark, in a process of its own: seconds, memory, and a checksum.

A benchmark is a module with

- `SIZES` and `QUICK`: numbers of cells;
- `prepare(folder, n_cells)`: write the input into a folder, return what describes it;
- `WAYS`: functions by name, the first of them ours. A way takes the folder, imports, reads and
  compiles, and returns two functions: the work, and a number that tells its result from another;
- `UP_TO`: the largest number of cells of ways that take too long or too much memory.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil

#: Repeats go on until a way has taken a second, and end after so many.
ENOUGH = 20
KB = 1024 if sys.platform == "linux" else 1  # of what the system counts memory in
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_mb() -> float:
    """Largest resident memory of this process and of its living children, in MB."""
    pids = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    with contextlib.suppress(OSError):
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in texts) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB / 2**20


def forget_peak() -> float:
    """Let the peak be what is held now, where the system can; return it, in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def busy_seconds() -> float:
    """Seconds of all cores, of this process and those that it started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = psutil.Process().children(recursive=True)
    living = sum(sum(child.cpu_times()[:2]) for child in children)
    return time.process_time() + living + ended.ru_utime + ended.ru_stime


def time_here(bench: str, way: str, folder: Path, repeats: int) -> list[dict]:
    """Prepare one way, do its work several times, and describe each time."""
    work, tell = importlib.import_module(f"bench_{bench}").WAYS[way](folder)
    read, before, rows = peak_mb(), forget_peak(), []
    for repeat in range(10 * repeats):
        start, busy = time.perf_counter(), busy_seconds()
        made = work()
        seconds = time.perf_counter() - start
        row = {"repeat": repeat, "seconds": seconds, "cpu_seconds": busy_seconds() - busy}
        if repeat == 0:
            first = {"peak_mb": max(read, peak_mb()), "added_mb": peak_mb() - before}
            checksum = float(tell(made))
        rows.append(row | first | {"checksum": checksum})
        del made
        taken = sum(row["seconds"] for row in rows)
        if taken > ENOUGH or (taken > 1 and len(rows) >= repeats):
            break
    return rows


def environment() -> dict[str, str]:
    """Variables of a process that may use `THREADS` threads, whatever computes in it."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    return os.environ | {f"{name}_NUM_THREADS": str(THREADS) for name in names}


def time_apart(bench: str, way: str, folder: Path, repeats: int) -> list[dict] | str:
    """The same in a fresh process; why not, where a package of the way is absent."""
    command = [sys.executable, __file__, bench, way, str(folder), str(repeats)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    said = done.stderr.strip().splitlines()
    if done.returncode and said and said[-1].startswith(("ModuleNotFoundError", "ImportError")):
        return said[-1]
    if done.returncode:
        raise SystemExit(f"{bench}, {way}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    bench, way, folder, repeats = sys.argv[1:]
    print("\n" + json.dumps(time_here(bench, way, Path(folder), int(repeats))))
