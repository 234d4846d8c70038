"""Intervals, paired tests and null controls.

The functions know nothing of genes or models: they take labels, predictions and units (donors,
species, perturbations), and return numbers with an interval and an n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names, precision_recall_fscore_support
from sklearn.utils import gen_batches
from sklearn.utils.metaestimators import available_if

from sclin.errors import InputError, unknown

_AT_ONCE = 1 << 20  # counts of units and outcomes drawn in one call


def permuted(y: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0) -> NDArray[Any]:
    """Permute labels: the null control of every classification.

    Parameters
    ----------
    y
        Labels, shape ``(n_cells,)``.
    groups
        When given, labels are permuted within each group (donor) only.
    seed
        Seed of the permutation.

    Returns
    -------
    ndarray
        The same labels in another order.
    """
    labels, rng = np.array(y, copy=True), np.random.default_rng(seed)
    values = np.zeros(len(labels)) if groups is None else np.asarray(groups)
    for group in np.unique(values):
        rows = np.flatnonzero(values == group)
        labels[rows] = labels[rng.permutation(rows)]
    return labels


def per_class_f1(y_true: ArrayLike, y_pred: ArrayLike) -> pd.DataFrame:
    """Precision, recall, F1 and number of cells of each class.

    Parameters
    ----------
    y_true, y_pred
        True and predicted class of each cell, shape ``(n_cells,)``.

    Returns
    -------
    DataFrame
        Index ``class``; columns ``precision``, ``recall``, ``f1``, ``n``.
    """
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    names = np.unique(np.concatenate([true, pred]))
    columns = precision_recall_fscore_support(true, pred, labels=names, zero_division=0)
    table = pd.DataFrame(columns, index=["precision", "recall", "f1", "n"], columns=names).T
    return table.astype({"n": int}).rename_axis("class")


class Interval(NamedTuple):
    """A number, its bootstrap interval, and the number of units it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"


class Comparison(NamedTuple):
    """A paired difference, its interval, its p value, and the units that it rests on."""

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    unit: str = ""

    @property
    def proven(self) -> bool:
        """Whether the interval leaves out zero and the p value is below 0.05."""
        return self.p_value < 0.05 and not self.ci_low <= 0 <= self.ci_high


def _ends(draws: NDArray[np.floating]) -> tuple[float, float]:
    """Ends of a 95 % percentile interval; draws that could not be scored are left out."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _takes_axis(statistic: Callable[..., float]) -> bool:
    """Whether a statistic can score many resamples in one call, as `numpy.mean` can."""
    with suppress(ValueError):  # some functions of C do not tell
        return "axis" in signature(statistic).parameters
    return False


def bootstrap(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of any statistic of paired arrays.

    Parameters
    ----------
    statistic
        Function of the arrays that returns one number; it may return NaN for a resample that
        it cannot score, which is then left out of the interval. One with an option ``axis``
        scores many resamples in one call.
    *arrays
        Arrays of one length, resampled together along their first axis.
    groups
        Unit of resampling of each row (donor, species, perturbation); ``None`` resamples rows.
    n_boot
        Number of resamples.
    seed
        Seed of the resampling.

    Returns
    -------
    Interval
        ``n`` is the number of groups, or of rows without groups.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

    Examples
    --------
    >>> interval = bootstrap(np.mean, [1.0, 2.0, 3.0, 4.0], seed=0)
    >>> interval.value, interval.n
    (2.5, 4)
    """
    columns = [np.asarray(a) for a in arrays]
    size = len(columns[0])
    if not size or any(len(c) != size for c in columns):
        lengths = [len(c) for c in columns]
        raise InputError(f"Resampled arrays have {lengths} rows; they need one length above zero.")
    values = np.arange(size) if groups is None else np.asarray(groups)
    if values.shape != (size,):
        raise InputError(f"groups has shape {values.shape}; {size} rows need {size} values.")
    units = list(pd.Series(values).groupby(values).indices.values())
    rng, n, draws = np.random.default_rng(seed), len(units), np.empty(n_boot)
    at_once = groups is None and all(c.ndim == 1 for c in columns) and _takes_axis(statistic)
    for at in gen_batches(n_boot, 1 + _AT_ONCE // size if at_once else 1):
        chosen = rng.integers(n, size=(len(draws[at]), n))
        if at_once:
            draws[at] = statistic(*(c[chosen] for c in columns), axis=1)
        else:
            rows = chosen[0] if groups is None else np.concatenate([units[i] for i in chosen[0]])
            draws[at] = statistic(*(c[rows] for c in columns))
    low, high = _ends(draws)
    return Interval(float(statistic(*columns)), low, high, len(units))


def spearman(rows: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation of each row with the target, over the row's finite values.

    Parameters
    ----------
    rows, target
        Shapes ``(n_rows, n)`` and ``(n,)``, or ``(n_rows, n)`` for a target of each row.

    Returns
    -------
    ndarray
        Shape ``(n_rows,)``; NaN where fewer than three values are finite, 0 where one side is
        constant: a constant orders nothing.

    Examples
    --------
    >>> spearman([[1, 2, 3], [3, 2, np.inf]], [1, 2, 3]).round(2)
    array([ 1., nan])
    """
    X = np.atleast_2d(np.asarray(rows, dtype=float))
    goal = np.broadcast_to(np.asarray(target, dtype=float), X.shape)
    at = np.isfinite(X) & np.isfinite(goal)
    # What does not count is ranked last, where it moves nothing.
    ranks = (rankdata(np.where(at, side, np.inf), axis=1) for side in (X, goal))
    n = at.sum(axis=1)
    a, b = (np.where(at, side - (n[:, None] + 1) / 2, 0.0) for side in ranks)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    found = np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(X)), where=norm > 0)
    return np.where(n < 3, np.nan, found)


# Scores of labels ------------------------------------------------------------------------------


def _tally(
    y_true: ArrayLike, predictions: Sequence[ArrayLike], groups: ArrayLike | None
) -> tuple[NDArray[np.integer], NDArray[np.integer], int]:
    """Count the outcomes (true, predicted, ...) of each unit.

    A unit is a donor, or a true class where there are no donors.
    Returns counts (units, outcomes), the class codes of each outcome (labels, outcomes), and the
    number of classes.
    """
    labels = [np.asarray(y_true), *(np.asarray(p) for p in predictions)]
    if len({c.shape for c in labels}) != 1 or labels[0].size == 0:
        raise InputError(
            f"True and predicted labels have shapes {[c.shape for c in labels]}; "
            "they need one value per cell, and at least one cell."
        )
    names, codes = np.unique(np.concatenate(labels), return_inverse=True)
    outcomes, outcome = np.unique(codes.reshape(len(labels), -1), axis=1, return_inverse=True)
    of = labels[0] if groups is None else groups  # without donors: cells within their class
    unit = np.unique(np.asarray(of).astype(str), return_inverse=True)[1]
    counts = np.zeros((unit.max() + 1, outcomes.shape[1]), dtype=int)
    np.add.at(counts, (unit, outcome.ravel()), 1)
    return counts, outcomes, names.size


def _resampled(
    counts: NDArray[np.integer], n_boot: int, rng: np.random.Generator, draw_units: bool
) -> NDArray[np.floating]:
    """Resample units, or take each once, then cells within each; shape (n_boot, outcomes)."""
    n, sizes = len(counts), counts.sum(axis=1)
    shares, draws = counts / sizes[:, None], np.empty((n_boot, counts.shape[1]))
    for at in gen_batches(n_boot, 1 if draw_units else 1 + _AT_ONCE // counts.size):
        chosen = rng.integers(n, size=n) if draw_units else slice(None)
        size = (len(draws[at]), n)
        draws[at] = rng.multinomial(sizes[chosen], shares[chosen], size=size).sum(axis=1)
    return draws


def _mean_share(part: NDArray[np.floating], of: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean of ``part / of`` over the classes of which there is anything."""
    return (part / np.maximum(of, 1)).sum(-1) / np.maximum((of > 0).sum(-1), 1)


#: Scores that are functions of each class's hits, true cells and predicted cells, shape (..., k).
SCORES: dict[str, Callable[..., NDArray[np.floating]]] = {
    "accuracy": lambda hits, true, said: hits.sum(-1) / np.maximum(true.sum(-1), 1),
    "balanced_accuracy": lambda hits, true, said: _mean_share(hits, true),
    "f1_macro": lambda hits, true, said: _mean_share(2 * hits, true + said),
}


def _totals(outcomes: NDArray[np.integer], which: int, k: int) -> list[NDArray[np.floating]]:
    """Matrices that turn counts of outcomes into hits, true and predicted cells of each class."""
    true, said = np.eye(k)[outcomes[0]], np.eye(k)[outcomes[which]]
    return [true * said, true, said]


def score_interval(
    metric: str, y_true: ArrayLike, y_pred: ArrayLike, *, groups: ArrayLike | None = None,
    n_boot: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Score pooled over cells, with a bootstrap interval over donors and cells.

    Parameters
    ----------
    metric
        One of `SCORES`; macro F1 runs over the union of true and predicted classes.
    y_true, y_pred
        True and predicted class of each cell, shape ``(n_cells,)``.
    groups
        Donor of each cell; donors are resampled first, then cells within each. Without donors
        cells are resampled within their true class, so that no class is lost.
        With few donors the interval is too narrow rather than too wide: read it with their number.
    n_boot, seed
        Number of resamples, seed.

    Returns
    -------
    Interval
        ``n`` is the number of donors, or of cells without donors.

    Examples
    --------
    >>> score_interval("f1_macro", ["a", "a", "b"], ["a", "a", "b"]).value
    1.0
    """
    return _intervals([metric], y_true, y_pred, groups, n_boot, seed)[metric]


def _intervals(
    metrics: Sequence[str], y_true: ArrayLike, y_pred: ArrayLike, groups: ArrayLike | None,
    n_boot: int, seed: int,
) -> dict[str, Interval]:  # fmt: skip
    """Intervals of several scores, all from the same resamples."""
    counts, outcomes, k = _tally(y_true, [y_pred], groups)
    draws = _resampled(counts, n_boot, np.random.default_rng(seed), groups is not None)
    drawn, whole = ([x @ p for p in _totals(outcomes, 1, k)] for x in (draws, counts.sum(axis=0)))
    n = len(counts) if groups is not None else counts.sum()
    scores = {metric: SCORES[metric] for metric in metrics}
    return {m: Interval(float(f(*whole)), *_ends(f(*drawn)), n) for m, f in scores.items()}


def score_difference(
    metric: str, y_true: ArrayLike, a: ArrayLike, b: ArrayLike, *, groups: ArrayLike | None = None,
    n_boot: int = 1000, n_permutations: int = 10_000, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Score of predictions a less that of b on the same cells, with interval and p value.

    The interval resamples as that of `score_interval`. The p value swaps a and b within whole
    donors (or cells, without donors), which under the null hypothesis changes nothing.

    Parameters
    ----------
    metric
        One of `SCORES`.
    y_true, a, b
        True class and the two predictions of each cell, shape ``(n_cells,)``.
    groups
        Donor of each cell.
    n_boot, n_permutations, seed
        Resamples, random swaps (all are listed when there are no more), seed.

    Returns
    -------
    Comparison
        Positive when a is better. With n donors the smallest possible p value is 2 ** (1 - n).
    """
    counts, outcomes, k = _tally(y_true, [a, b], groups)
    of_a, of_b = _totals(outcomes, 1, k), _totals(outcomes, 2, k)
    rng = np.random.default_rng(seed)

    def difference(draws: NDArray[Any], swapped: NDArray[Any]) -> NDArray[Any]:
        kept = draws - swapped
        one = SCORES[metric](*(kept @ p + swapped @ q for p, q in zip(of_a, of_b, strict=True)))
        two = SCORES[metric](*(kept @ q + swapped @ p for p, q in zip(of_a, of_b, strict=True)))
        return one - two

    draws = _resampled(counts, n_boot, rng, groups is not None)
    low, high = _ends(difference(draws, np.zeros_like(draws)))
    total = counts.sum(axis=0).astype(float)
    value = float(difference(total, np.zeros_like(total)))
    if groups is None:
        swapped = rng.binomial(total.astype(int), 0.5, size=(n_permutations, total.size))
        exact, n = False, int(total.sum())
    else:
        signs, exact = _sign_flips(len(counts), n_permutations, rng)
        swapped, n = (signs < 0) @ counts, len(counts)
    p_value = _p_value(difference(total, swapped), value, exact)
    return Comparison(value, low, high, p_value, n)


def find_scorer(name: str) -> Any:
    """Find a classification scorer of scikit-learn, or name the nearest one."""
    if name not in get_scorer_names():
        raise unknown("scorer of scikit-learn", name, get_scorer_names())
    return get_scorer(name)


class _Told(ClassifierMixin, BaseEstimator):
    """A classifier that repeats known predictions, so that any scorer can read them."""

    def __init__(self, y_pred: Any, proba: pd.DataFrame | None) -> None:
        self.y_pred = y_pred
        self.proba = proba
        self.classes_ = np.unique(y_pred) if proba is None else proba.columns.to_numpy()

    def predict(self, rows: Any) -> Any:
        return self.y_pred[rows]

    @available_if(lambda told: told.proba is not None)
    def predict_proba(self, rows: Any) -> Any:
        return np.asarray(self.proba)[rows]


def scored(
    predictions: pd.DataFrame, proba: pd.DataFrame | None, scorers: Mapping[str, Any], *,
    unit: str | None, n_boot: int = 1000, seed: int = 0,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Score predictions by any scorers of scikit-learn.

    Parameters
    ----------
    predictions
        Columns ``y_true``, ``y_pred``, ``row``, ``fold`` and ``group``.
    proba
        Class probabilities of the same rows, if the head gives them.
    scorers
        Scorers by name.
    unit
        What a group is, such as ``donor``; without it, cells are resampled.
    n_boot, seed
        Resamples (a fifth for scorers outside of `SCORES`) and seed.

    Yields
    ------
    dict
        Fields of a row: ``metric``, ``value``, ``split`` and ``unit``. Scores are pooled over
        disjoint folds; of folds that overlap, mean and standard deviation are given.
    """
    y, told = predictions["y_true"].to_numpy(), _Told(predictions["y_pred"].to_numpy(), proba)
    folds = predictions.reset_index(drop=True).groupby("fold", sort=False).indices.values()
    draws: dict[str, Any] = {"groups": predictions["group"] if unit else None, "seed": seed}
    disjoint = not predictions["row"].duplicated().any()
    ours = [metric for metric in scorers if metric in SCORES and disjoint]
    intervals = _intervals(ours, y, told.y_pred, draws["groups"], n_boot, seed) if ours else {}
    for metric, scorer in scorers.items():

        def score(at: Any, scorer: Any = scorer) -> float:
            try:
                return float(scorer(told, at, y[at]))
            except ValueError:  # a resample lacks a class
                return np.nan

        common: dict[str, Any] = {"metric": metric, "split": "pooled", "unit": unit or "cell"}
        if proba is None and "predict_proba" in scorer._response_method:
            yield common | {"value": np.nan, "note": "the head gives no probabilities"}
        elif not disjoint:
            values = [score(at) for at in folds]
            common |= {"split": "folds", "n": len(values), "unit": "fold"}
            yield common | {"value": float(np.mean(values))}
            yield common | {"value": float(np.std(values, ddof=1)), "spread": "sd over folds"}
        elif metric in intervals:
            yield common | {"value": intervals[metric]}
        else:
            every = np.arange(len(y))
            yield common | {"value": bootstrap(score, every, n_boot=n_boot // 5, **draws)}


def _sign_flips(
    n: int, n_permutations: int, rng: np.random.Generator
) -> tuple[NDArray[np.floating], bool]:
    """Signs of n units, shape (permutations, n): all of them when there are not too many."""
    if 2**n <= n_permutations:
        return np.array(list(product((1.0, -1.0), repeat=n))), True
    return rng.choice((-1.0, 1.0), size=(n_permutations, n)), False


def _p_value(null: NDArray[np.floating], value: float, exact: bool) -> float:
    extreme = int((np.abs(null) >= abs(value) * (1 - 1e-12) - 1e-12).sum())
    return extreme / len(null) if exact else (extreme + 1) / (len(null) + 1)


def paired_test(
    a: ArrayLike, b: ArrayLike, *, n_permutations: int = 10_000, seed: int = 0
) -> Comparison:
    """Sign-flip permutation test of the mean difference between paired scores.

    The unit is whatever was scored once: a tissue, a donor, a species, a perturbation.
    Folds that share training cells are not such a unit.

    Parameters
    ----------
    a, b
        Scores of the two methods, shape ``(n_units,)``.
    n_permutations
        Number of random sign flips; all are listed when there are no more than this many.
    seed
        Seed of the bootstrap interval and of random flips.

    Returns
    -------
    Comparison
        With n units the smallest possible p value is 2 ** (1 - n).

    Examples
    --------
    >>> paired_test([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).p_value
    0.25
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if gaps.ndim != 1 or gaps.size < 2 or not np.isfinite(gaps).all():
        found = f"shape {gaps.shape}, {int((~np.isfinite(gaps)).sum())} missing"
        raise InputError(f"A paired test needs two or more finite pairs ({found}); drop the rest.")
    signs, exact = _sign_flips(gaps.size, n_permutations, np.random.default_rng(seed))
    p_value = _p_value(signs @ gaps, float(gaps.sum()), exact)
    interval = bootstrap(np.mean, gaps, seed=seed)
    return Comparison(float(gaps.mean()), interval.low, interval.high, p_value, gaps.size)


class NestedChoice(NamedTuple):
    """What an honest choice among candidates is worth.

    Attributes
    ----------
    value
        Mean score, on units held out, of the candidate chosen on the others.
    naive
        Score of the best candidate on the units that chose it; ``naive - value`` is its optimism.
    best
        That candidate.
    picks
        Share of the choices that fell on each candidate.
    held_out
        One row a fold, named for the units held out: ``choice`` and its ``score`` on them.
    """

    value: float
    naive: float
    best: str
    picks: pd.Series
    held_out: pd.DataFrame


def nested_choice(
    scores: pd.DataFrame,
    *,
    score: Callable[[NDArray[np.intp]], ArrayLike] | None = None,
    n_splits: int | None = None,
    n_repeats: int = 1,
    seed: int = 0,
) -> NestedChoice:
    """Choose a candidate on some units and judge it on the others.

    Parameters
    ----------
    scores
        Score of each unit (index) by each candidate (columns), higher is better.
    score
        From positions of units to one number per candidate; the mean of their rows by default.
        A correlation over pairs of units, say, goes here.
    n_splits
        Folds; by default one unit is held out at a time. A score that needs several units at
        once needs fewer: two choose on one half and judge on the other.
    n_repeats, seed
        Random divisions into folds, and their seed.

    Raises
    ------
    InputError
        When there are too few units, or a fold cannot be scored.

    References
    ----------
    Varma and Simon, BMC Bioinformatics 7, 91 (2006).

    Examples
    --------
    >>> found = nested_choice(pd.DataFrame({"deep": [0.9, 0.8], "early": [0.1, 0.2]}))
    >>> round(found.value, 2), found.best
    (0.85, 'deep')
    """
    names, n = list(scores.columns), len(scores)
    folds = n_splits or n
    if not 2 <= folds <= n:
        raise InputError(f"{n} units cannot be cut into {folds} folds; 2 to {n} are possible.")
    values = scores.to_numpy(dtype=float)

    def judged(units: NDArray[np.intp]) -> NDArray[np.float64]:
        found = np.asarray(score(units) if score else values[units].mean(axis=0), dtype=float)
        if found.shape != (len(names),) or not np.isfinite(found).all():
            raise InputError(
                f"The score of {units.size} units is {found}; it must be one finite number for "
                f"each of {len(names)} candidates. Keep more units in each fold."
            )
        return found

    everything = judged(np.arange(n))
    rng = np.random.default_rng(seed)
    rows, units = [], []
    for _ in range(n_repeats):
        parts = np.array_split(rng.permutation(n), folds)
        for i, part in enumerate(parts):
            pick = int(judged(np.concatenate(parts[:i] + parts[i + 1 :])).argmax())
            rows.append((names[pick], judged(np.sort(part))[pick]))
            units.append(", ".join(map(str, scores.index[np.sort(part)])))
    held_out = pd.DataFrame(rows, index=units, columns=["choice", "score"])
    picks = held_out["choice"].value_counts(normalize=True).reindex(names, fill_value=0.0)
    value, best = float(held_out["score"].mean()), names[int(everything.argmax())]
    return NestedChoice(value, float(everything.max()), best, picks, held_out)
