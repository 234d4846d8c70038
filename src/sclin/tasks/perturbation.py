"""Perturbation response: whether knock-outs that change cells alike lie alike in a representation.

The published protocol takes reference and embedding from the same cells and compares raw cosines;
chapter 13 walks through it. The corrected one takes them from different halves of the cells,
against control, with centred ranks, equal numbers of cells, perturbations with a proven effect,
and the same set in every state. What all representations share is made once, by `halve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats
from scipy.spatial.distance import squareform
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import scale

from sclin.chunks import dense
from sclin.errors import InputError, nearest
from sclin.matrices import GENE_COLUMNS, strip_versions
from sclin.representations import labels, log_normalize
from sclin.statistics import Interval, spearman
from sclin.tasks.draws import queue

_FEW = 10  # exchanges that a share can rest on
_MIN_PERTURBATIONS = 4  # fewer give no more than three pairs to rank
_CONTROLS = ("non-targeting", "NT", "NTC", "control", "ctrl", "unperturbed")


# Cells -------------------------------------------------------------------------------------------


def _one_name(name: str, control: str) -> str:
    """Name that B+A shares with A+B, and A+control with A."""
    parts = [part.strip() for part in name.split("+")]
    if name == control or not all(parts):
        return name
    return "+".join(sorted(set(parts) - {control})) or control


def read_names(
    cells: AnnData, column: str = "perturbation", *, control: str = "control"
) -> NDArray[np.str_]:
    """Read the perturbation of each cell, checked for the control.

    Parameters
    ----------
    cells
        Annotated cells.
    column, control
        Column of ``obs``, and the label of control cells in it.

    Returns
    -------
    ndarray
        Parts of a combination in one order, so that ``B+A`` is ``A+B``; ``A+control`` is ``A``.

    Raises
    ------
    InputError
        The column is missing or lacks values, or no cell is a control.
    """
    found = labels(cells, column)
    one = {name: _one_name(name, control) for name in np.unique(found)}
    names = np.array([one[name] for name in found], dtype=str)
    present = sorted(set(one.values()))
    if control not in present:
        usual = [name for name in present if name in _CONTROLS]
        hint = nearest(control, present) or (f" Did you mean {usual[0]!r}?" if usual else "")
        raise InputError(
            f"No cell of column {column!r} has the control label {control!r}; the labels begin "
            f"{', '.join(map(repr, present[:5]))}.\nGive the label of unperturbed cells.{hint}"
        )
    return names


def own_genes(cells: AnnData, perturbations: Iterable[str]) -> dict[str, NDArray[np.intp]]:
    """Columns of the genes that perturbations name, by id or symbol, alone or joined by ``+``.

    Parameters
    ----------
    cells
        Cells with gene names, ids or symbols in ``var``.
    perturbations
        Names.

    Returns
    -------
    dict
        Column numbers by perturbation; none where it names no gene.
    """
    stored = [cells.var[column] for column in GENE_COLUMNS if column in cells.var]
    known = [strip_versions(pd.Index(genes)) for genes in (cells.var_names, *stored)]
    parts = {name: strip_versions(pd.Index(name.split("+"))) for name in perturbations}
    return {
        name: np.flatnonzero(np.any([genes.isin(own) for genes in known], axis=0))
        for name, own in parts.items()
    }


def thin(
    cells: AnnData, *, perturbation: str = "perturbation", control: str = "control",
    n_cells: int = 500, only: Iterable[str] = (), seed: int = 0,
) -> AnnData:  # fmt: skip
    """Keep at most so many random cells of each perturbation, and five times as many controls.

    Inside each perturbation, donors give cells in turns, so that small ones stay.

    Parameters
    ----------
    cells
        Cells, in memory or backed by their file; only those kept are read.
    perturbation, control
        Column of ``obs``, and the label of control cells in it.
    n_cells
        Most cells of one perturbation.
    only
        Perturbations to keep; all by default.
    seed
        Seed of the draw.

    Returns
    -------
    AnnData
        In memory, cells in their old order.
    """
    names = read_names(cells, perturbation, control=control)
    wanted = {_one_name(name, control) for name in only} or set(names)
    donor = labels(cells, "donor") if "donor" in cells.obs else names
    both = pd.Series(names) + "/" + donor
    order = queue(both.to_frame(), seed=seed)
    order = order[np.isin(names[order], [*wanted, control])]
    place = pd.Series(names[order]).groupby(names[order]).cumcount().to_numpy()
    limit = np.where(names[order] == control, 5 * n_cells, n_cells)
    part = cells[np.sort(order[place < limit])]
    return part.to_memory() if part.isbacked else part.copy()


def draw_halves(
    names: ArrayLike,
    perturbations: Iterable[str],
    *,
    control: str = "control",
    n_cells: int | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw the same number of cells of every perturbation and split them, and the controls, in two.

    Parameters
    ----------
    names
        Perturbation of each cell, shape ``(n_cells,)``.
    perturbations
        Those to draw.
    control
        Label of the control cells, all of which are used.
    n_cells
        Cells drawn per perturbation; by default as many as the smallest has.
    seed
        Seed of the draw.

    Returns
    -------
    tuple of ndarray
        Row numbers of the reference half and of the embedding half; no row is in both.

    Examples
    --------
    >>> first, second = draw_halves(["control"] * 4 + ["a"] * 4 + ["b"] * 4, ["a", "b"])
    >>> len(first), len(second), len(set(first) & set(second))
    (6, 6, 0)
    """
    values = np.asarray(names)
    rng = np.random.default_rng(seed)
    rows = {name: np.flatnonzero(values == name) for name in (*perturbations, control)}
    size = min(at.size for name, at in rows.items() if name != control)
    halves = []
    for name, at in rows.items():
        half = (at.size if name == control else min(n_cells or size, at.size)) // 2
        if half < 2:
            raise InputError(f"{name!r} has {at.size} cells; two halves need two cells each.")
        halves.append(rng.permutation(at)[: 2 * half].reshape(2, half))
    first, second = np.hstack(halves)
    return first, second


# Effects in gene expression ----------------------------------------------------------------------


def _averages(
    names: ArrayLike, groups: Iterable[str], rows: NDArray[np.intp] | None = None
) -> sparse.csr_matrix:
    """Matrix that averages cells by group, over some rows, ``(n_groups, n_cells)``."""
    groups = pd.Index(groups)
    codes = groups.get_indexer(pd.Index(np.asarray(names)))
    rows = np.arange(codes.size) if rows is None else rows
    rows = rows[codes[rows] >= 0]
    share = 1 / np.bincount(codes[rows], minlength=groups.size)
    return sparse.csr_matrix((share[codes[rows]], (codes[rows], rows)), (groups.size, codes.size))


def differences(
    X: Any, names: ArrayLike, perturbations: Iterable[str], *, control: str = "control"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of means to control, and its standard error (Welch), gene by gene.

    Parameters
    ----------
    X, names, perturbations, control
        As in `effects`.

    Returns
    -------
    tuple of ndarray
        Each of shape ``(n_perturbations, n_genes)``.
    """
    average = _averages(names, [*perturbations, control])
    values, size = sparse.csr_matrix(X, dtype=np.float64), average.getnnz(axis=1)[:, None]
    mean = (average @ values).toarray()
    spread = np.maximum((average @ values.multiply(values)).toarray() - mean**2, 0)
    squared = spread / np.maximum(size - 1, 1)  # variance (n - 1) over n
    # Equal sums of counts tie, and ranks of differences must not hang on how they were rounded.
    return np.round(mean[:-1] - mean[-1], 9), np.sqrt(squared[:-1] + squared[-1])


def effects(
    X: Any,
    names: ArrayLike,
    perturbations: Iterable[str],
    *,
    control: str = "control",
    shrink: float = 2.0,
) -> NDArray[np.float64]:
    """Shrunken difference to control of every gene, in standard errors.

    Each difference is moved towards zero by ``shrink`` standard errors and stops there, so that
    the many genes without evidence tie at zero and do not drown the few that change.

    Parameters
    ----------
    X
        Log-normalised values, shape ``(n_cells, n_genes)``, dense or sparse.
    names
        Perturbation of each cell, shape ``(n_cells,)``.
    perturbations, control
        Groups to compare, and the label they are compared with.
    shrink
        Standard errors taken off.

    Returns
    -------
    ndarray
        Shape ``(n_perturbations, n_genes)``, without unit.

    References
    ----------
    Donoho, IEEE Transactions on Information Theory 41, 613 (1995).
    """
    change, error = differences(X, names, perturbations, control=control)
    scaled = np.divide(change, error, out=np.zeros_like(change), where=error > 0)
    return np.sign(scaled) * np.maximum(np.abs(scaled) - shrink, 0)


def effect_similarity(shifts: ArrayLike) -> NDArray[np.float64]:
    """Cosine of centred ranks, which is Spearman's correlation; 0 for a row without any change.

    Parameters
    ----------
    shifts
        Effects, shape ``(n_perturbations, n_genes)``.

    Returns
    -------
    ndarray
        Shape ``(n_perturbations, n_perturbations)``.
    """
    ranks = stats.rankdata(np.asarray(shifts), axis=1)
    return cosine_similarity(ranks - ranks.mean(axis=1, keepdims=True))


def effect_p_values(
    X: Any, names: ArrayLike, perturbations: Iterable[str], *, control: str = "control",
    own_gene: Mapping[str, Any] | None = None, n_permutations: int = 999, seed: int = 0,
) -> NDArray[np.float64]:  # fmt: skip
    """Evidence that a perturbation changes the cells at all, by exchanging its cells with controls.

    The statistic is the sum over genes of the fourth power of the difference to control, a sum of
    powered scores: the fourth power finds the few genes that change among thousands that do not,
    and genes that few cells express, which differ little on a log scale, weigh little.
    The perturbed genes themselves are left out: that they fall proves the knock-out, no effect.

    The p value is the exact share of exchanges with as much change. Where these are ten or fewer,
    it is read from an exponential tail through the highest tenth of the exchanges, so that it can
    survive a correction for many perturbations: the root of the sum is a squared norm, whose tail
    is exponential. Against 50,000 exchanges, p values of 0.001 were right within a factor of 2.

    Parameters
    ----------
    X
        Log-normalised values, shape ``(n_cells, n_genes)``.
    names
        Perturbation of each cell.
    perturbations, control
        Groups to test, and the label they are tested against.
    own_gene
        Column or columns of each perturbation's own genes, as `own_genes` finds them.
    n_permutations
        Number of exchanges.
    seed
        Seed of the exchanges.

    Returns
    -------
    ndarray
        One p value per perturbation.

    References
    ----------
    Pan et al., Genetics 197, 1081 (2014); Knijnenburg et al., Bioinformatics 25, i161 (2009).
    """
    values, rng = np.asarray(names), np.random.default_rng(seed)
    base = dense(X[np.flatnonzero(values == control)]).astype(np.float32)
    p_values = []
    for name in perturbations:
        treated = dense(X[np.flatnonzero(values == name)]).astype(np.float32)
        pool = np.concatenate([treated, base])
        pool -= pool.mean(axis=0)
        if own_gene and name in own_gene:
            pool[:, own_gene[name]] = 0
        groups = np.zeros((n_permutations + 1, len(pool)), dtype=np.float32)
        groups[0, : len(treated)] = 1
        drawn = rng.random((n_permutations, len(pool))).argpartition(len(treated), axis=1)
        np.put_along_axis(groups[1:], drawn[:, : len(treated)], 1, axis=1)
        # The pool is centred, so the difference to the rest is proportional to the group's sum.
        squares = np.square(groups @ pool)
        p_values.append(_p_value(np.linalg.norm(squares, axis=1).astype(float)))
    return np.array(p_values)


def _p_value(strength: NDArray[np.float64]) -> float:
    """P value of the first value among exchanges: their share, or their tail where that is rare."""
    reached = strength >= strength[0] * (1 - 1e-6)  # itself included
    tenth = len(strength) // 10
    if reached.sum() > _FEW or tenth < _FEW:
        return float(reached.mean())
    top = np.sort(strength[1:])[-tenth - 1 :]
    excess = max((top - top[0]).sum() / tenth, np.finfo(float).tiny)
    return float(tenth / len(strength) * np.exp(-(strength[0] - top[0]) / excess))


# What all representations share ------------------------------------------------------------------


@dataclass(frozen=True)
class Halving:
    """One division of the cells of one state.

    Attributes
    ----------
    members
        Position of each perturbation among `Screen.names`.
    reference
        Their similarity in gene expression, shape ``(p, p)``.
    average
        Matrix from the embedding half to its group means, control last, ``(p + 1, n_cells)``.
    """

    members: NDArray[np.intp]
    reference: NDArray[np.float64]
    average: sparse.csr_matrix

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """Ranks of the pairs of the reference, about their mean and of unit length, ``(p, p)``."""
        return squareform(_unit_ranks(self.reference))


@dataclass(frozen=True)
class Screen:
    """One state of a screen, divided several times: the same for every representation.

    Attributes
    ----------
    names
        Perturbations with enough cells.
    halvings
        Divisions of the cells.
    table
        What became of each perturbation: cell numbers, ``status``, and in which share of the
        halvings its effect was ``proven`` in at least one state.
    cells
        Names of the cells that were divided, in their order.
    """

    names: pd.Index
    halvings: tuple[Halving, ...]
    table: pd.DataFrame
    cells: pd.Index

    @property
    def used(self) -> NDArray[np.intp]:
        """Positions of the perturbations that were proven in any halving."""
        return np.unique(np.concatenate([h.members for h in self.halvings]))

    def similarities(self, embedding: Any) -> list[NDArray[np.float64]]:
        """Cosines between the shifts of an embedding's means, one matrix per halving."""
        X = dense(embedding).astype(float)
        means = [halving.average @ X for halving in self.halvings]
        return [cosine_similarity(mean[:-1] - mean[-1]) for mean in means]

    def agreement(self, similarities: Sequence[NDArray[Any]], chosen: ArrayLike) -> Any:
        """Spearman of an embedding's pairs with those of the reference, mean over halvings.

        Parameters
        ----------
        similarities
            What `similarities` returned.
        chosen
            Positions among `names`, such as `used`, or many such draws, shape ``(n_draws, n)``;
            repeats count as often as they stand there, without their pairs with themselves.

        Returns
        -------
        float or ndarray
            Of each draw, over the halvings with three pairs or more; NaN when none has.
        """
        draws = np.atleast_2d(chosen)
        i, j = np.triu_indices(draws.shape[1], 1)
        pairs, goals = [], []
        for halving, found in zip(self.halvings, similarities, strict=True):
            place = pd.Index(halving.members).get_indexer(pd.RangeIndex(len(self.names)))
            a, b = place[draws[:, i]], place[draws[:, j]]
            pairs.append(np.where((a != b) & (a >= 0) & (b >= 0), found[a, b], np.nan))
            goals.append(halving.reference[a, b])
        scores = spearman(np.vstack(pairs), np.vstack(goals)).reshape(len(pairs), -1)
        counted = np.isfinite(scores).sum(axis=0)
        whole = np.nansum(scores, axis=0) / np.where(counted, counted, np.nan)
        return whole if np.ndim(chosen) > 1 else float(whole[0])


def _cell_numbers(
    names: NDArray[Any], states: NDArray[Any], control: str, min_cells: int
) -> pd.DataFrame:
    """Cells of each perturbation by state; ``status`` says which are too few."""
    counts = pd.crosstab(names, states, rownames=["perturbation"])[list(pd.unique(states))]
    base = counts.loc[[control]].min()
    if base.min() < min_cells:
        few = f"fewer than {min_cells} cells in state {base.idxmin()!r}"
        raise InputError(f"Control {control!r} has {few}; lower min_cells or leave it out.")
    table = counts.drop(index=control).rename_axis(columns=None)
    smallest = table.min(axis=1)
    enough = smallest >= min_cells
    if enough.sum() < _MIN_PERTURBATIONS:
        few = ", ".join(f"{name} ({n})" for name, n in smallest[:10].items())
        raise InputError(
            f"{enough.sum()} perturbations have {min_cells} cells or more in every state; "
            f"{_MIN_PERTURBATIONS} are needed. Smallest cell numbers: {few}. Lower min_cells."
        )
    table["status"] = np.where(enough, "kept", f"fewer than {min_cells} cells")
    return table


def halve(
    cells: AnnData, *, perturbation: str = "perturbation", control: str = "control",
    state: str = "", min_cells: int = 20, n_halvings: int = 5, alpha: float = 0.05, seed: int = 0,
) -> dict[str, Screen]:  # fmt: skip
    """Divide the cells, test every perturbation, and compare effects in gene expression.

    Every perturbation gives equally many cells. Reference, test and choice of perturbations rest on
    the one half; the other is left for the embedding.

    Parameters
    ----------
    cells
        Counts, or log values flagged as such.
    perturbation, control
        Column of ``obs`` with the perturbation, and the label of control cells in it.
    state
        Column of ``obs`` with the state of the cells; all are one state, ``all``, without it.
    min_cells
        Perturbations with fewer cells in a state are left out and listed.
    n_halvings
        Seeded divisions.
    alpha
        False discovery rate, over states and perturbations together, of a proven effect.
    seed
        Seed of the divisions.

    Returns
    -------
    dict
        `Screen` by state, in order of first appearance, with the same perturbations in each.

    Raises
    ------
    InputError
        Labels cannot be used, or fewer than four perturbations remain.
    """
    names = read_names(cells, perturbation, control=control)
    states = labels(cells, state) if state else np.full(cells.n_obs, "all")
    table = _cell_numbers(names, states, control, min_cells)
    kept = table.index[table["status"] == "kept"]
    by_state = {str(s): np.flatnonzero(states == s) for s in pd.unique(states)}
    depth = float(np.median(np.asarray(cells.X.sum(axis=1))))  # noise of a count stays that of one
    X, own = log_normalize(cells, target=depth), own_genes(cells, kept)
    size = int(table.loc[kept, list(by_state)].to_numpy().min())
    test: Any = {"control": control, "own_gene": own}
    found: dict[str, list[Halving]] = {s: [] for s in by_state}
    for h in range(n_halvings):
        halves, p_values = {}, []
        draw: Any = {"control": control, "n_cells": size, "seed": 1000 * seed + h}
        for s, rows in by_state.items():
            halves[s] = first, _ = rows[np.array(draw_halves(names[rows], kept, **draw))]
            p_values.append(effect_p_values(X[first], names[first], kept, **test))
        adjusted = stats.false_discovery_control(np.concatenate(p_values)).reshape(len(halves), -1)
        members = np.flatnonzero((adjusted <= alpha).any(axis=0))
        if members.size < _MIN_PERTURBATIONS:
            raise InputError(
                f"Halving {h}: {members.size} of {len(kept)} perturbations have an effect that is "
                f"proven in any state at a false discovery rate of {alpha}; "
                f"{_MIN_PERTURBATIONS} are needed.\nRaise alpha, or bring more cells of each."
            )
        for s, (first, second) in halves.items():
            change = effects(X[first], names[first], kept[members], control=control)
            average = _averages(names, [*kept[members], control], second)
            found[s].append(Halving(members, effect_similarity(change), average))
    times = np.bincount(np.concatenate([h.members for h in found[s]]), minlength=len(kept))
    table["proven"] = pd.Series(times / n_halvings, index=kept)
    return {s: Screen(kept, tuple(h), table, cells.obs_names) for s, h in found.items()}


def score(
    embedding: Any, cells: AnnData, *, screen: Screen, n_boot: int = 200,
    n_permutations: int = 999, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Score an embedding by the similarity of perturbation effects, for `sclin.measure`.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_features)``.
    cells
        The cells that were divided.
    screen
        One state of what `halve` returned.
    n_boot, n_permutations, seed
        Resamples of the perturbations, the same for every embedding; permutations of the Mantel
        test; seed of both.

    Returns
    -------
    dict
        ``effect_similarity_by_perturbation``: agreement of the pairs that hold it, mean over
        halvings; these share pairs, so they are not independent.
        ``effect_similarity``: agreement of all pairs, with an interval over perturbations.
        ``mantel_p``: its p value, which keeps the pairs of one perturbation together.

    References
    ----------
    Mantel, Cancer Research 27, 209 (1967).
    """
    if not cells.obs_names.equals(screen.cells):
        raise InputError(
            "These are not the cells that were divided, in their order: halve these first."
        )
    found = screen.similarities(embedding)
    single = []
    for halving, matrix in zip(screen.halvings, found, strict=True):
        others = ~np.eye(len(matrix), dtype=bool)
        pairs = (side[others].reshape(len(side), -1) for side in (matrix, halving.reference))
        single.append(pd.Series(spearman(*pairs), index=screen.names[halving.members]))
    alone = pd.concat(single, axis=1).mean(axis=1).loc[screen.names[screen.used]]
    n = screen.used.size
    draws = screen.used[np.random.default_rng(seed).integers(n, size=(n_boot, n))]
    low, high = np.nanquantile(screen.agreement(found, draws), [0.025, 0.975])
    whole = Interval(screen.agreement(found, screen.used), float(low), float(high), n)
    return {
        "effect_similarity_by_perturbation": alone.rename_axis("perturbation"),
        "effect_similarity": whole,
        "mantel_p": _mantel_p(screen, found, n_permutations, seed),
    }


def _unit_ranks(matrix: NDArray[Any]) -> NDArray[np.float64]:
    ranks = stats.rankdata(squareform(matrix, checks=False))
    return scale(ranks) / np.sqrt(ranks.size)


def _mantel_p(
    screen: Screen, similarities: Sequence[NDArray[Any]], n_permutations: int, seed: int
) -> float:
    """P value of the mean over halvings; one permutation of the names serves all halvings."""
    found = [_unit_ranks(matrix) for matrix in similarities]

    def mean_agreement(keys: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        total = np.zeros(keys.shape[:-1])
        for halving, ranks in zip(screen.halvings, found, strict=True):
            order = keys[..., halving.members].argsort(axis=-1).argsort(axis=-1)
            i, j = np.triu_indices(halving.members.size, 1)
            total += halving.ranks[order[..., i], order[..., j]] @ ranks
        return total

    names = (np.arange(len(screen.names)),)
    test = stats.permutation_test(
        names, mean_agreement, permutation_type="pairings", alternative="greater",
        n_resamples=n_permutations, vectorized=True, batch=100, rng=seed,
    )  # fmt: skip
    return float(test.pvalue)
