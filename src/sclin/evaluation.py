"""How a representation is judged: splits, metrics, intervals, paired tests, controls, results.

The functions here know nothing of genes or models.
They take labels, predictions and groups (donors, species, perturbations), and they return numbers
with an interval and an n.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from sclin.errors import InputError, nearest

__all__ = [
    "COLUMNS",
    "Interval",
    "PairedTest",
    "Split",
    "bootstrap",
    "calibration_curve",
    "classification_metrics",
    "leave_one_donor_out",
    "load_results",
    "macro_f1_difference",
    "macro_f1_interval",
    "paired_test",
    "per_class_f1",
    "result",
    "results_table",
    "save_results",
    "shuffled",
    "split_cells",
    "split_donors",
]


# Splits ------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Row numbers of the training and the test part, and the name of the test part."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    name: str


def _labels(y: ArrayLike, name: str = "y") -> NDArray[Any]:
    """Labels as a one-dimensional array without missing values and with two classes or more."""
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise InputError(f"{name} has {labels.ndim} dimensions; labels are one value per cell.")
    missing = int(pd.isna(labels).sum())
    if missing:
        raise InputError(
            f"{name} lacks a value for {missing} of {labels.size} cells; drop these cells first."
        )
    if np.unique(labels).size < 2:
        raise InputError(
            f"{name} holds one class only ({str(labels[0])!r} in all {labels.size} cells); "
            "a classifier needs at least two."
            if labels.size
            else f"{name} is empty; give at least two classes of cells."
        )
    return labels


def split_cells(
    y: ArrayLike, *, n_splits: int = 5, test_size: float | None = None, seed: int = 0
) -> list[Split]:
    """Split cells at random, each class in proportion.

    Cells of one donor land on both sides, so the score answers how well the method knows these
    donors and not how well it does on a new one.

    Parameters
    ----------
    y
        Class of each cell, shape ``(n_cells,)``.
    n_splits
        Number of folds, or of repeats when ``test_size`` is given.
    test_size
        Share of cells in the test part; ``None`` gives disjoint folds.
    seed
        Seed of the shuffle.

    Returns
    -------
    list of Split

    Raises
    ------
    InputError
        When a class has fewer cells than there are folds.
    """
    labels = _labels(y)
    names, counts = np.unique(labels, return_counts=True)
    need = n_splits if test_size is None else 2
    if counts.min() < need:
        rare = str(names[counts.argmin()])
        raise InputError(
            f"Class {rare!r} has {counts.min()} cells, fewer than the {need} that "
            f"{n_splits} splits need; drop rare classes or lower n_splits."
        )
    if test_size is None:
        splitter: Any = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
        label = "fold"
    else:
        splitter = StratifiedShuffleSplit(n_splits, test_size=test_size, random_state=seed)
        label = "repeat"
    return [
        Split(train, test, f"{label} {i}")
        for i, (train, test) in enumerate(splitter.split(np.zeros(labels.size), labels))
    ]


def _groups(groups: ArrayLike, n: int, name: str = "donors") -> NDArray[Any]:
    values = np.asarray(groups)
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape}; {n} cells need {n} values.")
    missing = int(pd.isna(values).sum())
    if missing:
        raise InputError(
            f"{name} lacks a value for {missing} of {n} cells; drop these cells first."
        )
    if np.unique(values).size < 2:
        raise InputError(
            f"{name} holds one value only ({str(values[0])!r}); holding a donor out needs two "
            "or more. Split by cells instead and say so."
        )
    return values


def split_donors(
    y: ArrayLike, donors: ArrayLike, *, n_splits: int = 5, seed: int = 0
) -> list[Split]:
    """Split whole donors into folds, classes balanced as far as donors allow.

    Parameters
    ----------
    y
        Class of each cell, shape ``(n_cells,)``.
    donors
        Donor of each cell, shape ``(n_cells,)``.
    n_splits
        Number of folds; at most the number of donors.
    seed
        Seed of the shuffle.

    Returns
    -------
    list of Split

    Raises
    ------
    InputError
        When there are fewer donors than folds.
    """
    labels = _labels(y)
    values = _groups(donors, labels.size)
    n_donors = np.unique(values).size
    if n_donors < n_splits:
        raise InputError(
            f"{n_donors} donors cannot fill {n_splits} folds; lower n_splits to {n_donors} "
            "or leave one donor out."
        )
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    return [
        Split(train, test, "donors " + ", ".join(map(str, np.unique(values[test]))))
        for train, test in splitter.split(np.zeros(labels.size), labels, values)
    ]


def leave_one_donor_out(donors: ArrayLike) -> list[Split]:
    """Hold out each donor once.

    Parameters
    ----------
    donors
        Donor of each cell, shape ``(n_cells,)``.

    Returns
    -------
    list of Split
        One per donor, named after the donor held out.

    Examples
    --------
    >>> [split.name for split in leave_one_donor_out(["a", "a", "b", "c"])]
    ['a', 'b', 'c']
    """
    values = np.asarray(donors)
    values = _groups(values, values.size)
    return [
        Split(train, test, str(values[test[0]]))
        for train, test in LeaveOneGroupOut().split(np.zeros(values.size), groups=values)
    ]


def shuffled(y: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0) -> NDArray[Any]:
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
    labels = np.array(y, copy=True)
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permutation(labels)
    values = np.asarray(groups)
    for group in np.unique(values):
        rows = np.flatnonzero(values == group)
        labels[rows] = labels[rng.permutation(rows)]
    return labels


# Metrics -----------------------------------------------------------------------------------------


def classification_metrics(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    proba: ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
) -> dict[str, float]:
    """Macro F1 and its friends.

    Macro means run over the union of true and predicted classes, as scikit-learn does.

    Parameters
    ----------
    y_true, y_pred
        True and predicted class of each cell, shape ``(n_cells,)``.
    proba
        Class probabilities, shape ``(n_cells, n_classes)``; adds ``auroc`` (one against the rest,
        macro mean over the classes present) and ``log_loss`` (nats).
    classes
        Names of the columns of ``proba``.

    Returns
    -------
    dict
        ``macro_f1``, ``weighted_f1``, ``macro_precision``, ``macro_recall``, ``accuracy``,
        ``balanced_accuracy`` and, with ``proba``, ``auroc`` and ``log_loss``.
    """
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    metrics = {
        "macro_f1": f1_score(true, pred, average="macro", zero_division=0),
        "weighted_f1": f1_score(true, pred, average="weighted", zero_division=0),
        "macro_precision": precision_score(true, pred, average="macro", zero_division=0),
        "macro_recall": recall_score(true, pred, average="macro", zero_division=0),
        "accuracy": accuracy_score(true, pred),
        # The mean recall over the true classes; the macro recall also counts classes never true.
        "balanced_accuracy": recall_score(
            true, pred, labels=np.unique(true), average="macro", zero_division=0
        ),
    }
    if proba is not None:
        if classes is None:
            raise InputError("proba came without classes; name its columns.")
        probabilities = np.asarray(proba, dtype=float)
        areas = [
            roc_auc_score(true == c, probabilities[:, j])
            for j, c in enumerate(classes)
            if 0 < (true == c).sum() < true.size
        ]
        metrics["auroc"] = float(np.mean(areas)) if areas else float("nan")
        known = np.isin(true, np.asarray(classes))
        metrics["log_loss"] = log_loss(true[known], probabilities[known], labels=list(classes))
    return {name: float(value) for name, value in metrics.items()}


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
    table = pd.DataFrame(
        dict(zip(("precision", "recall", "f1", "n"), columns, strict=True)), index=names
    )
    return table.rename_axis("class")


def calibration_curve(
    y_true: ArrayLike, proba: ArrayLike, classes: Sequence[Any], *, n_bins: int = 10
) -> pd.DataFrame:
    """Compare the confidence of the predicted class with how often it is right.

    Parameters
    ----------
    y_true
        True class of each cell, shape ``(n_cells,)``.
    proba
        Class probabilities, shape ``(n_cells, n_classes)``.
    classes
        Names of the columns of ``proba``.
    n_bins
        Number of bins of equal width on [0, 1].

    Returns
    -------
    DataFrame
        One row per bin that holds cells: ``confidence``, ``accuracy``, ``n``.
        ``attrs["ece"]`` is the expected calibration error, the mean absolute gap over cells.
    """
    probabilities = np.asarray(proba, dtype=float)
    confidence = probabilities.max(axis=1)
    right = np.asarray(classes)[probabilities.argmax(axis=1)] == np.asarray(y_true)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    table = (
        pd.DataFrame({"bin": bins, "confidence": confidence, "accuracy": right.astype(float)})
        .groupby("bin")
        .agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), n=("bin", "size"))
        .reset_index(drop=True)
    )
    gap = (table["confidence"] - table["accuracy"]).abs()
    table.attrs["ece"] = float(np.average(gap, weights=table["n"]))
    return table


# Intervals and tests -----------------------------------------------------------------------------


class Interval(NamedTuple):
    """A number, its bootstrap interval, and the number of units it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"


class PairedTest(NamedTuple):
    """A mean paired difference, its interval, a two-sided permutation p value and n."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def _quantiles(draws: ArrayLike, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(np.asarray(draws, dtype=float), [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of any statistic of paired arrays.

    Parameters
    ----------
    statistic
        Function of the arrays that returns one number; it may return NaN for a resample that
        it cannot score, which is then left out of the interval.
    *arrays
        Arrays of one length, resampled together along their first axis.
    groups
        Unit of resampling of each row (donor, species, perturbation); ``None`` resamples rows.
    n_boot
        Number of resamples.
    level
        Coverage of the interval.
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
    sizes = {a.shape[0] for a in columns}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(
            f"The arrays to resample have {sorted(sizes)} rows; they need one length above zero."
        )
    size = sizes.pop()
    rng = np.random.default_rng(seed)
    if groups is None:
        units = [np.array([i]) for i in range(size)]
    else:
        values = np.asarray(groups)
        if values.shape != (size,):
            raise InputError(f"groups has shape {values.shape}; {size} rows need {size} values.")
        units = [np.flatnonzero(values == g) for g in np.unique(values)]
    draws = np.empty(n_boot)
    for b in range(n_boot):
        chosen = rng.integers(len(units), size=len(units))
        rows = chosen if groups is None else np.concatenate([units[i] for i in chosen])
        draws[b] = statistic(*(a[rows] for a in columns))
    low, high = _quantiles(draws, level)
    return Interval(float(statistic(*columns)), low, high, len(units))


def _f1_from_confusion(confusion: NDArray[np.floating]) -> NDArray[np.floating]:
    """Macro F1 over the classes present, for confusion counts of shape (..., true, predicted)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    total = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    present = total > 0
    f1 = np.divide(2 * hits, total, out=np.zeros(total.shape), where=present)
    return np.asarray(f1.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def _resampled_counts(
    counts: NDArray[np.integer], rng: np.random.Generator, n_boot: int
) -> NDArray[np.floating]:
    """Resample groups, then cells within each, for counts of shape (groups, outcomes)."""
    n_groups, n_outcomes = counts.shape
    sizes = counts.sum(axis=1)
    shares = counts / sizes[:, None]
    draws = np.zeros((n_boot, n_outcomes))
    for b in range(n_boot):
        for g in rng.integers(0, n_groups, size=(n_groups,)):
            draws[b] += rng.multinomial(sizes[g], shares[g])
    return draws


def _outcome_counts(
    y_true: ArrayLike, predictions: Sequence[ArrayLike], groups: ArrayLike | None
) -> tuple[NDArray[np.integer], int]:
    """Count each (true, predicted, ...) outcome per group; returns the counts and n classes."""
    columns = [np.asarray(y_true), *(np.asarray(p) for p in predictions)]
    if len({c.shape for c in columns}) != 1 or columns[0].size == 0:
        raise InputError(
            f"True and predicted labels have shapes {[c.shape for c in columns]}; "
            "they need one value per cell, and at least one cell."
        )
    names, codes = np.unique(np.concatenate(columns), return_inverse=True)
    outcome = np.ravel_multi_index(
        tuple(codes.reshape(len(columns), -1)), (names.size,) * len(columns)
    )
    group = (
        np.zeros(outcome.size, dtype=int)
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    counts = np.zeros((group.max() + 1, names.size ** len(columns)), dtype=int)
    np.add.at(counts, (group, outcome), 1)
    return counts, names.size


def macro_f1_interval(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Macro F1 pooled over cells, with a bootstrap interval over donors and cells.

    Parameters
    ----------
    y_true, y_pred
        True and predicted class of each cell, shape ``(n_cells,)``.
    groups
        Donor of each cell; donors are resampled first, then cells within each.
        With few donors the interval is too narrow rather than too wide: read it with their number.
    n_boot, level, seed
        Number of resamples, coverage, seed.

    Returns
    -------
    Interval
        ``n`` is the number of cells.

    Examples
    --------
    >>> macro_f1_interval(["a", "a", "b"], ["a", "a", "b"]).value
    1.0
    """
    counts, k = _outcome_counts(y_true, [y_pred], groups)
    draws = _resampled_counts(counts, np.random.default_rng(seed), n_boot)
    low, high = _quantiles(_f1_from_confusion(draws.reshape(-1, k, k)), level)
    value = _f1_from_confusion(counts.sum(axis=0).reshape(k, k).astype(float))
    return Interval(float(value), low, high, int(counts.sum()))


def macro_f1_difference(
    y_true: ArrayLike,
    y_pred_a: ArrayLike,
    y_pred_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Macro F1 of predictions a less that of b, on the same cells, with a paired interval.

    Parameters
    ----------
    y_true, y_pred_a, y_pred_b
        True class and the two predictions of each cell, shape ``(n_cells,)``.
    groups
        Donor of each cell, resampled as in `macro_f1_interval`.
    n_boot, level, seed
        Number of resamples, coverage, seed.

    Returns
    -------
    Interval
        Positive when a is better; ``n`` is the number of cells.
    """
    counts, k = _outcome_counts(y_true, [y_pred_a, y_pred_b], groups)

    def difference(outcomes: NDArray[np.floating]) -> NDArray[np.floating]:
        cube = outcomes.reshape(-1, k, k, k)
        return _f1_from_confusion(cube.sum(axis=3)) - _f1_from_confusion(cube.sum(axis=2))

    draws = _resampled_counts(counts, np.random.default_rng(seed), n_boot)
    low, high = _quantiles(difference(draws), level)
    value = difference(counts.sum(axis=0).astype(float))[0]
    return Interval(float(value), low, high, int(counts.sum()))


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    n_permutations: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Sign-flip permutation test of the mean difference between paired scores.

    The unit is whatever was scored once: a tissue, a donor, a species, a perturbation.
    Folds that share training cells are not such a unit.

    Parameters
    ----------
    a, b
        Scores of the two methods, shape ``(n_units,)``.
    n_permutations
        Number of random sign flips; all are listed when there are no more than this many.
    level, seed
        Coverage of the bootstrap interval of the mean difference, and the seed.

    Returns
    -------
    PairedTest
        With n units the smallest possible p value is 2 ** (1 - n).

    Examples
    --------
    >>> paired_test([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).p_value
    0.25
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if gaps.ndim != 1 or gaps.size < 2 or not np.isfinite(gaps).all():
        raise InputError(
            f"A paired test needs two or more finite pairs; got shape {gaps.shape} with "
            f"{int((~np.isfinite(gaps)).sum())} missing. Drop units that lack a score."
        )
    rng = np.random.default_rng(seed)
    exact = 2**gaps.size <= n_permutations
    signs = (
        np.array(list(product((-1.0, 1.0), repeat=gaps.size)))
        if exact
        else rng.choice((-1.0, 1.0), size=(n_permutations, gaps.size))
    )
    null = np.abs(signs @ gaps)
    extreme = int((null >= abs(gaps.sum()) * (1 - 1e-12) - 1e-12).sum())
    p_value = extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)
    interval = bootstrap(np.mean, gaps, level=level, seed=seed)
    return PairedTest(float(gaps.mean()), interval.low, interval.high, p_value, gaps.size)


# The results table -------------------------------------------------------------------------------

#: Columns of every results table, in order.
COLUMNS = (
    "task",
    "dataset",
    "profile",
    "protocol",
    "representation",
    "head",
    "model",
    "layer",
    "relative_depth",
    "split",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "higher_is_better",
    "seed",
    "source",
    "note",
)
_NUMBERS = ("relative_depth", "value", "ci_low", "ci_high", "n", "seed")
_VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "task": (
        "cell_types",
        "disease_state",
        "cross_species",
        "structure",
        "regulation",
        "manifold",
        "trajectory",
        "perturbation",
        "layer_choice",
    ),
    "protocol": ("as_published", "corrected"),
    "source": ("reproduced", "published"),
}


def result(
    *,
    task: str,
    dataset: str,
    protocol: str,
    metric: str,
    value: float | Interval,
    representation: str = "",
    head: str = "",
    model: str = "",
    layer: str = "",
    relative_depth: float = float("nan"),
    split: str = "",
    ci_low: float = float("nan"),
    ci_high: float = float("nan"),
    n: int | None = None,
    higher_is_better: bool = True,
    seed: int | None = None,
    source: str = "reproduced",
    note: str = "",
    profile: str | None = None,
) -> dict[str, Any]:
    """One row of the results table: one number.

    Parameters
    ----------
    task, dataset, protocol, metric
        What was asked, of which cells, how, and what was measured.
    value
        The number; an `Interval` fills ``ci_low``, ``ci_high`` and ``n`` as well.
    representation, head, model, layer, relative_depth
        What was judged; a ``layer:MODEL/i`` representation fills ``model`` and ``layer``.
    split, n, seed, higher_is_better
        How cells were divided, the number of units, the seed, the direction.
    source, note
        ``reproduced`` or ``published``; what was left out, or where the number stands.
    profile
        Defaults to the environment's ``SCLIN_PROFILE``, then to ``offline``.

    Returns
    -------
    dict
        Keys are `COLUMNS`.
    """
    if isinstance(value, Interval):
        value, ci_low, ci_high, size = value
        n = size if n is None else n
    if representation.startswith("layer:") and not model:
        model, _, layer = representation.removeprefix("layer:").rpartition("/")
    row = dict(locals())
    row.pop("size", None)
    row["profile"] = profile or os.environ.get("SCLIN_PROFILE", "offline")
    return {column: row[column] for column in COLUMNS}


def results_table(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Rows of `result` as a table with checked columns and vocabularies.

    Parameters
    ----------
    rows
        Dicts of `result`, or a table to check again.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, numbers as numbers.

    Raises
    ------
    InputError
        When a column is unknown or a word is not in the vocabulary.
    """
    table = rows.copy() if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    unknown = set(table.columns) - set(COLUMNS)
    absent = set(COLUMNS) - set(table.columns)
    if unknown or absent:
        raise InputError(
            f"A results table has columns {sorted(unknown)} too many and lacks {sorted(absent)}; "
            "make its rows with sclin.evaluation.result."
        )
    for column, words in _VOCABULARY.items():
        for word in set(table[column]) - set(words):
            raise InputError(
                f"Column {column!r} holds {word!r}, which is not one of {', '.join(words)}."
                + nearest(str(word), words)
            )
    for column in _NUMBERS:
        table[column] = pd.to_numeric(table[column])
    text = [c for c in COLUMNS if c not in (*_NUMBERS, "higher_is_better")]
    table[text] = table[text].fillna("").astype(str)
    return table.loc[:, list(COLUMNS)].reset_index(drop=True)


def save_results(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, chapter: str) -> Path:
    """Write a results table as ``<chapter>.csv``.

    The folder is that of the environment's ``SCLIN_RESULTS``; without it, ``sclin-results`` in the
    current folder.

    Parameters
    ----------
    rows
        Rows of `result` or a results table.
    chapter
        Name of the notebook, such as ``05_cell_types``.

    Returns
    -------
    Path
        The file written.
    """
    table = results_table(rows)
    folder = Path(os.environ.get("SCLIN_RESULTS", "sclin-results"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{chapter}.csv"
    partial = path.with_suffix(f".{os.getpid()}.part")
    table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    partial.replace(path)
    return path


def load_results(folder: str | Path | None = None) -> pd.DataFrame:
    """Read every results table of a folder into one.

    Parameters
    ----------
    folder
        ``results/<profile>``; defaults to the environment's ``SCLIN_RESULTS``, then to
        ``sclin-results``.

    Returns
    -------
    DataFrame
        Columns `COLUMNS` and ``chapter``.

    Raises
    ------
    InputError
        When the folder holds no table.
    """
    root = Path(folder or os.environ.get("SCLIN_RESULTS", "sclin-results"))
    paths = sorted(root.glob("*.csv"))
    if not paths:
        raise InputError(
            f"No results table in {root}; run a chapter first, for example `make book`."
        )
    tables = [
        results_table(pd.read_csv(path, dtype={"layer": str}, keep_default_na=True)).assign(
            chapter=path.stem
        )
        for path in paths
    ]
    return pd.concat([t for t in tables if not t.empty], ignore_index=True)
