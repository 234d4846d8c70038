"""What a job will cost, said before it starts: time, memory, disk, and hours of a GPU.

Each task was done twice on this machine, on few simulated cells (`measure`). Larger jobs lie on a
line through both times, by stored counts. Where products of all pairs of cells are taken, and
systems of as many equations solved, time grows with a power of the cells between 1.5 and 2.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr

from sclin import __version__, datasets
from sclin.datasets import cache_dir, catalogue, load
from sclin.errors import DataError, InputError, reading, unknown
from sclin.evaluation import evaluate
from sclin.judgement import OURS, judge
from sclin.linear import linear_pipeline
from sclin.normalization import rank_normalize

Range = tuple[float, float]

#: Genes seen in a cell, where nobody has counted them.
SEEN: Range = (1000, 4000)
#: TFLOP/s of layers on an H100 or H200 in bfloat16, as `benchmarks/gpu_check.sh` measured them;
#: the one attention that is not fused runs at a third of that.
GPU: Range = (250, 530)
#: Factor by which a job may miss its law.
_SPREAD = 1.4
#: Most cells whose products of pairs are taken, and copies of these products at the peak. Of more
#: cells, time grows with their number.
_DRAWN, _PAIRS = 5000, np.array([3, 6])


class _Task(NamedTuple):
    do: Callable[[Path], object]
    #: Cells that it is measured on.
    measured: tuple[int, int]
    #: Copies of the stored counts that it holds at its peak (8 bytes a count).
    copies: Range
    #: Whether cells are compared with cells.
    pairs: bool
    #: Cells that it looks at.
    most: float = np.inf
    remedy: str = "open the file with anndata.experimental.read_lazy, and the call goes by blocks"


TASKS = {
    "rank": _Task(lambda file: rank_normalize(load(file)), (2000, 8000), (1.4, 2.5), False),
    "pipeline": _Task(
        lambda file: linear_pipeline().fit((cells := load(file)), cells.obs["cell_type"]),
        (4000, 8000), (3, 6), False,
    ),
    "evaluate": _Task(
        lambda file: evaluate(load(file), "cell_type", representations=OURS, groups="donor"),
        (700, 1600), (3, 8), True,
    ),
    "judge": _Task(
        lambda file: judge(file, cell_type="cell_type", donor="donor"),
        (700, 1600), (2, 4), True, _DRAWN,
        "write a file of fewer cells or genes first; --max-cells holds only after reading",
    ),
}  # fmt: skip


class Size(NamedTuple):
    """Cells, genes, and genes seen in a cell: two ends where nobody has counted."""

    name: str
    n_cells: int
    n_genes: int
    seen: Range


@dataclass(frozen=True)
class Cost:
    """What a job will take: every number as its low and its high end.

    Attributes
    ----------
    task, size
        What is asked for.
    seconds, memory, disk
        On this machine; bytes.
    gpu_hours
        On one H100 or H200, for layers.
    remedies
        What makes it fit, where memory or disk do not suffice.
    """

    task: str
    size: Size
    seconds: Range
    memory: Range
    disk: Range = (0, 0)
    gpu_hours: Range = (0, 0)
    remedies: tuple[str, ...] = ()

    def __str__(self) -> str:
        name, n_cells, n_genes, (low, high) = self.size
        seen = f"{low:,.0f}" + f" to {high:,.0f} (assumed)" * (low < high)
        unit, by = ("h", 3600) if self.seconds[1] > 5400 else ("s", 1)
        told = (
            ("time", self.seconds, by, unit),
            ("memory", self.memory, 1e9, f"GB of {_memory() / 1e9:.3g} GB"),
            ("disk", self.disk, 1e9, "GB"),
            ("GPU", self.gpu_hours, 1, "hours of one H100"),
        )
        return "\n".join([
            f"{self.task} on {name}: {n_cells:,} cells x {n_genes:,} genes, {seen} seen in a cell",
            *(f"{what:8} {ends[0] / by:,.3g} to {ends[1] / by:,.3g} {unit}"
              for what, ends, by, unit in told if any(ends)),
            *self.remedies,
        ])  # fmt: skip


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size_of(dataset: str | Path) -> Size:
    """Read how large a data set is, without loading a large one.

    Parameters
    ----------
    dataset
        A ``.h5ad`` or ``.zarr`` of cells, a name of the catalogue, or sizes: ``CELLSxGENES``,
        or ``CELLSxGENESxSEEN`` with the genes seen in a cell.

    Raises
    ------
    InputError
        It is none of these.
    DataError
        The file cannot be read, or the catalogue does not know the size.
    """
    if sizes := re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", str(dataset).replace(",", "")):
        n_cells, n_genes, seen = (int(n or 0) for n in sizes.groups())
        if not n_cells or not n_genes or seen > n_genes:
            raise InputError(f"{dataset}: give cells and genes from 1 on, and no more seen.")
        return Size(str(dataset), n_cells, n_genes, (seen, seen) if seen else SEEN)
    if (path := Path(dataset)).exists():
        with reading(path, "h5ad or zarr of cells", "Give another file, or CELLSxGENES."):
            return Size(path.name, *_shape(path))
    entry = catalogue()[str(dataset)]
    if entry.tier in ("packaged", "simulated"):
        cells = load(entry.name)
        return Size(entry.name, cells.n_obs, cells.n_vars, (cells.X.nnz / cells.n_obs,) * 2)
    if not (entry.n_obs and entry.n_vars):
        raise DataError(
            f"The catalogue does not know how many cells and genes {entry.name} has.\n"
            "Give its file, or CELLSxGENES, such as 1000000x60000."
        )
    return Size(entry.name, entry.n_obs, entry.n_vars, SEEN)


def _shape(path: Path) -> tuple[int, int, Range]:
    """Cells and genes of a file, and the values stored for a cell."""
    opened = zarr.open_group(str(path), mode="r") if path.is_dir() else h5py.File(path, "r")
    X: Any = opened["X"]
    if hasattr(X, "shape"):
        return X.shape[0], X.shape[1], (X.shape[1], X.shape[1])
    n_cells, n_genes = map(int, X.attrs["shape"])
    return n_cells, n_genes, (X["data"].shape[0] / n_cells,) * 2


# Rates --------------------------------------------------------------------------------------------


def _machine() -> dict[str, object]:
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    return {"sclin": __version__, "node": platform.node(), "threads": int(threads or 1)}


def median_seconds(work: Callable[[], object], *, enough: float = 2) -> float:
    """Time a function: three times, or until so many seconds have gone."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < enough:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def measure() -> dict[str, Any]:
    """Measure this machine, in about a minute, and keep the rates in the cache.

    Returns
    -------
    dict
        ``machine``, then for each task the stored counts, or the cells, and the seconds of two
        small jobs, and
        ``flop_s`` of layers on the processor.
    """
    rates: dict[str, Any] = {"machine": _machine(), "flop_s": _layers_rate()}
    cells = datasets.simulate.atlas(n_cells=8000, n_genes=20_000, n_types=12)
    cells.uns.clear()  # the truth, which takes longer to read than the cells
    with tempfile.TemporaryDirectory() as folder:
        for name, task in TASKS.items():
            points = []
            for n_cells in (240, *task.measured):  # the first is a rehearsal, which compiles
                few, file = cells[:n_cells].copy(), Path(folder) / f"{n_cells}.h5ad"
                few.write_h5ad(file)
                size = n_cells if task.pairs else few.X.nnz
                points.append((size, median_seconds(partial(task.do, file))))
            rates[name] = points[1:]
    (cache_dir() / "rates.json").write_text(json.dumps(rates), encoding="utf-8")
    return rates


def _layers_rate() -> float:
    """FLOP/s of one block of 768 features on four cells of 900 tokens."""
    from sclin.layers.engine import batches, pool_cells
    from sclin.layers.models.scfoundation import ScFoundation
    from sclin.layers.tokens import GeneMatch

    model, genes = ScFoundation.random(width=768, depth=1, heads=12), np.arange(19_264)
    counts = sp.random(4, len(genes), 900 / len(genes), "csr", np.float32, 0)
    match = GeneMatch(genes, genes, 0)
    tokens = model.encode(match.restrict(counts), match, pd.DataFrame(index=range(4)))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        groups = batches(tokens.lengths, tokens=16384)
        pool_cells(model, tokens, groups, layers=["0", "1"], poolings=["mean"])
        seconds.append(time.perf_counter() - start)
    return float(_flop(tokens.lengths, 768, 1, 4 * 768).sum()) / min(seconds)


def _rates() -> dict[str, Any]:
    """Rates of this machine, measured now where they are not kept or are of another one."""
    file = cache_dir() / "rates.json"
    rates = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return rates if rates.get("machine") == _machine() else measure()


# Costs --------------------------------------------------------------------------------------------


def _flop(n: Any, width: int, depth: int, inner: int) -> Any:
    """Operations of ``n`` tokens through blocks of a width, and a width inside of each."""
    return depth * ((8 * width + 4 * inner) * n * width + 4 * n**2 * width)


def plan(task: str, dataset: str | Path, *, rates: dict[str, Any] | None = None) -> Cost:
    """Say what a task on a data set will cost.

    Parameters
    ----------
    task
        One of `TASKS`, or ``layers:MODEL`` with a model of the catalogue.
    dataset
        See `size_of`.
    rates
        Of `measure`; those kept for this machine, or measured now, when ``None``.

    Returns
    -------
    Cost
        Time runs from the file to the result. Without a GPU, layers run on the processor.

    Raises
    ------
    InputError, DataError
        Task or data set are not known; see `size_of`.

    Examples
    --------
    >>> rates = {"rank": [(1e6, 0.1), (2e6, 0.2)]}
    >>> cost = plan("rank", "10000x20000x1000", rates=rates)
    >>> [f"{seconds:.1f}" for seconds in cost.seconds]
    ['0.7', '1.4']
    """
    model = catalogue().models.get(task.removeprefix("layers:"))
    if task not in TASKS and model is None:
        known = [f"layers:{name}" for name in catalogue().models]
        raise unknown("task", task, [*TASKS, *known])
    size, rates = size_of(dataset), rates or _rates()
    if model is not None:
        return _layers(task, model, size, rates["flop_s"])
    does, seen = TASKS[task], np.minimum(size.seen, size.n_genes)
    n = min(size.n_cells, does.most)
    bent = min(n, _DRAWN) if does.pairs else n
    laws = [_laws(rates[task], bent * (1 if does.pairs else each), does.pairs) for each in seen]
    low, high = min(laws[0]) / _SPREAD * n / bent, max(laws[1]) * _SPREAD * n / bent
    pairs = 8 * does.pairs * bent**2 * _PAIRS
    held = (4e8 + 8 * size.n_cells * seen * does.copies + pairs).tolist()
    remedies = (f"It may not fit in memory: {does.remedy}.",) if held[1] > _memory() else ()
    return Cost(task, size, (float(low), float(high)), tuple(held), remedies=remedies)


def _laws(points: list[Range], size: float, pairs: bool) -> list[float]:
    """Seconds of so many stored counts, or cells, by each law through what was measured."""
    (w1, t1), (w2, t2) = points
    if pairs and size > w2:
        return [t2 * (size / w2) ** power for power in (1.5, 2)]
    slope = max((t2 - t1) / (w2 - w1), 0.5 * t2 / w2)
    return [max(t2 + slope * (size - w2), t2 * size / w2 / 2)]


def _layers(task: str, model: Any, size: Size, rate: float) -> Cost:
    slow = model.title.startswith("TranscriptFormer")
    seen, ends = np.minimum(size.seen, size.n_genes), np.array([1 / _SPREAD, _SPREAD])
    tokens, inner = np.minimum(seen, model.context) * 1.0, model.inner or 4 * model.width
    flop = size.n_cells * _flop(tokens, model.width, model.layers, inner)
    # Layers and the published embedding; one pooling or two.
    disk = 4 * size.n_cells * model.width * np.array([model.layers + 1, 2 * model.layers + 4])
    weights = 4 * (model.parameters or 12 * model.layers * model.width**2)
    batch = 4 * 16_384 * model.width * np.array([6, 20])
    memory = 6e8 + weights + batch + 8 * size.n_cells * seen
    hours = flop / 3.6e15 / np.array(GPU[::-1]) * (3 if slow else 1)
    lacking = []
    if memory[1] > _memory():
        lacking.append("It may not fit in memory: use --backed, or a smaller model.")
    if disk[1] > (free := shutil.disk_usage(cache_dir()).free):
        free_gb = f"{free / 1e9:,.3g} GB are free"
        lacking.append(f"It may not fit on the disk ({free_gb}): --keep few layers, one --pooling.")
    costs: list[Range] = [(low, high) for low, high in (flop / rate * ends, memory, disk, hours)]
    seconds, held, kept, gpu = costs
    return Cost(task, size, seconds, held, kept, gpu, tuple(lacking))
