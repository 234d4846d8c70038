"""Perturbation response: whether knock-outs that change cells alike lie alike in a representation.

``as_published`` takes reference and embedding from the same cells and compares raw cosines.
``corrected`` takes them from different halves of the cells, against control, with centred ranks,
equal numbers of cells, perturbations with a proven effect, and the same set in every state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, rankdata, spearmanr

from sclin.benchmarks._cells import dataset_name, is_published
from sclin.benchmarks._embeddings import embeddings, relative_depths
from sclin.errors import InputError, nearest
from sclin.evaluation import Interval, result, results_table

__all__ = [
    "Halving",
    "PerturbationOutcome",
    "agreement",
    "center_ranks",
    "dose_order",
    "draw_halves",
    "effect_p_values",
    "effects",
    "mantel",
    "mean_shifts",
    "pathway_auc",
    "published_reference",
    "row_agreement",
    "run",
    "similarity",
    "thin",
]

_MIN_PERTURBATIONS = 4  # fewer give no more than three pairs to rank


# Cells -------------------------------------------------------------------------------------------


def _labels(adata: Any, column: str, control: str) -> NDArray[Any]:
    """Perturbation of each cell as text, checked for the control."""
    if column not in adata.obs:
        raise InputError(
            f"The cells have no column {column!r} in obs; name the column of perturbations "
            f"(present: {', '.join(map(str, adata.obs.columns)) or 'none'})."
            + nearest(column, adata.obs.columns)
        )
    values = adata.obs[column]
    missing = int(values.isna().sum())
    if missing:
        raise InputError(
            f"Column {column!r} lacks a value for {missing} of {len(values)} cells; "
            "drop these cells first."
        )
    labels = values.astype(str).to_numpy()
    present = sorted(set(labels))
    if control not in present:
        usual = ["non-targeting", "NT", "NTC", "control", "ctrl", "unperturbed"]
        hint = nearest(control, present)
        likely = [name for name in present if name.lower() in {u.lower() for u in usual}]
        if not hint and likely:
            hint = f" Did you mean {' or '.join(map(repr, likely))}?"
        raise InputError(
            f"No cell of column {column!r} has the control label {control!r}; the labels begin "
            f"{', '.join(map(repr, present[:5]))}. Give the label of unperturbed cells.{hint}"
        )
    return labels


def thin(
    adata: Any,
    *,
    perturbation: str = "perturbation",
    control: str = "control",
    n_cells: int = 500,
    only: Iterable[str] | None = None,
    seed: int = 0,
) -> Any:
    """Keep at most so many random cells of each perturbation, and five times as many controls.

    Parameters
    ----------
    adata
        AnnData, in memory or backed by its file; only the cells kept are read.
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

    Raises
    ------
    InputError
        When the column or the control is absent.
    """
    labels = _labels(adata, perturbation, control)
    wanted = set(labels) if only is None else {*only, control}
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(np.isin(labels, list(wanted))))
    place = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    limit = np.where(labels[order] == control, 5 * n_cells, n_cells)
    part = adata[np.sort(order[place < limit])]
    return part.to_memory() if part.isbacked else part.copy()


def draw_halves(
    labels: ArrayLike,
    perturbations: Iterable[str],
    *,
    control: str = "control",
    n_cells: int | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw the same number of cells of every perturbation and split them, and the controls, in two.

    Parameters
    ----------
    labels
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
    >>> labels = ["control"] * 4 + ["a"] * 4 + ["b"] * 4
    >>> first, second = draw_halves(labels, ["a", "b"])
    >>> len(first), len(second), len(set(first) & set(second))
    (6, 6, 0)
    """
    values = np.asarray(labels)
    rng = np.random.default_rng(seed)
    rows = {name: np.flatnonzero(values == name) for name in (*perturbations, control)}
    size = min(rows[name].size for name in perturbations) if n_cells is None else n_cells
    halves: tuple[list[Any], list[Any]] = ([], [])
    for name, cells in rows.items():
        half = (cells.size if name == control else min(size, cells.size)) // 2
        if half < 2:
            raise InputError(
                f"{name!r} has {cells.size} cells; two halves need at least two cells each."
            )
        drawn = rng.permutation(cells)
        halves[0].append(drawn[:half])
        halves[1].append(drawn[half : 2 * half])
    return np.concatenate(halves[0]), np.concatenate(halves[1])


# Differential expression -------------------------------------------------------------------------


def _averages(labels: ArrayLike, names: Sequence[str]) -> sparse.csr_matrix:
    """Matrix that averages cells by group, ``(n_groups, n_cells)``; cells of no group count not."""
    codes = pd.Index(names).get_indexer(pd.Index(np.asarray(labels)))
    rows = np.flatnonzero(codes >= 0)
    share = 1 / np.bincount(codes[rows], minlength=len(names))
    return sparse.csr_matrix((share[codes[rows]], (codes[rows], rows)), (len(names), codes.size))


def _differences(
    X: Any, labels: ArrayLike, perturbations: Iterable[str], control: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of means to control, and its standard error (Welch), gene by gene."""
    average = _averages(labels, [*perturbations, control])
    values, size = sparse.csr_matrix(X, dtype=np.float64), average.getnnz(axis=1)[:, None]
    mean = (average @ values).toarray()
    spread = np.maximum((average @ values.multiply(values)).toarray() - mean**2, 0)
    squared = spread / np.maximum(size - 1, 1)  # variance (n - 1) over n
    return mean[:-1] - mean[-1], np.sqrt(squared[:-1] + squared[-1])


def effects(
    X: Any,
    labels: ArrayLike,
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
    labels
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
    change, error = _differences(X, labels, perturbations, control)
    scaled = np.divide(change, error, out=np.zeros_like(change), where=error > 0)
    return np.sign(scaled) * np.maximum(np.abs(scaled) - shrink, 0)


def effect_p_values(
    X: Any,
    labels: ArrayLike,
    perturbations: Iterable[str],
    *,
    control: str = "control",
    own_gene: Mapping[str, int] | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Evidence that a perturbation changes the cells at all, by exchanging its cells with controls.

    The statistic is the mean over genes of the squared difference to control in units of the
    gene's sd; with few cells and sparse counts, tests gene by gene are not to be trusted.
    The perturbed gene itself is left out: that it falls proves the knock-out, not an effect.

    Parameters
    ----------
    X
        Log-normalised values, shape ``(n_cells, n_genes)``.
    labels
        Perturbation of each cell.
    perturbations, control
        Groups to test, and the label they are tested against.
    own_gene
        Column of each perturbation's own gene, where it is among the genes.
    n_permutations
        Number of exchanges; the smallest p value is ``1 / (n_permutations + 1)``.
    seed
        Seed of the exchanges.

    Returns
    -------
    ndarray
        One p value per perturbation.
    """
    values, perturbations = np.asarray(labels), list(perturbations)
    rng = np.random.default_rng(seed)
    base = _dense(X[np.flatnonzero(values == control)])
    p_values = np.ones(len(perturbations))
    for i, name in enumerate(perturbations):
        treated = _dense(X[np.flatnonzero(values == name)])
        pool = np.concatenate([treated, base])
        tested = pool.std(axis=0) > 0
        if own_gene and name in own_gene:
            tested[own_gene[name]] = False
        if not tested.any():
            continue
        pool = pool[:, tested]
        pool = (pool - pool.mean(axis=0)) / pool.std(axis=0)
        groups = np.zeros((n_permutations + 1, len(pool)), dtype=np.float32)
        groups[0, : len(treated)] = 1
        for b in range(n_permutations):
            groups[b + 1, rng.choice(len(pool), len(treated), replace=False)] = 1
        # The pool is centred, so the difference to the rest is proportional to the group's sum.
        strength = ((groups @ pool) ** 2).mean(axis=1)
        p_values[i] = (strength >= strength[0] * (1 - 1e-6)).mean()
    return p_values


def _dense(X: Any) -> NDArray[np.float32]:
    return np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float32)


# Similarity --------------------------------------------------------------------------------------


def center_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks of each row, less their mean; their cosine is Spearman's correlation.

    Parameters
    ----------
    values
        Shape ``(n_rows, n_genes)``.

    Returns
    -------
    ndarray
        Same shape.
    """
    ranks = rankdata(np.asarray(values), axis=1)
    return ranks - ranks.mean(axis=1, keepdims=True)


def similarity(rows: ArrayLike) -> NDArray[np.float64]:
    """Cosine between all rows; a row of zeros is similar to none.

    Parameters
    ----------
    rows
        Shape ``(n_rows, n_features)``.

    Returns
    -------
    ndarray
        Shape ``(n_rows, n_rows)``.

    Examples
    --------
    >>> similarity([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]])
    """
    values = np.asarray(rows, dtype=float)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
    return unit @ unit.T


def _pairs(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangle of one square matrix or of a stack of them."""
    i, j = np.triu_indices(matrix.shape[-1], 1)
    return matrix[..., i, j]


def _correlate(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman of each row of b with a; 0 where one side is constant."""
    x, y = center_ranks(np.atleast_2d(a))[0], center_ranks(np.atleast_2d(b))
    norm = np.sqrt((x @ x) * (y * y).sum(axis=1))
    return np.divide(y @ x, norm, out=np.zeros_like(norm), where=norm > 0)


def agreement(reference: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation between the pairs of the reference and those of each candidate.

    Parameters
    ----------
    reference
        Similarity of perturbations, shape ``(p, p)``.
    candidates
        One matrix or a stack, shape ``(n_candidates, p, p)``.

    Returns
    -------
    ndarray
        Shape ``(n_candidates,)``.
    """
    stack = np.asarray(candidates, dtype=float)
    stack = stack[None] if stack.ndim == 2 else stack
    return _correlate(_pairs(np.asarray(reference, dtype=float)), _pairs(stack))


def row_agreement(reference: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
    """Agreement perturbation by perturbation: Spearman over the pairs that hold it.

    Parameters
    ----------
    reference
        Shape ``(p, p)``.
    candidates
        Shape ``(n_candidates, p, p)``.

    Returns
    -------
    ndarray
        Shape ``(p, n_candidates)``; rows share pairs, so they are not independent.
    """
    goal, stack = np.asarray(reference, dtype=float), np.asarray(candidates, dtype=float)
    others = ~np.eye(goal.shape[0], dtype=bool)
    return np.array(
        [_correlate(goal[i, others[i]], stack[:, i, others[i]]) for i in range(goal.shape[0])]
    )


def mantel(
    reference: ArrayLike,
    candidate: ArrayLike,
    *,
    partial: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> tuple[float, float]:
    """Mantel test: correlation of two similarity matrices, p value by permuting labels.

    Pairs that share a perturbation are not independent, so the usual p value of a correlation over
    pairs is far too small; permuting whole rows and columns keeps the dependence.

    Parameters
    ----------
    reference, candidate
        Shape ``(p, p)``.
    partial
        A third matrix, such as differences of depth, taken out of both by regression on ranks.
    n_permutations
        Number of permutations; the smallest p value is ``1 / (n_permutations + 1)``.
    seed
        Seed of the permutations.

    Returns
    -------
    tuple of float
        Spearman correlation, and one-sided p value for a larger one.

    References
    ----------
    Mantel, Cancer Research 27, 209 (1967).
    Smouse, Long and Sokal, Systematic Zoology 35, 627 (1986).
    """
    goal, other = (_rank_matrix(m) for m in (reference, candidate))
    if partial is not None:
        third = _rank_matrix(partial)
        goal, other = (_residual(m, third) for m in (goal, other))
    observed = _cosine(_pairs(goal), _pairs(other))
    rng = np.random.default_rng(seed)
    null = np.empty(n_permutations)
    for b in range(n_permutations):
        order = rng.permutation(goal.shape[0])
        null[b] = _cosine(_pairs(goal[np.ix_(order, order)]), _pairs(other))
    return observed, float((1 + (null >= observed - 1e-12).sum()) / (n_permutations + 1))


def _rank_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """Symmetric matrix of the centred ranks of the upper triangle, zero diagonal."""
    values = np.asarray(matrix, dtype=float)
    i, j = np.triu_indices(values.shape[0], 1)
    ranks = np.zeros(values.shape)
    ranks[i, j] = center_ranks(values[i, j][None])[0]
    return ranks + ranks.T


def _residual(matrix: NDArray[np.float64], third: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = _pairs(matrix), _pairs(third)
    norm = b @ b
    return matrix - (a @ b / norm if norm > 0 else 0.0) * third


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


# Dose and pathway --------------------------------------------------------------------------------


def dose_order(rows: ArrayLike, doses: ArrayLike) -> float:
    """Whether effects grow alike with dose: Spearman of dose with the cosine to the top dose.

    Parameters
    ----------
    rows
        Difference to control at each dose, shape ``(n_doses, n_features)``.
    doses
        Dose of each row, three different ones or more, any unit.

    Returns
    -------
    float
        From -1 to 1, over the doses below the top one and their order.

    Raises
    ------
    InputError
        When there are fewer than three doses below the top one, or a dose twice.
    """
    values, amounts = np.asarray(rows, dtype=float), np.asarray(doses, dtype=float)
    if np.unique(amounts).size != amounts.size or amounts.size < 4:
        raise InputError(
            f"Doses {amounts.tolist()} are not four or more different ones; "
            "the order below the top dose needs three."
        )
    order = np.argsort(amounts)
    to_top = similarity(values[order])[-1, :-1]
    return float(_correlate(amounts[order][:-1], to_top)[0])


def pathway_auc(
    matrix: ArrayLike, pathways: ArrayLike, *, n_permutations: int = 999, seed: int = 0
) -> tuple[float, float]:
    """Whether perturbations of one pathway are more alike than others: AUROC over pairs.

    Parameters
    ----------
    matrix
        Similarity of perturbations, shape ``(p, p)``.
    pathways
        Pathway of each perturbation, shape ``(p,)``.
    n_permutations, seed
        Permutations of the pathway labels, and their seed.

    Returns
    -------
    tuple of float
        AUROC (0.5 is chance), and one-sided p value.

    Raises
    ------
    InputError
        When no pair shares a pathway, or all do.
    """
    labels = np.asarray(pathways)
    ranks = rankdata(_pairs(np.asarray(matrix, dtype=float)))

    def auc(names: NDArray[Any]) -> float:
        positive = _pairs(names[:, None] == names[None, :])
        n = positive.sum()
        return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (ranks.size - n)))

    together = _pairs(labels[:, None] == labels[None, :])
    if together.all() or not together.any():
        raise InputError(
            f"{int(together.sum())} of {together.size} pairs share a pathway; "
            "give labels under which some pairs do and some do not."
        )
    rng = np.random.default_rng(seed)
    observed = auc(labels)
    null = np.array([auc(rng.permutation(labels)) for _ in range(n_permutations)])
    return observed, float((1 + (null >= observed - 1e-12).sum()) / (n_permutations + 1))


# The two protocols -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halving:
    """Similarities of one seeded halving in one state.

    Attributes
    ----------
    members
        Position of each row among all the perturbations that have enough cells.
    reference
        Similarity in differential expression, shape ``(p, p)``.
    candidates
        Similarity in each representation, shape ``(n_representations, p, p)``.
    """

    members: NDArray[np.intp]
    reference: NDArray[np.float64]
    candidates: NDArray[np.float64]

    def among(self, chosen: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pairs between the perturbations chosen (repeats allowed; pairs with itself left out)."""
        places = np.full(max(self.members.max(), np.max(chosen)) + 1, -1)
        places[self.members] = np.arange(self.members.size)
        rows = places[np.asarray(chosen)]
        rows = rows[rows >= 0]
        i, j = np.triu_indices(rows.size, 1)
        a, b = rows[i], rows[j]
        a, b = a[a != b], b[a != b]
        return self.reference[a, b], self.candidates[:, a, b]


@dataclass(frozen=True)
class PerturbationOutcome:
    """What a perturbation run found.

    Attributes
    ----------
    results
        Rows of the results table, one state after the other (column ``split`` names the state).
    perturbations
        What became of each perturbation: smallest cell number over states, share of halvings in
        which its effect was proven in at least one state, and ``status``.
    units
        Score of each perturbation, by state: index perturbation, columns representations.
    halvings
        Similarities by state, for `score`.
    representations
        Names, in the order of the stacks.
    """

    results: pd.DataFrame
    perturbations: pd.DataFrame
    units: dict[str, pd.DataFrame] = field(default_factory=dict)
    halvings: dict[str, list[Halving]] = field(default_factory=dict)
    representations: tuple[str, ...] = ()

    def score(self, state: str, perturbations: ArrayLike | None = None) -> NDArray[np.float64]:
        """Score of every representation on some of the perturbations.

        Parameters
        ----------
        state
            State of the cells.
        perturbations
            Positions in the table of perturbations with enough cells; repeats count as often as
            they stand there. All by default.

        Returns
        -------
        ndarray
            Shape ``(n_representations,)``: mean over the halvings that have three pairs or
            more; NaN when none has.
        """
        return _mean_score(self.halvings[state], perturbations)


def _mean_score(halvings: Sequence[Halving], chosen: ArrayLike | None) -> NDArray[np.float64]:
    scores = []
    for halving in halvings:
        goal, found = halving.among(halving.members if chosen is None else chosen)
        if goal.size >= 3:
            scores.append(_correlate(goal, found))
    if not scores:
        return np.full(halvings[0].candidates.shape[0], np.nan)
    return np.mean(scores, axis=0)


def run(
    adata: Any,
    representations: Mapping[str, Any] | Iterable[str],
    *,
    protocol: str = "corrected",
    perturbation: str = "perturbation",
    control: str = "control",
    state: str | None = "condition",
    min_cells: int | None = None,
    n_halvings: int = 5,
    alpha: float = 0.05,
    n_boot: int = 200,
    n_permutations: int = 999,
    dataset: str | None = None,
    seed: int = 0,
) -> PerturbationOutcome:
    """Score representations by the similarity of perturbation effects.

    Parameters
    ----------
    adata
        AnnData with counts, or log values flagged as such.
    representations
        Names, or a mapping from name to array of shape ``(n_cells, n_features)``.
    protocol
        ``corrected`` or ``as_published``; see the module.
    perturbation, control
        Column of ``obs`` with the perturbation, and the label of control cells in it.
    state
        Column of ``obs`` with the state of the cells, scored one by one; ``None`` for one state.
    min_cells
        Perturbations with fewer cells in a state are left out and listed; by default 20 for
        ``corrected`` and 5 for ``as_published``.
    n_halvings
        Seeded halvings that are averaged (corrected).
    alpha
        False discovery rate at which an effect counts as proven (corrected).
    n_boot, n_permutations
        Resamples of the perturbations, and permutations of the Mantel test.
    dataset
        Name in the results; by default what ``adata.uns["sclin"]`` says.
    seed
        Seed of halvings, bootstrap and permutations.

    Returns
    -------
    PerturbationOutcome

    Raises
    ------
    InputError
        When labels cannot be used, or fewer than four perturbations remain.
    """
    published = is_published(protocol)
    labels = _labels(adata, perturbation, control)
    states = _states(adata, state)
    arrays = embeddings(adata, representations)
    common = {
        "task": "perturbation",
        "dataset": dataset or dataset_name(adata),
        "protocol": protocol,
        "seed": seed,
    }
    depths = relative_depths(arrays)
    if published:
        return _published(adata, arrays, labels, states, control, min_cells or 5, common, depths)
    return _corrected(
        adata,
        arrays,
        labels,
        states,
        control=control,
        min_cells=min_cells or 20,
        n_halvings=n_halvings,
        alpha=alpha,
        n_boot=n_boot,
        n_permutations=n_permutations,
        common=common,
        depths=depths,
    )


def _states(adata: Any, state: str | None) -> dict[str, NDArray[np.intp]]:
    """Rows of each state, in order of first appearance."""
    if state is None:
        return {"all": np.arange(adata.n_obs)}
    if state not in adata.obs:
        raise InputError(
            f"The cells have no column {state!r} in obs; name the column of states, or give None "
            "for one state." + nearest(state, adata.obs.columns)
        )
    values = adata.obs[state].astype(str).to_numpy()
    return {str(name): np.flatnonzero(values == name) for name in pd.unique(values)}


def _cell_numbers(
    labels: NDArray[Any], states: Mapping[str, NDArray[np.intp]], control: str, min_cells: int
) -> pd.DataFrame:
    """Cells of each perturbation by state; ``status`` says which are too few."""
    counts = pd.DataFrame({s: pd.Series(labels[rows]).value_counts() for s, rows in states.items()})
    counts = counts.fillna(0).astype(int).sort_index()
    poor = [s for s in counts if control not in counts.index or counts[s][control] < min_cells]
    if poor:
        raise InputError(
            f"Control {control!r} has fewer than {min_cells} cells in state {poor[0]!r}; "
            "lower min_cells or leave this state out."
        )
    table = counts.drop(index=control).rename_axis("perturbation")
    smallest = table.min(axis=1)
    table["status"] = np.where(smallest >= min_cells, "kept", f"fewer than {min_cells} cells")
    kept = int((table["status"] == "kept").sum())
    if kept < _MIN_PERTURBATIONS:
        few = ", ".join(f"{name} ({smallest[name]})" for name in table.index[:10])
        raise InputError(
            f"{kept} perturbations have {min_cells} cells or more in every state; "
            f"{_MIN_PERTURBATIONS} are needed. Smallest cell numbers: {few}. Lower min_cells."
        )
    return table


def _own_genes(adata: Any, names: Iterable[str]) -> dict[str, int]:
    """Column of the gene that each perturbation is named after, where there is one."""
    ids = {str(gene): i for i, gene in enumerate(adata.var_names)}
    if "symbol" in adata.var:
        ids = {str(symbol): i for i, symbol in enumerate(adata.var["symbol"])} | ids
    return {name: ids[name] for name in names if name in ids}


def _corrected(
    adata: Any,
    arrays: Mapping[str, NDArray[np.floating]],
    labels: NDArray[Any],
    states: Mapping[str, NDArray[np.intp]],
    *,
    control: str,
    min_cells: int,
    n_halvings: int,
    alpha: float,
    n_boot: int,
    n_permutations: int,
    common: dict[str, Any],
    depths: Mapping[str, float],
) -> PerturbationOutcome:
    from sclin.representations import log_normalize

    table = _cell_numbers(labels, states, control, min_cells)
    candidates = table.index[table["status"] == "kept"]
    n_cells = int(table.loc[candidates, list(states)].to_numpy().min())
    X = sparse.csr_matrix(log_normalize(adata))
    own = _own_genes(adata, candidates)
    halvings: dict[str, list[Halving]] = {name: [] for name in states}
    proven = np.zeros(len(candidates))
    for h in range(n_halvings):
        cells = {
            name: draw_halves(
                labels[rows],
                candidates,
                control=control,
                n_cells=n_cells,
                seed=common["seed"] * 1000 + h,
            )
            for name, rows in states.items()
        }
        members = np.flatnonzero(_proven(X, labels, states, cells, candidates, control, own, alpha))
        proven[members] += 1 / n_halvings
        if members.size < _MIN_PERTURBATIONS:
            raise InputError(
                f"Halving {h}: {members.size} of {len(candidates)} perturbations have an effect "
                f"that is proven in any state at a false discovery rate of {alpha}; "
                f"{_MIN_PERTURBATIONS} are needed. Raise alpha, or bring more cells of each."
            )
        for name, rows in states.items():
            first, second = (rows[half] for half in cells[name])
            names = candidates[members]
            goal = similarity(
                center_ranks(effects(X[first], labels[first], names, control=control))
            )
            stack = [
                similarity(mean_shifts(a[second], labels[second], names, control=control))
                for a in arrays.values()
            ]
            halvings[name].append(Halving(members, goal, np.array(stack)))
    table["proven"] = pd.Series(proven, index=candidates)
    note = (
        f"{int((proven > 0).sum())} of {len(table)} perturbations; {n_cells // 2} cells of each in "
        f"each half; {n_halvings} halvings"
    )
    rows_out = []
    for name, found in halvings.items():
        intervals = _bootstrap(found, n_boot, common["seed"])
        p_values = _mantel_mean(found, len(candidates), n_permutations, common["seed"])
        for k, rep in enumerate(arrays):
            extra = {
                **common,
                "representation": rep,
                "relative_depth": depths.get(rep, np.nan),
                "split": name,
                "note": note,
            }
            rows_out.append(result(**extra, metric="effect_similarity", value=intervals[k]))
            rows_out.append(
                result(
                    **extra,
                    metric="mantel_p",
                    value=float(p_values[k]),
                    n=intervals[k].n,
                    higher_is_better=False,
                )
            )
    units = {name: _unit_scores(found, candidates, arrays) for name, found in halvings.items()}
    return PerturbationOutcome(results_table(rows_out), table, units, halvings, tuple(arrays))


def _proven(
    X: sparse.csr_matrix,
    labels: NDArray[Any],
    states: Mapping[str, NDArray[np.intp]],
    cells: Mapping[str, tuple[NDArray[np.intp], NDArray[np.intp]]],
    candidates: pd.Index,
    control: str,
    own: Mapping[str, int],
    alpha: float,
) -> NDArray[np.bool_]:
    """Perturbations with an effect in at least one state, tested on the reference halves only."""
    p_values = []
    for name, rows in states.items():
        first = rows[cells[name][0]]
        options: dict[str, Any] = {"control": control, "own_gene": own, "n_permutations": 399}
        p_values.append(effect_p_values(X[first], labels[first], candidates, **options))
    # One correction over states and perturbations together.
    adjusted = false_discovery_control(np.concatenate(p_values)).reshape(len(states), -1)
    return (adjusted <= alpha).any(axis=0)


def mean_shifts(
    matrix: ArrayLike, labels: ArrayLike, perturbations: Iterable[str], *, control: str = "control"
) -> NDArray[np.float64]:
    """Mean of each perturbation less the mean of the control.

    Parameters
    ----------
    matrix
        Representation, shape ``(n_cells, n_features)``.
    labels
        Perturbation of each cell, shape ``(n_cells,)``.
    perturbations, control
        Groups to average, and the one to take off.

    Returns
    -------
    ndarray
        Shape ``(n_perturbations, n_features)``.

    Examples
    --------
    >>> mean_shifts([[1.0], [3.0], [0.0], [1.0]], ["a", "a", "control", "control"], ["a"])
    array([[1.5]])
    """
    mean = _averages(labels, [*perturbations, control]) @ np.asarray(matrix, dtype=float)
    return mean[:-1] - mean[-1]


def _bootstrap(halvings: Sequence[Halving], n_boot: int, seed: int) -> list[Interval]:
    """Intervals over the perturbations that were ever proven, the same resamples for all."""
    used = np.unique(np.concatenate([h.members for h in halvings]))
    value = _mean_score(halvings, None)
    rng = np.random.default_rng(seed)
    draws = np.array([_mean_score(halvings, rng.choice(used, used.size)) for _ in range(n_boot)])
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return [
        Interval(float(v), float(a), float(b), used.size)
        for v, a, b in zip(value, low, high, strict=True)
    ]


def _mantel_mean(
    halvings: Sequence[Halving], n_candidates: int, n_permutations: int, seed: int
) -> NDArray[np.float64]:
    """Mantel p value of the mean over halvings; one permutation serves all halvings."""
    ranked = [
        (
            _rank_matrix(h.reference),
            np.array([center_ranks(_pairs(c)[None])[0] for c in h.candidates]),
        )
        for h in halvings
    ]
    norms = [np.sqrt((_pairs(a) ** 2).sum() * (b**2).sum(axis=1)) for a, b in ranked]

    def mean(orders: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
        total = np.zeros(ranked[0][1].shape[0])
        for (goal, found), norm, order in zip(ranked, norms, orders, strict=True):
            value = found @ _pairs(goal[np.ix_(order, order)])
            total += np.divide(value, norm, out=np.zeros_like(norm), where=norm > 0)
        return total / len(ranked)

    observed = mean([np.arange(h.members.size) for h in halvings])
    rng = np.random.default_rng(seed)
    exceed = np.zeros(observed.size)
    for _ in range(n_permutations):
        keys = rng.random(n_candidates)
        exceed += mean([np.argsort(np.argsort(keys[h.members])) for h in halvings]) >= (
            observed - 1e-12
        )
    return (1 + exceed) / (n_permutations + 1)


def _unit_scores(
    halvings: Sequence[Halving], candidates: pd.Index, arrays: Mapping[str, Any]
) -> pd.DataFrame:
    """Row-wise score of each perturbation, mean over the halvings in which it was proven."""
    total = np.zeros((len(candidates), len(arrays)))
    count = np.zeros(len(candidates))
    for halving in halvings:
        total[halving.members] += row_agreement(halving.reference, halving.candidates)
        count[halving.members] += 1
    used = count > 0
    scores = total[used] / count[used, None]
    return pd.DataFrame(scores, index=candidates[used], columns=list(arrays))


# As published ------------------------------------------------------------------------------------


def published_reference(
    X: Any,
    labels: ArrayLike,
    perturbations: Iterable[str],
    *,
    control: str = "control",
    n_top: int = 500,
) -> NDArray[np.float64]:
    """Reference similarity of the published code: top genes by t, zeros elsewhere, raw ranks.

    Parameters
    ----------
    X
        Values as they lie in the file, shape ``(n_cells, n_genes)``; nothing is normalised.
    labels
        Perturbation of each cell.
    perturbations, control
        Groups to compare, and the label they are compared with.
    n_top
        Genes kept per perturbation.

    Returns
    -------
    ndarray
        Cosine of ranks that were not centred, shape ``(p, p)``; all values lie near 1.
    """
    change, error = _differences(X, labels, perturbations, control)
    strength = np.abs(change / (error + 1e-8))
    top = np.argsort(-strength, axis=1, kind="stable")[:, :n_top]
    kept = np.zeros_like(change)
    np.put_along_axis(kept, top, np.take_along_axis(change, top, axis=1), axis=1)
    union = np.unique(top)
    return similarity(rankdata(kept[:, union], axis=1))


def _published(
    adata: Any,
    arrays: Mapping[str, NDArray[np.floating]],
    labels: NDArray[Any],
    states: Mapping[str, NDArray[np.intp]],
    control: str,
    min_cells: int,
    common: dict[str, Any],
    depths: Mapping[str, float],
) -> PerturbationOutcome:
    """Same cells on both sides, every perturbation of a state, no control taken off."""
    X = adata.raw.X if adata.raw is not None else adata.X
    out, halvings, tables = [], {}, {}
    for name, rows in states.items():
        table = _cell_numbers(labels, {name: rows}, control, min_cells)
        names = table.index[table["status"] == "kept"]
        goal = published_reference(X[rows], labels[rows], names, control=control)
        off = _pairs(goal)
        stack = []
        for rep, array in arrays.items():
            means = mean_shifts(array[rows], labels[rows], names, control=control)
            means += array[rows[labels[rows] == control]].mean(axis=0)  # centroids, not shifts
            stack.append(similarity(means))
            score = spearmanr(off, _pairs(stack[-1]))
            extra = {
                **common,
                "representation": rep,
                "relative_depth": depths.get(rep, np.nan),
                "split": name,
                "n": len(names),
                "note": f"{len(table) - len(names)} perturbations with under {min_cells} cells "
                f"left out; reference cosines {off.min():.3f} to {off.max():.3f}",
            }
            value = float(np.nan_to_num(score.statistic))
            out.append(result(**extra, metric="effect_similarity", value=value))
            p_value = float(np.nan_to_num(score.pvalue, nan=1.0))
            out.append(result(**extra, metric="pair_p", value=p_value, higher_is_better=False))
        halvings[name] = [Halving(np.arange(len(names)), goal, np.array(stack))]
        tables[name] = table
    together = pd.concat(tables, names=["state"]) if len(tables) > 1 else table
    return PerturbationOutcome(results_table(out), together, {}, halvings, tuple(arrays))
