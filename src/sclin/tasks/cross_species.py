"""Cross-species transfer: learn cell types in one species, name the cells of another.

The published protocol ranks each species on its own genes, takes any ortholog pair, and averages
the species matrix with its diagonal.
The corrected one keeps one-to-one orthologs, cuts both sides before the transform, crosses every
representation with every head, and averages true transfers only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import train_test_split

from sclin import published
from sclin.benchmarks._cells import dataset_name, is_published, open_cells
from sclin.errors import InputError, nearest
from sclin.evaluation import (
    Interval,
    bootstrap,
    classification_metrics,
    macro_f1_interval,
    result,
    results_table,
)
from sclin.normalization import rank_normalize
from sclin.projection import CentroidProjection
from sclin.representations import Predictions, column, fit_heads, representation

__all__ = [
    "CrossSpeciesOutcome",
    "cut_to_orthologs",
    "load_species",
    "off_diagonal_mean",
    "published_averages",
    "read_orthologs",
    "run",
    "seed_spread",
    "transfer",
]

_TASK = "cross_species"
#: Metric by which types are scored.
METRIC = {"shared": "macro_f1", "all": "macro_f1_all_types"}
Orthologs = Callable[[str, str], pd.DataFrame] | Mapping[tuple[str, str], pd.DataFrame]


def load_species(specs: Sequence[str]) -> dict[str, AnnData]:
    """Load the cells of several species.

    Parameters
    ----------
    specs
        ``"species dataset"``, where the dataset may carry options, as in
        ``"gorilla testis:species=gorilla"``.

    Returns
    -------
    dict
        Cells by species.

    Raises
    ------
    InputError
        When an entry names no dataset.
    """
    cells = {}
    for spec in specs:
        name, _, dataset = spec.strip().partition(" ")
        if not dataset.strip():
            raise InputError(
                f"{spec!r} names no dataset; write 'species dataset', as in 'human baron_human'."
            )
        cells[name] = open_cells(dataset.strip())[1]
    return cells


def read_orthologs(folder: str | Path) -> Callable[[str, str], pd.DataFrame]:
    """Ortholog tables of your own, one file a pair of species.

    Parameters
    ----------
    folder
        Holds ``human_mouse.csv`` and the like: columns ``source`` (genes of the first species),
        ``target`` and ``kind``; Ensembl's ``ortholog_one2one`` is read as ``one2one``.
        A file serves both directions.

    Returns
    -------
    callable
        Function of two species that returns their table, for `run`.

    Raises
    ------
    InputError
        By the function, when there is no file of the two species.
    """

    def pairs(source: str, target: str) -> pd.DataFrame:
        there, back = (Path(folder) / f"{a}_{b}.csv" for a, b in permutations((source, target)))
        if not there.exists() and not back.exists():
            raise InputError(
                f"There is no ortholog table for {source} to {target}: neither {there.name} nor "
                f"{back.name} lies in {str(folder)!r}. Export it from Ensembl BioMart, with the "
                "columns source, target and kind."
            )
        table = pd.read_csv(there if there.exists() else back, dtype=str)
        if not there.exists():
            table = table.rename(columns={"source": "target", "target": "source"})
        if "kind" in table:
            table["kind"] = table["kind"].str.removeprefix("ortholog_")
        return table

    return pairs


def _pairs_of(orthologs: Any, source: str, target: str, kind: str | None) -> pd.DataFrame:
    """Ortholog pairs as columns source and target, from a table either way round."""
    if hasattr(orthologs, "pairs"):
        return orthologs.pairs(source, target, kind=kind)
    if callable(orthologs):
        table = orthologs(source, target)
    else:
        table = orthologs.get((source, target))
        if table is None and (target, source) in orthologs:
            table = orthologs[target, source].rename(
                columns={"source": "target", "target": "source"}
            )
        if table is None:
            known = [f"{a} to {b}" for a, b in orthologs]
            raise InputError(
                f"There is no ortholog table for {source} to {target}; there are "
                f"{', '.join(known) or 'none'}. Add one with columns source, target and kind."
                + nearest(f"{source} to {target}", known)
            )
    missing = {"source", "target"} - set(table.columns)
    if missing:
        raise InputError(
            f"The ortholog table of {source} and {target} lacks the columns {sorted(missing)}; "
            f"it has {list(table.columns)}."
        )
    if kind is not None and "kind" in table.columns:
        table = table[table["kind"] == kind]
    return table


def _one_to_one(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs whose genes occur once on each side."""
    once = ~pairs["source"].duplicated(keep=False) & ~pairs["target"].duplicated(keep=False)
    return pairs[once]


def cut_to_orthologs(
    source: AnnData, target: AnnData, pairs: pd.DataFrame
) -> tuple[AnnData, AnnData, int]:
    """Cut two species to their one-to-one orthologs, in one order, under the source's names.

    Do this before ranking: a rank depends on which other genes are ranked.

    Parameters
    ----------
    source, target
        Cells of the two species.
    pairs
        Ortholog pairs: columns ``source`` and ``target``, gene ids as in ``var_names``. Genes that
        occur in several pairs are left out.

    Returns
    -------
    source, target : AnnData
        Both with the shared genes only.
    n_lost : int
        Pairs of the table that are not used: several partners, or a gene not measured.

    Raises
    ------
    InputError
        When no pair is measured on both sides.

    Examples
    --------
    >>> a = AnnData(np.eye(2), var=pd.DataFrame(index=["A1", "B1"]))
    >>> b = AnnData(np.eye(2), var=pd.DataFrame(index=["b1", "c1"]))
    >>> table = pd.DataFrame({"source": ["A1", "B1"], "target": ["a1", "b1"]})
    >>> left, right, lost = cut_to_orthologs(a, b, table)
    >>> list(right.var_names), lost
    (['B1'], 1)
    """
    clean = _one_to_one(pairs)
    in_source = source.var_names.get_indexer(clean["source"])
    in_target = target.var_names.get_indexer(clean["target"])
    both = (in_source >= 0) & (in_target >= 0)
    if not both.any():
        raise InputError(
            f"No ortholog pair is measured on both sides: the table has pairs like "
            f"{clean.head(2)[['source', 'target']].to_numpy().tolist()}, the cells have genes like "
            f"{source.var_names[:2].tolist()} and {target.var_names[:2].tolist()}. "
            "Use one kind of gene id, symbols or Ensembl, in all three."
        )
    order = np.argsort(in_source[both])
    rows, columns = in_source[both][order], in_target[both][order]
    left, right = _columns(source, rows), _columns(target, columns)
    right.var_names = left.var_names
    return left, right, len(pairs) - int(both.sum())


def _columns(adata: AnnData, genes: NDArray[np.intp]) -> AnnData:
    """Genes of an AnnData, without a copy of anything else."""
    X = adata.X if sparse.issparse(adata.X) else sparse.csr_matrix(adata.X)
    return AnnData(
        X[:, genes].tocsr(), obs=adata.obs, var=adata.var.iloc[genes], uns=dict(adata.uns)
    )


@dataclass(frozen=True)
class CrossSpeciesOutcome:
    """What `run` found.

    Attributes
    ----------
    results
        The tidy results table.
    scores
        One row per transfer, types, representation and head: ``source``, ``target``, ``types``,
        ``representation``, ``head``, ``macro_f1``, ``ci_low``, ``ci_high``, ``accuracy``, ``n``,
        ``n_types``, ``n_genes``, ``pairs_lost``, ``left_out``.
    predictions
        `Predictions` by ``(source, target, types, representation, head)``.
    """

    results: pd.DataFrame
    scores: pd.DataFrame
    predictions: dict[tuple[str, str, str, str, str], Predictions]

    def matrix(
        self, representation: str, head: str, *, types: str = "shared", value: str = "macro_f1"
    ) -> pd.DataFrame:
        """One score as a matrix, rows the species learnt from, columns the species named.

        Parameters
        ----------
        representation, head, types
            Which method, and which types.
        value
            Column of ``scores``.

        Returns
        -------
        DataFrame
            The diagonal is missing unless the protocol gives one.
        """
        table = self.scores[
            (self.scores["representation"] == representation)
            & (self.scores["head"] == head)
            & (self.scores["types"] == types)
        ]
        if table.empty:
            known = self.scores[["representation", "head", "types"]].drop_duplicates()
            raise InputError(
                f"{representation} with {head} on {types} types was not run; there are "
                f"{known.to_numpy().tolist()}."
            )
        species = list(dict.fromkeys([*self.scores["source"], *self.scores["target"]]))
        return table.pivot(index="source", columns="target", values=value).reindex(
            index=species, columns=species
        )


def off_diagonal_mean(matrix: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> Interval:
    """Mean over true transfers, with a bootstrap interval over species.

    Parameters
    ----------
    matrix
        Square, species by species.
    n_boot, seed
        Resamples of the species, and seed. A resample drops pairs of a species with itself.

    Returns
    -------
    Interval
        ``n`` is the number of species. With two species there is nothing to resample and the
        interval is missing.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.5, 0.4], [0.6, 1.0, 0.5], [0.4, 0.6, 1.0]])
    >>> off_diagonal_mean(table).value
    0.5
    """
    values = matrix.to_numpy(dtype=float)

    def mean(chosen: NDArray[np.intp]) -> float:
        pairs = values[np.ix_(chosen, chosen)][chosen[:, None] != chosen[None, :]]
        known = pairs[np.isfinite(pairs)]
        return float(known.mean()) if known.size else float("nan")

    species = np.arange(len(values))
    if species.size < 3:
        return Interval(mean(species), float("nan"), float("nan"), species.size)
    return bootstrap(mean, species, n_boot=n_boot, seed=seed)


def published_averages() -> pd.DataFrame:
    """Averages of the published species matrices, with and without the diagonal.

    Returns
    -------
    DataFrame
        Index method; ``stated`` (the average as printed), ``mean`` (of the stored matrix with its
        diagonal, or of the bars listed), ``mean_off_diagonal`` (true transfers only, where the
        matrix is stored) and ``n`` (transfers, or bars).
    """
    table = published.table("crossspecies")
    table = table[table["metric"] == "f1_macro"]
    rows = {}
    for method, group in table.groupby("method", sort=False):
        square = group[group["kind"] == "matrix"].pivot(
            index="basis_species", columns="target_species", values="value"
        )
        bars = group[group["kind"] == "average_by_source"].set_index("basis_species")["value"]
        row = {"stated": bars.get("Average", np.nan)}
        listed = bars.drop("Average", errors="ignore")
        if len(square):
            values = square.to_numpy(dtype=float)
            off = square.index.to_numpy()[:, None] != square.columns.to_numpy()[None, :]
            row |= {"mean": values.mean(), "mean_off_diagonal": values[off].mean(), "n": off.sum()}
        elif len(listed):
            row |= {"mean": listed.mean(), "mean_off_diagonal": np.nan, "n": len(listed)}
        else:
            continue
        rows[method] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def transfer(
    source: AnnData,
    target: AnnData,
    *,
    label: str = "cell_type",
    representations: Sequence[str] = ("lognorm", "hvg_pca", "rank", "rank_pca"),
    heads: Sequence[str] = ("logistic", "projection", "knn", "centroid"),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> dict[tuple[str, str], Predictions]:
    """Fit on all source cells, predict all target cells; both have the same genes.

    Parameters
    ----------
    source, target
        Cells with equal ``var_names``, see `cut_to_orthologs`.
    label
        Column of ``obs``.
    representations, heads
        Names.
    options
        Options by representation or head.
    seed
        Seed of representations and heads.

    Returns
    -------
    dict
        `Predictions` by ``(representation, head)``; ``cell`` is the row in ``target``.
    """
    if not source.var_names.equals(target.var_names):
        raise InputError(
            f"Source and target have {source.n_vars} and {target.n_vars} genes that are not the "
            "same in the same order; call cut_to_orthologs first."
        )
    options = options or {}
    y_source = column(source, label).astype(str).to_numpy()
    y_target = column(target, label).astype(str).to_numpy()
    classes = np.unique(np.concatenate([y_source, y_target]))
    unseen = int((~np.isin(y_target, np.unique(y_source))).sum())
    found = {}
    for name in representations:
        transformer = representation(name, **{"seed": seed, **options.get(name, {})}).fit(source)
        for kind, predicted, proba in fit_heads(
            name, heads, y_source, source=source,
            train=cache(partial(transformer.transform, source)),
            test=transformer.transform(target), classes=classes, options=options, seed=seed,
        ):  # fmt: skip
            found[name, kind] = Predictions(
                y_true=y_target,
                y_pred=predicted,
                cell=np.arange(target.n_obs),
                split=np.full(target.n_obs, "target", dtype=object),
                proba=proba,
                classes=classes,
                n_unseen=unseen,
            )
    return found


def run(
    adatas: Mapping[str, AnnData],
    orthologs: Any,
    *,
    label: str = "cell_type",
    donor: str = "donor",
    protocol: str = "corrected",
    representations: Sequence[str] = ("lognorm", "hvg_pca", "rank", "rank_pca"),
    heads: Sequence[str] = ("logistic", "projection", "knn", "centroid"),
    types: Sequence[str] = ("shared", "all"),
    min_cells: int = 20,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> CrossSpeciesOutcome:
    """Transfer cell types between all pairs of species, both ways.

    Parameters
    ----------
    adatas
        Cells of two species or more, by name.
    orthologs
        An object with ``pairs(source, target, kind=)``, a function of two species, or a mapping
        from ``(source, target)`` to a table with columns ``source``, ``target`` and ``kind``.
    label, donor
        Columns of ``obs``; the interval resamples the target's donors where there are some.
    protocol
        ``corrected``, or ``as_published``: projection only, 90 % of the source cells of types with
        more than 50, ortholog pairs of any kind with the first kept, ranks over different genes on
        the two sides, the remaining 10 % as the diagonal.
    representations, heads
        Names; used when ``corrected``.
    types
        ``shared``: both sides cut to the types they share. ``all``: every source type is learnt
        and every target cell is named.
    min_cells
        Smallest type of the source; with ``shared`` types also of the target.
    options
        Options by representation or head.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    CrossSpeciesOutcome

    Raises
    ------
    InputError
        When there are fewer than two species, an ortholog table is missing, or two species share
        no gene or fewer than two types.

    References
    ----------
    Souza and Mehta, arXiv 2602.16696, 2026.
    """
    published_protocol = is_published(protocol)
    if len(adatas) < 2:
        raise InputError(f"Transfer needs two species or more; got {list(adatas)}.")
    unknown = set(types) - set(METRIC)
    if unknown:
        raise InputError(f"types holds {sorted(unknown)}; give 'shared', 'all' or both.")
    found: list[tuple[str, str, str, str, str, Predictions, dict[str, Any]]] = []
    if published_protocol:
        for source, target, p, about in _as_published(adatas, orthologs, label, seed):
            found.append((source, target, "all", "rank", "projection", p, about))
    else:
        # Genes are cut once per pair: by columns that copies, by rows it searches and sorts.
        whole = {
            name: AnnData(sparse.csc_matrix(a.X), obs=a.obs, var=a.var, uns=dict(a.uns))
            for name, a in adatas.items()
        }
        for one, other in combinations(adatas, 2):
            pairs = _pairs_of(orthologs, one, other, "one2one")
            left, right, lost = cut_to_orthologs(whole[one], whole[other], pairs)
            for source, target, a, b in ((one, other, left, right), (other, one, right, left)):
                for which in types:
                    train, test, rows_of, gone = _types(
                        a, b, label, which, min_cells, (source, target)
                    )
                    about = {"n_genes": a.n_vars, "pairs_lost": lost, "left_out": gone}
                    predictions = transfer(
                        train, test, label=label, representations=representations, heads=heads,
                        options=options, seed=seed,
                    )  # fmt: skip
                    found += [
                        (source, target, which, r, h, replace(p, cell=rows_of), about)
                        for (r, h), p in predictions.items()
                    ]
    rows, scores, predictions_of = [], [], {}
    for source, target, which, name, kind, p, about in found:
        cells = adatas[target]
        groups = None
        if donor in cells.obs and cells.obs[donor].nunique() > 1:
            groups = cells.obs[donor].astype(str).to_numpy()[p.cell]
        interval = macro_f1_interval(p.y_true, p.y_pred, groups=groups, n_boot=n_boot, seed=seed)
        accuracy = float(np.mean(p.y_true == p.y_pred))
        note = (
            f"{about['n_genes']} genes, {about['pairs_lost']} ortholog pairs lost, "
            f"{about['left_out']} cells left out"
        )
        fields: dict[str, Any] = {
            "task": _TASK, "dataset": dataset_name(cells, target), "protocol": protocol,
            "representation": name, "head": kind, "split": f"{source} to {target}",
            "seed": seed, "note": note,
        }  # fmt: skip
        rows.append(result(metric=METRIC[which], value=interval, **fields))
        suffix = "" if which == "shared" else "_all_types"
        rows.append(result(metric=f"accuracy{suffix}", value=accuracy, n=p.y_true.size, **fields))
        scores.append(
            {
                "source": source, "target": target, "types": which,
                "representation": name, "head": kind, "macro_f1": interval.value,
                "ci_low": interval.low, "ci_high": interval.high, "accuracy": accuracy,
                "n": p.y_true.size, "n_types": np.unique(p.y_true).size, **about,
            }
        )  # fmt: skip
        predictions_of[source, target, which, name, kind] = p
    outcome = CrossSpeciesOutcome(results_table(rows), pd.DataFrame(scores), predictions_of)
    means = _mean_rows(outcome, adatas, protocol, n_boot=n_boot, seed=seed)
    return CrossSpeciesOutcome(results_table([*rows, *means]), outcome.scores, outcome.predictions)


def _types(
    source: AnnData,
    target: AnnData,
    label: str,
    which: str,
    min_cells: int,
    names: tuple[str, str],
) -> tuple[AnnData, AnnData, NDArray[np.intp], int]:
    """Training and test cells, the rows of the latter, and how many cells of both are left out."""
    train = column(source, label).astype(object)
    test = column(target, label).astype(object)
    sizes = train.value_counts()
    learnt = set(sizes[sizes >= min_cells].index)
    if which == "shared":
        # Enough cells on both sides, so that both directions have one class list.
        there = test.value_counts()
        learnt &= set(there[there >= min_cells].index)
    if len(learnt) < 2:
        raise InputError(
            f"{names[0]} and {names[1]} share {len(learnt)} types with {min_cells} source cells or "
            f"more: {sorted(map(str, set(train.dropna())))} against "
            f"{sorted(map(str, set(test.dropna())))}. Give both one vocabulary in {label!r}, or "
            "lower min_cells."
        )
    keep_train = train.isin(learnt).to_numpy()
    keep_test = (test.isin(learnt) if which == "shared" else test.notna()).to_numpy()
    gone = int((~keep_train).sum() + (~keep_test).sum())
    if not keep_train.all():
        source = source[keep_train].copy()
    if not keep_test.all():
        target = target[keep_test].copy()
    return source, target, np.flatnonzero(keep_test), gone


def _mean_rows(
    outcome: CrossSpeciesOutcome,
    adatas: Mapping[str, AnnData],
    protocol: str,
    *,
    n_boot: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean over transfers of every method; with the diagonal as well when as published."""
    names = {dataset_name(a, s) for s, a in adatas.items()}
    rows = []
    keys = ["representation", "head", "types"]
    for name, kind, which in outcome.scores[keys].drop_duplicates().itertuples(index=False):
        square = outcome.matrix(name, kind, types=which)
        fields: dict[str, Any] = {
            "task": _TASK, "dataset": " + ".join(sorted(names)), "protocol": protocol,
            "representation": name, "head": kind, "seed": seed,
            "metric": "mean_macro_f1" + ("" if which == "shared" else "_all_types"),
        }  # fmt: skip
        rows.append(
            result(
                value=off_diagonal_mean(square, n_boot=n_boot, seed=seed),
                split="mean of transfers, diagonal out",
                note=f"{len(square) * (len(square) - 1)} transfers; n = species",
                **fields,
            )
        )
        if protocol == "as_published":
            rows.append(
                result(
                    value=float(np.nanmean(square.to_numpy(dtype=float))),
                    n=len(square),
                    split="mean of the matrix, diagonal in",
                    note="the published average counts species named from themselves; n = species",
                    **fields,
                )
            )
    return rows


def _as_published(
    adatas: Mapping[str, AnnData], orthologs: Any, label: str, seed: int
) -> list[tuple[str, str, Predictions, dict[str, Any]]]:
    """The reference code's matrix: bases on native genes, targets ranked on other genes."""
    found = []
    for source, cells in adatas.items():
        y = column(cells, label).astype(str).to_numpy()
        names, counts = np.unique(y, return_counts=True)
        usable = np.flatnonzero(np.isin(y, names[counts > 50]))
        if np.unique(y[usable]).size < 2:
            raise InputError(
                f"{source} has fewer than two types with more than 50 cells, as the published "
                "protocol asks; use protocol='corrected' with a smaller min_cells."
            )
        train, held = train_test_split(
            usable, test_size=0.1, stratify=y[usable], random_state=42 + seed
        )
        counts_of = sparse.csr_matrix(cells.X)
        basis = CentroidProjection().fit(counts_of[train], y[train])
        about = {"n_genes": cells.n_vars, "pairs_lost": 0, "left_out": y.size - held.size}
        found.append(
            (source, source, _named(basis.predict(counts_of[held]), y[held], held, basis), about)
        )
        for target, others in adatas.items():
            if target == source:
                continue
            pairs = _pairs_of(orthologs, source, target, None)
            known = pairs[pairs["target"].isin(others.var_names)]
            # Whichever pair comes first stays, whatever its kind.
            kept = known.drop_duplicates("target").drop_duplicates("source")
            ranks = rank_normalize(
                sparse.csr_matrix(others.X)[:, others.var_names.get_indexer(kept["target"])]
            )
            place = cells.var_names.get_indexer(kept["source"])
            common = np.flatnonzero(place >= 0)
            if not common.size:
                raise InputError(
                    f"No ortholog pair of {source} and {target} is measured on both sides; use one "
                    "kind of gene id in the table and in the cells."
                )
            projector = np.linalg.pinv(basis.basis_[place[common]])
            coefficients = ranks[:, common] @ projector.T
            truth = column(others, label).astype(str).to_numpy()
            guesses = basis.classes_[coefficients.argmax(axis=1)]
            about = {
                "n_genes": common.size,
                "pairs_lost": len(pairs) - common.size,
                "left_out": 0,
            }
            rows = np.arange(truth.size)
            found.append((source, target, _named(guesses, truth, rows, basis), about))
    return found


def _named(
    guesses: NDArray[Any], truth: NDArray[Any], rows: NDArray[np.intp], basis: CentroidProjection
) -> Predictions:
    return Predictions(
        y_true=truth,
        y_pred=guesses,
        cell=rows,
        split=np.full(truth.size, "target", dtype=object),
        proba=None,
        classes=basis.classes_,
        n_unseen=int((~np.isin(truth, basis.classes_)).sum()),
    )


def seed_spread(
    source: AnnData,
    target: AnnData,
    *,
    label: str = "cell_type",
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Score of one transfer under several seeds of the PCA.

    Parameters
    ----------
    source, target
        Cells with equal genes and types, see `cut_to_orthologs`.
    label
        Column of ``obs``.
    seeds
        Seeds.
    variants
        Options of `sclin.benchmarks.ablation.LinearVariant` by name; the published and the
        recommended setting when ``None``.

    Returns
    -------
    DataFrame
        ``variant``, ``seed``, ``macro_f1``.
    """
    from sclin.benchmarks.ablation import PUBLISHED, RECOMMENDED, LinearVariant

    chosen = variants or {"published": PUBLISHED, "recommended": RECOMMENDED}
    truth = column(target, label).astype(str).to_numpy()
    y = column(source, label).astype(str).to_numpy()
    return pd.DataFrame(
        [
            {
                "variant": name,
                "seed": seed,
                "macro_f1": classification_metrics(
                    truth, LinearVariant(**{**options, "seed": seed}).fit(source, y).predict(target)
                )["macro_f1"],
            }
            for name, options in chosen.items()
            for seed in seeds
        ]
    )
