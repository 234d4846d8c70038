"""Ablation: which step of a parameter-free representation earns its place.

One classifier with every step as an option, so that steps can be changed one at a time.
Choices are made on one dataset, donors held out; the choice is judged on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from sclin.benchmarks._cells import donor_values, keep_classes, open_many, splits_for
from sclin.errors import InputError, nearest
from sclin.evaluation import Split, macro_f1_difference, macro_f1_interval, result, results_table
from sclin.linear import AnovaSelector, ImplicitPCA
from sclin.normalization import rank_normalize
from sclin.projection import CentroidProjection
from sclin.representations import column, log_normalize

__all__ = ["PUBLISHED", "RECOMMENDED", "LinearVariant", "ablate", "steps"]


class LinearVariant(ClassifierMixin, BaseEstimator):
    """A linear classifier of counts, each step an option.

    Parameters
    ----------
    values
        ``"rank"`` scores or ``"lognorm"``, the log of one plus counts per 10,000.
    unseen
        What rank scores do with genes a cell does not show: ``"tied"`` ranks them with one shared
        score; ``"dropped"`` does so too, after genes never seen in training cells are taken out;
        ``"zero"`` moves the shared score to 0 before the cell is scaled to unit length.
    n_genes
        Genes kept by ANOVA F on the training cells; ``None`` keeps all.
    scale
        Scale each gene to unit variance.
    n_components
        Principal components; fewer when the training cells do not bear as many.
    whiten
        Scale each component to unit variance. Without it all components are divided by one
        number, so that strong components stay strong under the penalty.
    order
        ``"average_then_rank"`` or ``"rank_then_average"`` replaces all steps by the projection on
        class averages; ``None`` for logistic regression.
    seed
        Seed of the PCA.
    """

    def __init__(
        self,
        *,
        values: str = "rank",
        unseen: str = "tied",
        n_genes: int | None = 20_000,
        scale: bool = True,
        n_components: int = 220,
        whiten: bool = True,
        order: str | None = None,
        seed: int = 0,
    ) -> None:
        self.values = values
        self.unseen = unseen
        self.n_genes = n_genes
        self.scale = scale
        self.n_components = n_components
        self.whiten = whiten
        self.order = order
        self.seed = seed

    def fit(self, X: AnnData, y: ArrayLike) -> LinearVariant:
        """Fit on training cells, an AnnData with counts in ``X``."""
        for name, word, words in (
            ("values", self.values, ("rank", "lognorm")),
            ("unseen", self.unseen, ("tied", "dropped", "zero")),
        ):
            if word not in words:
                raise InputError(f"{name} is {word!r}; give one of {words}.{nearest(word, words)}")
        labels = np.asarray(y)
        self.genes_ = np.arange(X.n_vars)
        if self.unseen == "dropped":
            self.genes_ = np.flatnonzero(np.asarray((X.X != 0).sum(axis=0)).ravel())
        if self.order is not None:
            self.model_ = CentroidProjection(order=self.order).fit(X.X[:, self.genes_], labels)
            self.classes_ = self.model_.classes_
            return self
        Z = self._values(X)
        self.selector_ = None
        if self.n_genes is not None and self.n_genes < Z.shape[1]:
            self.selector_ = AnovaSelector(k=self.n_genes).fit(Z, labels)
            Z = self.selector_.transform(Z)
        possible = min(self.n_components, Z.shape[0] - 1, Z.shape[1])
        self.pca_ = ImplicitPCA(
            n_components=possible, scale=self.scale, whiten=self.whiten, seed=self.seed
        ).fit(Z)
        scores = self.pca_.transform(Z)
        self.unit_ = float(scores.std()) or 1.0
        self.model_ = LogisticRegression(class_weight="balanced", max_iter=1000)
        self.model_.fit(scores / self.unit_, labels)
        self.classes_ = self.model_.classes_
        return self

    def _values(self, X: AnnData) -> Any:
        if self.values == "lognorm":
            return log_normalize(X)[:, self.genes_]
        ranks = rank_normalize(X.X[:, self.genes_])
        if self.unseen != "zero":
            return ranks
        lengths = np.sqrt(np.asarray(ranks.sparse.multiply(ranks.sparse).sum(axis=1)).ravel())
        return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ ranks.sparse)

    def predict(self, X: AnnData) -> NDArray[Any]:
        """Class of each cell of an AnnData with the same genes."""
        check_is_fitted(self, "model_")
        if self.order is not None:
            return self.model_.predict(X.X[:, self.genes_])
        Z = self._values(X)
        if self.selector_ is not None:
            Z = self.selector_.transform(Z)
        return self.model_.predict(self.pca_.transform(Z) / self.unit_)


#: The published pipeline.
PUBLISHED: Mapping[str, Any] = {}
#: The setting that the ablation on human pancreas chose: fewer genes, no scaling, no whitening.
RECOMMENDED: Mapping[str, Any] = {
    "n_genes": 5000,
    "scale": False,
    "n_components": 100,
    "whiten": False,
}


def steps() -> dict[str, dict[str, Any]]:
    """List the variants of the ablation: the published pipeline, one change at a time, then all.

    Returns
    -------
    dict
        Options of `LinearVariant` by a name that says what is changed.

    Examples
    --------
    >>> steps()["published"]
    {}
    """
    recommended = dict(RECOMMENDED)
    return {
        "published": dict(PUBLISHED),
        "no whitening": {"whiten": False},
        "no gene scaling": {"scale": False},
        "5,000 genes": {"n_genes": 5000},
        "100 components": {"n_components": 100},
        "genes never seen dropped": {"unseen": "dropped"},
        "recommended": recommended,
        "recommended, 2,000 genes": recommended | {"n_genes": 2000},
        "recommended, 50 components": recommended | {"n_components": 50},
        "recommended, genes scaled": recommended | {"scale": True},
        "recommended, whitened": recommended | {"whiten": True},
        "recommended, unseen at zero": recommended | {"unseen": "zero"},
        "recommended, log values": recommended | {"values": "lognorm"},
        "published, log values": {"values": "lognorm"},
        "projection, average then rank": {"order": "average_then_rank"},
        "projection, rank then average": {"order": "rank_then_average"},
    }


def ablate(
    datasets: str | AnnData | Sequence[str | AnnData],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    label: str = "cell_type",
    donor: str | None = "auto",
    min_cells: int = 20,
    reference: str | None = None,
    purpose: str = "",
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[tuple[str, str], NDArray[Any]]]:
    """Score variants on datasets, one donor held out at a time.

    Parameters
    ----------
    datasets
        Name, AnnData, or a list of these.
    variants
        Options of `LinearVariant` by name.
    label, donor
        Columns of ``obs``; ``"auto"`` uses donors or batches where there are two or more, else
        five folds of cells.
    min_cells
        Smallest class.
    reference
        Variant to take the paired differences from; the first when ``None``.
    purpose
        Said in the note of every row: whether choices were made on these cells, or judged.
    n_boot, seed
        Bootstrap resamples and seed.

    Returns
    -------
    results : DataFrame
        Results rows with the column ``variant`` added: ``macro_f1`` and, against the reference,
        ``macro_f1_difference`` with a paired interval.
    predictions : dict
        Predicted classes of all kept cells by ``(dataset, variant)``.
    """
    base = reference or next(iter(variants))
    if base not in variants:
        raise InputError(f"No variant is called {base!r}.{nearest(base, variants)}")
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    found: dict[tuple[str, str], NDArray[Any]] = {}
    for dataset, cells in open_many(datasets).items():
        adata, dropped = keep_classes(cells, label, min_cells=min_cells)
        y = column(adata, label).astype(str).to_numpy()
        donors = donor_values(adata, donor)
        splits, split_name = splits_for(y, donors, seed=seed)
        for name, options in variants.items():
            found[dataset, name] = _predict(adata, y, splits, options, seed)
        for name, options in variants.items():
            fields: dict[str, Any] = {
                "task": "cell_types",
                "dataset": dataset,
                "protocol": "corrected",
                "representation": options.get("values", "rank"),
                "head": "projection" if options.get("order") else "logistic",
                "split": split_name,
                "seed": seed,
                "note": f"ablation, {name}"
                + (f"; {purpose}" if purpose else "")
                + f"; {int(dropped['n_cells'].sum())} cells of {len(dropped)} classes left out",
            }
            scores = {
                "macro_f1": macro_f1_interval(
                    y, found[dataset, name], groups=donors, n_boot=n_boot, seed=seed
                )
            }
            if name != base:
                scores["macro_f1_difference"] = macro_f1_difference(
                    y,
                    found[dataset, name],
                    found[dataset, base],
                    groups=donors,
                    n_boot=n_boot,
                    seed=seed,
                )
            for metric, value in scores.items():
                rows.append(result(metric=metric, value=value, **fields))
                names.append(name)
    return results_table(rows).assign(variant=names), found


def _predict(
    adata: AnnData, y: NDArray[Any], splits: Sequence[Split], options: Mapping[str, Any], seed: int
) -> NDArray[Any]:
    predicted = np.empty(adata.n_obs, dtype=object)
    for split in splits:
        model = LinearVariant(**{"seed": seed, **options})
        model.fit(adata[split.train], y[split.train])
        predicted[split.test] = model.predict(adata[split.test])
    return predicted.astype(str)
