"""The engine: one loop over representations, heads and folds, for every benchmark.

`evaluate` judges representations by classes, `measure` by any score of the embedding.
Both return `Results`: a table, what it rests on, paired comparisons and a verdict in words.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sclin import results, statistics
from sclin.chunks import lazy
from sclin.datasets import name_of
from sclin.errors import InputError
from sclin.heads import KNNHead, LogisticHead, head
from sclin.linear import products
from sclin.projection import CentroidProjection
from sclin.representations import CONTROLS, embed, labels, relative_depths, representation
from sclin.statistics import SCORES, Comparison
from sclin.verdict import SHUFFLED, Verdict, comparison, judge_rows

#: Classifiers that name the class of the highest probability, the first of equals.
_BY_PROBABILITY = (KNNHead, KNeighborsClassifier, LogisticHead, LogisticRegression)
_LEFT_OUT = ("representation", "head", "fold", "n", "reason")


@dataclass(frozen=True)
class Results:
    """What `evaluate` and `measure` found.

    Attributes
    ----------
    table
        Rows of `sclin.results`, one number each.
    predictions
        One row per test cell, representation and head: ``cell``, ``group``, ``fold``,
        ``representation``, ``head``, ``variant``, ``y_true``, ``y_pred``. In a fold whose test
        part holds a class that the training part lacks, ``score`` is how well the cell fits what
        the head has learnt: its ``score_samples``, or else its highest probability; elsewhere
        it is missing. Of `measure`: one row per unit, representation and metric, with its
        ``value``. Without them, as for rows read from a file, comparisons are read from the rows
        that `comparisons` wrote.
    probabilities
        Class probabilities by representation and head, rows as in ``predictions``.
    left_out
        Pairs of representation and head that make no sense and cells whose class no training
        part held, with the reason.
    variant
        What the plain rows of the table say in their column ``variant``.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    probabilities: Mapping[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    left_out: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=list(_LEFT_OUT)))
    variant: str = ""

    def of(self, representation: str, head: str = "", variant: str = "") -> pd.DataFrame:
        """Predictions of one representation and head.

        Raises
        ------
        InputError
            There are none.
        """
        p = self.predictions
        rows = p[p["representation"].eq(representation) & p["variant"].eq(variant)]
        rows = rows[rows["head"].eq(head)] if head else rows
        if rows.empty:
            known = ", ".join(map(str, pd.unique(p["representation"])))
            raise InputError(
                f"The results hold no predictions of {representation!r} {head!r} {variant!r}; "
                f"there are {known}."
            )
        return rows

    def compare(
        self, a: str, b: str, *, head: str = "", versus: str = "", metric: str = "", seed: int = 0
    ) -> Comparison:
        """Compare two representations on the same cells, in pairs over donors.

        Parameters
        ----------
        a, b
            Representations; positive when ``a`` is better.
        head, versus
            Head of ``a``, and that of ``b`` when it is another; the first one by default.
        metric
            One of `sclin.statistics.SCORES`, or a metric of `measure`; the first by default.
        seed
            Seed of resampling and permutations.

        Returns
        -------
        Comparison

        Raises
        ------
        InputError
            A side is not there, or folds overlap, so that there is no unit to compare over.
        """
        p = self.predictions
        head, metric = self._asked(head, metric)
        if p.empty:
            return self._written(a, b, head, versus or head, metric)
        one, other = self.of(a, head), self.of(b, versus or head)
        unit = str(self.table["unit"].iloc[0])
        if "y_pred" not in p:
            of = [s[s["metric"].eq(metric)].set_index("group")["value"] for s in (one, other)]
            both = pd.concat(of, axis=1, keys=["a", "b"]).dropna()
            return statistics.paired_test(both["a"], both["b"], seed=seed)._replace(unit=unit)
        if one["row"].duplicated().any():
            raise InputError(
                "Cells are predicted more than once, by folds that share training cells; these "
                "are no units to compare over. Use disjoint folds, such as donors held out."
            )
        if metric not in SCORES:
            raise InputError(f"{metric!r} has no paired comparison; {', '.join(SCORES)} have one.")
        one, other = one.sort_values("row"), other.sort_values("row")
        groups = None if unit == "cell" else one["group"].to_numpy()
        labels = one["y_true"], one["y_pred"], other["y_pred"]
        found = statistics.score_difference(metric, *labels, groups=groups, seed=seed)
        return found._replace(unit=unit)

    def _written(self, a: str, b: str, head: str, versus: str, metric: str) -> Comparison:
        """The comparison that stands in rows, either way round."""
        t = self.table[self.table["metric"].eq(f"{metric}_difference")]
        for one, its, two, sign in ((a, head, (b, versus), 1), (b, versus, (a, head), -1)):
            variant = _versus(self.variant, its, *two)
            gap = t[t["representation"].eq(one) & t["head"].eq(its) & t["variant"].eq(variant)]
            if len(gap):
                c = comparison(self.table, gap.iloc[0])
                low, high = sorted((sign * c.ci_low, sign * c.ci_high))
                return c._replace(difference=sign * c.difference, ci_low=low, ci_high=high)
        raise InputError(f"No row compares {a!r} with {b!r} by {metric!r}; `comparisons` makes it.")

    def comparisons(self, reference: str = "", *, head: str = "", metric: str = "") -> pd.DataFrame:
        """Compare everything with one representation and head, as rows of the table.

        Parameters
        ----------
        reference, head, metric
            What to compare with and by; the best representation under that head, and the first
            head and metric by default.

        Returns
        -------
        DataFrame
            Rows with variant ``versus:REFERENCE``, or ``versus:REFERENCE+HEAD`` where the head
            is another: ``<metric>_difference`` with its interval, and ``<metric>_p`` with the
            p value of this one comparison.
        """
        t, (head, metric) = self.table, self._asked(head, metric)
        reference = reference or self.verdict(head=head, metric=metric).best
        t = t[t["metric"].eq(metric) & t["variant"].eq(self.variant)]
        t = t[t["representation"].ne(reference) | t["head"].ne(head)]
        found = pd.DataFrame([
            self.compare(r, reference, head=h, versus=head, metric=metric)
            for r, h in zip(t["representation"], t["head"], strict=True)
        ]).set_index(t.index)  # fmt: skip
        words = [_versus(self.variant, h, reference, head) for h in t["head"]]
        t = t.assign(variant=words, n=found["n"], ci_low=found["ci_low"], ci_high=found["ci_high"])
        gaps = t.assign(metric=f"{metric}_difference", value=found["difference"])
        p = gaps.assign(metric=f"{metric}_p", value=found["p_value"], ci_low=np.nan, ci_high=np.nan)
        return results.table(gaps, p.assign(higher_is_better=False))

    def _asked(self, head: str, metric: str) -> tuple[str, str]:
        """Head and metric; where none is named, the first of the table."""
        return head or str(self.table["head"].iloc[0]), metric or str(self.table["metric"].iloc[0])

    def verdict(self, *, reference: str = "", head: str = "", metric: str = "") -> Verdict:
        """Say in words which representation is best, and whether anything is shown.

        Parameters
        ----------
        reference
            What the others are compared with; the best one by default.
        head, metric
            What to judge by; the first of each by default.

        Returns
        -------
        Verdict
        """
        t, (head, metric) = self.table, self._asked(head, metric)
        null = t["variant"].str.contains(SHUFFLED)
        t = t[t["metric"].eq(metric) & t["head"].eq(head) & (t["variant"].eq(self.variant) | null)]

        def compare(a: str, b: str) -> Comparison | None:
            try:
                return self.compare(a, b, head=head, metric=metric)
            except InputError:
                return None

        return judge_rows(t, compare, reference)


def _versus(variant: str, its_head: str, reference: str, head: str) -> str:
    """Variant of the rows that compare with a reference; a head of its own is said."""
    whom = reference if its_head == head else f"{reference}+{head}"
    return "; ".join(filter(None, (variant, f"versus:{whom}")))


def _named(given: Any, make: Callable[[str], Any], what: str) -> dict[str, Any]:
    """Objects by name: names are looked up, objects are taken as they are."""
    if not isinstance(given, Mapping):
        given = dict.fromkeys([given] if isinstance(given, str) else given)
    if not given:
        raise InputError(f"No {what} was given; name at least one.")
    return {name: make(name) if thing is None else thing for name, thing in given.items()}


def _things(given: Any, controls: bool, seed: int) -> dict[str, Any]:
    make = partial(representation, seed=seed)
    return _named(given, make, "representation") | {n: make(n) for n in CONTROLS if controls}


def _row_maker(things: Mapping[str, Any], **about: Any) -> Callable[..., dict[str, Any]]:
    """Rows that say what was asked of which cells, and how deep a layer lies."""
    depths = relative_depths(things)

    def row(name: str, **fields: Any) -> dict[str, Any]:
        depth = depths.get(name, np.nan)
        return results.row(representation=name, relative_depth=depth, **about, **fields)

    return row


# More threads add in another order, and where cells tie the last digit decides a neighbour.
_one_thread = threadpool_limits.wrap(limits=1)


# Shown where somebody can see it move.
def _bar(fits: Any, progress: bool) -> Any:
    return tqdm(fits, disable=None if progress else True, unit="fit")


Fold = tuple[str, NDArray[np.intp], NDArray[np.intp]]


def _folds(cv: Any, y: NDArray[Any], units: NDArray[Any] | None, seed: int) -> list[Fold]:
    """Name, training rows and test rows of each fold."""
    if cv is None:
        by_cell = StratifiedKFold(5, shuffle=True, random_state=seed)
        cv = by_cell if units is None else LeaveOneGroupOut()
    try:
        with warnings.catch_warnings():
            # Groups are what intervals resample too, so a splitter by cells may well get them.
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            pairs = list(cv.split(np.zeros(len(y)), y, units) if hasattr(cv, "split") else cv)
    except ValueError as error:
        raise InputError(
            f"{type(cv).__name__} cannot split these cells: {error}\n"
            "Give groups, a column of obs with two values or more such as 'donor', or another cv."
        ) from error
    folds = []
    for i, (train, test) in enumerate(pairs):
        train, test = np.asarray(train), np.asarray(test)
        if np.unique(y[train]).size < 2:
            raise InputError(
                f"The training part of fold {i} holds {np.unique(y[train]).size} class(es); "
                "a classifier needs two. Hold out other groups, or drop the rare class."
            )
        held = np.unique(units[test]) if units is not None else np.array([])
        folds.append((str(held[0]) if len(held) == 1 else f"fold {i}", train, test))
    return folds


def _unseen(y: NDArray[Any], folds: Sequence[Fold]) -> Iterator[tuple[Any, ...]]:
    """Test cells whose class is not in the training part: they count as wrong, and are listed."""
    for fold, train, test in folds:
        lost = y[test][~np.isin(y[test], y[train])]
        for kind, n in zip(*np.unique(lost, return_counts=True), strict=True):
            reason = f"class {kind!r} is not in the training part; its cells count as wrong"
            yield "", "", fold, int(n), reason


@_one_thread
def _pairs(
    X: Any, rows: NDArray[np.intp], n_train: int, targets: Sequence[Any]
) -> pd.DataFrame | None:
    """Products of all pairs of cells, which folds of `n_train` and wide logistic heads share."""
    most = max([j.max_cells for *_, j in targets if isinstance(j, LogisticHead)], default=0)
    shared = n_train <= most and n_train < X.shape[1]
    return pd.DataFrame(products(X), rows, rows) if shared else None


def _classes(estimator: Any, X: Any, proba: pd.DataFrame | None) -> NDArray[Any]:
    """The class that a head names each cell; what it told already is not computed again."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if type(last) in _BY_PROBABILITY and proba is not None:  # a subclass may name by another rule
        return estimator.classes_[proba.to_numpy().argmax(axis=1)]
    return np.asarray(estimator.predict(X))


def _fits(estimator: Any, X: Any, proba: pd.DataFrame | None) -> Any:
    """How well cells fit what was learnt, high for the classes of the training part."""
    if hasattr(estimator, "score_samples"):
        return estimator.score_samples(X)
    return np.nan if proba is None else proba.max(axis=1)


def _fit_fold(
    name: str, thing: Any, X: Any, pairs: Any, cells: AnnData, y: NDArray[Any],
    targets: Sequence[tuple[str, str, Any]], seed: int, fold: Fold,
) -> list[Any]:  # fmt: skip
    """Predictions, probabilities and fit of each target, or why its head refuses."""
    _, train, test = fold
    new = not np.isin(y[test], y[train]).all()
    if X is None:
        X_train, X_test = embed(thing, cells[train], cells[train], cells[test], name=name)
        pairs = _pairs(X_train, train, len(train), targets)
    else:
        X_train, X_test = X[train], X[test]
    found: list[Any] = []
    for _, null, judge in targets:
        target = statistics.permuted(y[train], seed=seed) if null else y[train]
        estimator, given = clone(judge), X_train
        if isinstance(estimator, CentroidProjection) and getattr(thing, "averages_first", False):
            estimator, given = estimator.set_params(rank=True), cells[train].X
        shared = pairs is not None and isinstance(estimator, LogisticHead)
        try:
            estimator.fit(given, target, **({"pairs": pairs.loc[train, train]} if shared else {}))
            proba = None
            if hasattr(estimator, "predict_proba"):
                proba = pd.DataFrame(estimator.predict_proba(X_test), columns=estimator.classes_)
            fits = _fits(estimator, X_test, proba) if new else np.nan
            found.append((_classes(estimator, X_test, proba), proba, fits))
        except InputError as error:
            found.append(str(error))
    return found


def _fit_folds(
    name: str, thing: Any, cells: AnnData, y: NDArray[Any], targets: Sequence[tuple[str, str, Any]],
    folds: Sequence[Fold], seed: int, n_jobs: int, bar: Any,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """What each target says of each fold; a representation of single cells is computed once."""
    X = embed(thing, cells, cells, name=name)[0] if getattr(thing, "per_cell", False) else None
    trains = [train for _, train, _ in folds]
    rows = np.unique(np.concatenate(trains))
    pairs = None if X is None else _pairs(X[rows], rows, max(map(len, trains)), targets)
    fit = delayed(partial(_fit_fold, name, thing, X, pairs, cells, y, targets, seed))
    found = []
    for outcome in Parallel(n_jobs=n_jobs, return_as="generator")(map(fit, folds)):
        found.append(outcome)
        bar.update()
    return list(zip(*found, strict=True))


def _joined(
    cells: AnnData, y: NDArray[Any], units: NDArray[Any] | None, folds: Sequence[Fold],
    parts: Sequence[Any],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:  # fmt: skip
    """Predictions and probabilities of all folds, one row per test cell."""
    rows = np.concatenate([test for _, _, test in folds])
    frame = pd.DataFrame({"row": rows, "cell": cells.obs_names[rows], "y_true": y[rows]})
    frame["group"] = "" if units is None else units[rows]
    frame["fold"] = np.repeat([name for name, _, _ in folds], [len(test) for _, _, test in folds])
    frame["y_pred"] = np.concatenate([y_pred for y_pred, *_ in parts])
    frame["score"] = np.concatenate([np.broadcast_to(fits, len(p)) for p, _, fits in parts])
    if parts[0][1] is None:
        return frame, None
    proba = pd.concat([p for _, p, _ in parts], ignore_index=True)
    return frame, proba.reindex(columns=np.unique(y)).fillna(0.0)


@_one_thread
def evaluate(
    cells: AnnData,
    label: str,
    *,
    representations: Sequence[str] | Mapping[str, Any],
    heads: Sequence[str] | Mapping[str, Any] = ("logistic",),
    cv: Any = None, groups: str | None = None,
    scoring: Sequence[str] = ("f1_macro", "accuracy", "balanced_accuracy"),
    controls: bool = False,
    n_jobs: int = 1, n_boot: int = 1000, seed: int = 0,
    task: str = "", dataset: str = "", protocol: str = "corrected", variant: str = "",
    progress: bool = False,
) -> Results:  # fmt: skip
    """Put every representation through every head and fold.

    A representation of single cells is computed once, a fitted one once per fold, on training
    cells only; all heads share it.

    Parameters
    ----------
    cells
        Counts in ``X``, labels in ``obs``; in memory, backed by their file, or of Dask.
    label
        Column of ``obs`` to predict.
    representations
        Names (see `sclin.representations`), or objects with ``fit(adata)`` and
        ``transform(adata)`` by name.
    heads
        Names (see `sclin.heads`), or scikit-learn classifiers by name.
    cv
        Any splitter of scikit-learn, or pairs of training and test rows. By default one group is
        held out at a time; without groups, five folds of cells.
    groups
        Column of ``obs`` with the unit that intervals resample and comparisons pair: the donor.
    scoring
        Names of scikit-learn's classification scorers.
    controls
        Add ``library_size``, ``random``, and shuffled training labels under the first head.
    n_jobs
        Folds at a time.
    n_boot, seed
        Resamples of the intervals, and the seed of every random step.
    task, dataset, protocol, variant
        What the rows say of themselves; the task is the label by default.
    progress
        Show a bar over representations and folds.

    Returns
    -------
    Results

    Raises
    ------
    InputError
        A name is unknown, labels are missing, a fold has one class, or no pair makes sense.
    """
    cells = lazy(cells)
    y, units = labels(cells, label), labels(cells, groups) if groups else None
    judges = _named(heads, partial(head, seed=seed), "head")
    things = _things(representations, controls, seed)
    scorers = _named(scoring, statistics.find_scorer, "scorer")
    folds = _folds(cv, y, units, seed)
    about: Any = {"task": task or label, "dataset": dataset or name_of(cells)}
    row = _row_maker(things, protocol=protocol, seed=seed, **about)
    rows, predictions, probabilities, left_out = [], [], {}, list(_unseen(y, folds))
    bar = _bar(range(len(things) * len(folds)), progress)
    for name, thing in things.items():
        bar.set_description(f"{task or label}: {name}")
        targets = [(kind, "", judge) for kind, judge in judges.items()]
        if controls and name not in CONTROLS:
            targets.append((targets[0][0], SHUFFLED, targets[0][2]))
        fitted = _fit_folds(name, thing, cells, y, targets, folds, seed, n_jobs, bar)
        for (kind, null, _), parts in zip(targets, fitted, strict=True):
            refused = [(f[0], p) for f, p in zip(folds, parts, strict=True) if isinstance(p, str)]
            if refused:
                left_out.append((name, kind, refused[0][0], cells.n_obs, refused[0][1]))
                continue
            frame, proba = _joined(cells, y, units, folds, parts)
            predictions.append(frame.assign(representation=name, head=kind, variant=null))
            if proba is not None and not null:
                probabilities[name, kind] = proba
            asked: Any = {"unit": groups, "n_boot": n_boot, "seed": seed}
            for score in statistics.scored(frame, proba, scorers, **asked):
                words = "; ".join(filter(None, (variant, null, score.pop("spread", ""))))
                rows.append(row(name, head=kind, variant=words, **score))
    bar.close()
    if not rows:
        raise InputError(f"No head can take any representation: {left_out[-1][-1]}")
    return Results(
        results.table(rows),
        pd.concat(predictions, ignore_index=True),
        probabilities,
        pd.DataFrame(left_out, columns=list(_LEFT_OUT)),
        variant,
    )


@_one_thread
def measure(
    cells: AnnData,
    score: Callable[[Any, AnnData], Mapping[str, Any]],
    *,
    representations: Sequence[str] | Mapping[str, Any],
    units: str | None = None, controls: bool = False, lower_is_better: Sequence[str] = (),
    n_boot: int = 1000, seed: int = 0,
    task: str = "", dataset: str = "", protocol: str = "corrected", variant: str = "",
    split: str = "", progress: bool = False,
) -> Results:  # fmt: skip
    """Score every representation by a function of the embedding: the twin without classes.

    Parameters
    ----------
    cells
        Counts in ``X``.
    score
        Function of the embedding (one row per cell) and the cells that returns numbers by metric:
        a number, an `Interval`, or a Series with one number per unit, whose index has the name
        of the unit; it is the unit of the numbers after it, too.
    representations, controls, n_boot, seed, task, dataset, protocol, variant, progress
        As in `evaluate`; representations see all cells, and no label.
    units
        Column of ``obs``: each of its groups of cells is scored by itself, and the value is
        their mean.
    lower_is_better
        Metrics whose smaller values are better.
    split
        What the rows say of the cells, such as a state.

    Returns
    -------
    Results
        ``predictions`` holds the value of each unit.

    Raises
    ------
    InputError
        A name is unknown, or values are missing.
    """
    cells = lazy(cells)
    of = np.array([]) if units is None else labels(cells, units)
    groups = {u: np.flatnonzero(of == u) for u in np.unique(of)}
    rows, by_unit = [], []
    things = _things(representations, controls, seed)
    about: Any = {"task": task or "measure", "dataset": dataset or name_of(cells)}
    row = _row_maker(things, protocol=protocol, seed=seed, **about)
    bar = _bar(things.items(), progress)
    for name, thing in bar:
        bar.set_description(f"{task}: {name}")
        (X,) = embed(thing, cells, cells, name=name)
        if units is None:
            found = dict(score(X, cells))
        else:
            scored = {u: score(X[at], cells[at]) for u, at in groups.items()}
            found = dict(pd.DataFrame(scored).T.rename_axis(units))
        unit = units or "cell"
        for metric, value in found.items():
            if isinstance(value, pd.Series):
                unit = str(value.index.name or "unit")
                values = value.rename_axis("group").rename("value").astype(float).reset_index()
                said = {"representation": name, "head": "", "variant": "", "metric": metric}
                by_unit.append(values.assign(**said))
                value = statistics.bootstrap(np.nanmean, values["value"], n_boot=n_boot, seed=seed)
            said = {"unit": unit, "variant": variant, "split": split, "metric": metric}
            better = metric not in lower_is_better
            rows.append(row(name, value=value, higher_is_better=better, **said))
    by_unit = by_unit or [pd.DataFrame(columns=["metric", "representation", "head", "variant"])]
    return Results(results.table(rows), pd.concat(by_unit, ignore_index=True), variant=variant)
