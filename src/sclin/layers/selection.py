"""Choosing a layer without fooling oneself.

The best of many layers looks better than it is on the units that chose it.
Here some units (donors, perturbations, replicates) choose and the others report.
A score is a function of the units that may be used: it takes their positions and returns one
number per candidate, so that means over donors and correlations over pairs fit alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sclin import layers
from sclin.errors import InputError, nearest
from sclin.statistics import Comparison, paired_test

__all__ = [
    "BestDepth",
    "NestedChoice",
    "aggregate_ranks",
    "best_depth",
    "final_loss",
    "layer_arrays",
    "mean_score",
    "nested_choice",
    "pareto_front",
]

Score = Callable[[NDArray[np.intp]], NDArray[np.float64]]


def mean_score(units: pd.DataFrame | ArrayLike) -> Score:
    """Score that is a mean over units.

    Parameters
    ----------
    units
        Score of each unit, shape ``(n_units, n_candidates)``.

    Returns
    -------
    callable
        From positions of units (repeats allowed) to the mean of each candidate.

    Examples
    --------
    >>> mean_score([[1.0, 2.0], [3.0, 2.0]])([0, 1])
    array([2., 2.])
    """
    values = np.asarray(units, dtype=float)
    return lambda chosen: values[np.asarray(chosen)].mean(axis=0)


def layer_arrays(
    model: str, adata: Any, *, steps: int = 300, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Every layer of a model for these cells, by name.

    Parameters
    ----------
    model
        Name of a model with a layer store that holds these cells; ``tiny`` and ``tiny-random`` are
        trained (once, then cached) and extracted here.
    adata
        The cells, with counts.
    steps, seed
        Batches to train a tiny model on, and its seed.

    Returns
    -------
    dict
        ``layer:MODEL/i`` to array of shape ``(n_cells, n_features)``, rows in the AnnData's order.

    Raises
    ------
    ModelError
        When no store of the model holds these cells.
    """
    if model in ("tiny", "tiny-random"):
        network = layers.tiny.cached(
            adata, random_weights=model == "tiny-random", steps=steps, seed=seed, progress=False
        )
        store = layers.extract(network, adata, progress=False)
    else:
        store = layers.find_store(model, adata)
    rows = store.rows(adata)
    return {f"layer:{model}/{name}": store.read(name)[rows] for name in store.layers}


class NestedChoice(NamedTuple):
    """What an honest choice among candidates is worth.

    Attributes
    ----------
    value
        Mean score, on units held out, of the candidate chosen on the others.
    naive
        Score of the best candidate on the units that chose it.
    optimism
        ``naive - value``.
    best
        The naive choice, on all units.
    picks
        Share of the choices that fell on each candidate.
    """

    value: float
    naive: float
    optimism: float
    best: str
    picks: pd.Series


def _folds(
    n_units: int, n_splits: int, n_repeats: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Positions that choose and positions that report, for each fold of each repeat."""
    if not 2 <= n_splits <= n_units:
        raise InputError(
            f"{n_units} units cannot be cut into {n_splits} folds; choosing on some and reporting "
            f"on others needs between 2 and {n_units} folds, and two units or more."
        )
    rng = np.random.default_rng(seed)
    folds = []
    for _ in range(n_repeats):
        parts = np.array_split(rng.permutation(n_units), n_splits)
        folds += [
            (np.concatenate([p for p in parts if p is not part]), np.sort(part)) for part in parts
        ]
    return folds


def _scores(score: Score, units: NDArray[np.intp], n_candidates: int) -> NDArray[np.float64]:
    found = np.asarray(score(units), dtype=float)
    if found.shape != (n_candidates,):
        raise InputError(
            f"The score returned shape {found.shape} for {n_candidates} candidates; "
            "it must return one number each."
        )
    if not np.isfinite(found).all():
        raise InputError(
            f"The score of {units.size} units is not finite; keep more units in each fold."
        )
    return found


def nested_choice(
    score: Score,
    n_units: int,
    candidates: Sequence[str],
    *,
    n_splits: int | None = None,
    n_repeats: int = 1,
    seed: int = 0,
) -> NestedChoice:
    """Choose a candidate on some units and report its score on the others.

    Parameters
    ----------
    score
        From positions of units to one number per candidate, higher is better.
    n_units
        Number of units.
    candidates
        Names, in the order of the score.
    n_splits
        Folds; by default one unit is held out at a time.
        A score that needs several units at once, such as a correlation over pairs, needs fewer
        folds: two choose on one half and report on the other.
    n_repeats
        Random divisions into folds.
    seed
        Seed of the divisions.

    Returns
    -------
    NestedChoice

    Raises
    ------
    InputError
        When there are too few units, or a fold cannot be scored.

    References
    ----------
    Varma and Simon, BMC Bioinformatics 7, 91 (2006).

    Examples
    --------
    >>> found = nested_choice(mean_score([[0.9, 0.1], [0.8, 0.2]]), 2, ["deep", "early"])
    >>> round(found.value, 2), found.best, round(found.optimism, 2)
    (0.85, 'deep', 0.0)
    """
    names = list(candidates)
    everything = _scores(score, np.arange(n_units), len(names))
    picks, reported = [], []
    for choose, report in _folds(n_units, n_splits or n_units, n_repeats, seed):
        pick = int(_scores(score, choose, len(names)).argmax())
        picks.append(names[pick])
        reported.append(_scores(score, report, len(names))[pick])
    value, naive = float(np.mean(reported)), float(everything.max())
    shares = pd.Series(picks).value_counts(normalize=True).reindex(names, fill_value=0.0)
    return NestedChoice(
        value, naive, naive - value, names[int(everything.argmax())], shares.rename("share")
    )


class BestDepth(NamedTuple):
    """Depth of the best layer, its bootstrap interval, and how often each depth won."""

    depth: float
    low: float
    high: float
    shares: pd.Series
    n: int


def best_depth(
    score: Score,
    n_units: int,
    depths: ArrayLike,
    *,
    n_boot: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> BestDepth:
    """Bootstrap interval of the depth at which a profile has its top.

    Parameters
    ----------
    score
        From positions of units to one number per layer.
    n_units
        Number of units to resample.
    depths
        Relative depth of each layer, 0 to 1.
    n_boot, level, seed
        Resamples, coverage, seed.

    Returns
    -------
    BestDepth
        ``shares`` is indexed by depth; resamples that cannot be scored are left out.

    Examples
    --------
    >>> best_depth(mean_score([[0.1, 0.9], [0.2, 0.8]]), 2, [0.0, 1.0])[:3]
    (1.0, 1.0, 1.0)
    """
    places = np.asarray(depths, dtype=float)
    rng = np.random.default_rng(seed)
    top = int(_scores(score, np.arange(n_units), places.size).argmax())
    draws = (np.asarray(score(rng.integers(n_units, size=n_units))) for _ in range(n_boot))
    won = np.array([places[d.argmax()] for d in draws if np.isfinite(d).all()])
    if not won.size:
        raise InputError(f"No resample of the {n_units} units could be scored; bring more units.")
    # A depth that won must stand in the interval as it is: no interpolation between layers.
    tail = (1 - level) / 2
    low, high = np.quantile(won, [tail, 1 - tail], method="nearest")
    shares = pd.Series(won).value_counts(normalize=True).reindex(np.unique(places), fill_value=0.0)
    return BestDepth(float(places[top]), float(low), float(high), shares.rename("share"), n_units)


def final_loss(
    units: pd.DataFrame, final: str, candidates: Sequence[str] | None = None, *, seed: int = 0
) -> Comparison:
    """Paired test of the layer chosen on the other units against the final one.

    Each unit is scored by the layer that the remaining units choose, so the gain is not that of a
    winner picked with hindsight.

    Parameters
    ----------
    units
        Score of each unit: index units, columns candidates.
    final
        The column to beat.
    candidates
        Columns to choose from; all by default.
    seed
        Seed of the sign flips and of the interval.

    Returns
    -------
    Comparison
        Positive when the chosen layer is better; with n units the smallest p value is
        ``2 ** (1 - n)``, so four donors can never show a significant loss.

    Raises
    ------
    InputError
        When the final layer is not a column, or there are fewer than three units.
    """
    if final not in units:
        raise InputError(
            f"No candidate is called {final!r}; there are {', '.join(map(str, units.columns))}."
            + nearest(final, map(str, units.columns))
        )
    if len(units) < 3:
        raise InputError(
            f"{len(units)} units cannot choose a layer and test it; bring three or more."
        )
    table = units if candidates is None else units[list(candidates)]
    values = table.to_numpy(dtype=float)
    others = (values.sum(axis=0) - values) / (len(values) - 1)
    chosen = values[np.arange(len(values)), others.argmax(axis=1)]
    return paired_test(chosen, units[final].to_numpy(dtype=float), seed=seed)


def aggregate_ranks(
    scores: Mapping[str, tuple[Score, int]],
    candidates: Sequence[str],
    *,
    n_boot: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean rank of each candidate over tasks, with an interval over the units of every task.

    Parameters
    ----------
    scores
        By task: the score and its number of units.
    candidates
        Names, in the order of every score.
    n_boot, level, seed
        Resamples, coverage, seed.

    Returns
    -------
    DataFrame
        Index candidate, best first; columns ``mean_rank`` (1 is best), ``low``, ``high``,
        ``top_share`` (share of the resamples in which it ranks first) and one column per task.

    Examples
    --------
    >>> score = mean_score([[0.9, 0.1], [0.8, 0.2]])
    >>> aggregate_ranks({"a": (score, 2), "b": (score, 2)}, ["x", "y"])["mean_rank"].tolist()
    [1.0, 2.0]
    """
    names = list(candidates)
    rng = np.random.default_rng(seed)

    def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(pd.Series(-values).rank(), dtype=np.float64)

    by_task = {
        task: ranks(_scores(score, np.arange(n), len(names))) for task, (score, n) in scores.items()
    }
    draws = []
    for _ in range(n_boot):
        drawn = [np.asarray(s(rng.integers(n, size=n))) for s, n in scores.values()]
        if all(np.isfinite(d).all() for d in drawn):
            draws.append(np.mean([ranks(d) for d in drawn], axis=0))
    table = pd.DataFrame({"mean_rank": np.mean(list(by_task.values()), axis=0)}, index=names)
    tail = (1 - level) / 2
    table["low"], table["high"] = np.quantile(draws, [tail, 1 - tail], axis=0)
    table["top_share"] = np.bincount(np.argmin(draws, axis=1), minlength=len(names)) / len(draws)
    for task, values in by_task.items():
        table[task] = values
    return table.rename_axis("representation").sort_values("mean_rank", kind="stable")


def pareto_front(score: ArrayLike, speed: ArrayLike) -> NDArray[np.bool_]:
    """Candidates that no other beats both in score and in speed.

    Parameters
    ----------
    score, speed
        Higher is better, shape ``(n_candidates,)``.

    Returns
    -------
    ndarray of bool
        True on the front; equal candidates share it.

    Examples
    --------
    >>> pareto_front([0.9, 0.8, 0.7], [1.0, 5.0, 2.0])
    array([ True,  True, False])
    """
    a, b = np.asarray(score, dtype=float), np.asarray(speed, dtype=float)
    beaten = (
        (a[None] >= a[:, None])
        & (b[None] >= b[:, None])
        & ((a[None] > a[:, None]) | (b[None] > b[:, None]))
    )
    return np.asarray(~beaten.any(axis=1))
