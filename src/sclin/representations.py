"""One protocol for every representation.

A representation turns cells into numbers, a head turns numbers into classes.
Both go by name, so that raw counts, rank scores and layer i of a model meet the same splits,
the same heads and the same metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import ndtri
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from sclin.errors import InputError, nearest
from sclin.evaluation import Split, shuffled
from sclin.linear import ImplicitPCA, linear_pipeline
from sclin.normalization import RankMatrix, RankNormalizer
from sclin.projection import CentroidProjection

__all__ = [
    "HEADS",
    "REPRESENTATIONS",
    "Predictions",
    "column",
    "cross_validate",
    "fit_heads",
    "grid",
    "head",
    "head_fits",
    "log_normalize",
    "representation",
]

#: What a representation returns: a `RankMatrix`, a CSR matrix or an array, one row per cell.
Matrix: TypeAlias = Any


# Representations ---------------------------------------------------------------------------------


class Representation(Protocol):
    """What `representation` returns.

    ``per_cell`` says that a cell's row depends on this cell alone, so that it may be computed once
    for all cells without a leak from test to training cells.
    """

    per_cell: bool

    def fit(self, adata: AnnData) -> Representation:
        """Learn from training cells."""
        ...

    def transform(self, adata: AnnData) -> Matrix:
        """Return one row per cell."""
        ...


class _PerCell:
    """A representation that needs no fit: a function of each cell."""

    per_cell = True

    def __init__(self, function: Callable[[AnnData], Matrix]) -> None:
        self.function = function

    def fit(self, adata: AnnData) -> _PerCell:
        return self

    def transform(self, adata: AnnData) -> Matrix:
        return self.function(adata)


def values_of(adata: AnnData) -> str:
    """Kind of the values in ``X``: ``counts`` unless the dataset says ``log`` or ``fpkm``."""
    return str(adata.uns.get("sclin", {}).get("values", "counts"))


def _sparse(adata: AnnData) -> sparse.csr_matrix:
    X = adata.X
    if X is None:
        raise InputError("The AnnData holds no matrix X; put counts there.")
    return X if sparse.issparse(X) and X.format == "csr" else sparse.csr_matrix(X)


def _counts(adata: AnnData) -> sparse.csr_matrix:
    if values_of(adata) == "log":
        raise InputError(
            "X holds log values, and this representation needs counts; "
            "use 'lognorm' or 'rank', or load a dataset with counts."
        )
    return _sparse(adata)


def log_normalize(adata: AnnData, *, target: float = 1e4) -> sparse.csr_matrix:
    """Natural log of one plus counts per ``target``; log values pass unchanged.

    Parameters
    ----------
    adata
        Cells with counts in ``X``, shape ``(n_cells, n_genes)``.
    target
        Total count of each cell after scaling.

    Returns
    -------
    csr_matrix
        float32, same sparsity; a cell without counts stays empty.
    """
    if values_of(adata) == "log":
        return _sparse(adata)
    X = _counts(adata).astype(np.float32, copy=True)
    totals = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(target, totals, out=np.zeros_like(totals), where=totals > 0)
    X.data *= np.repeat(scale, np.diff(X.indptr)).astype(np.float32)
    np.log1p(X.data, out=X.data)
    return X


def _rank(adata: AnnData) -> RankMatrix:
    return RankNormalizer().fit_transform(_sparse(adata))


def _library_size(adata: AnnData) -> NDArray[np.float64]:
    """Log total and log number of genes seen: all that depth alone can tell, shape (n, 2)."""
    X = _sparse(adata)
    total = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    return np.log1p(np.column_stack([total, X.getnnz(axis=1)]))


def _random(n_components: int, seed: int) -> Callable[[AnnData], NDArray[np.float64]]:
    """Gaussian noise that depends on the cell's name and the seed only."""

    def draw(adata: AnnData) -> NDArray[np.float64]:
        names = pd.util.hash_array(np.asarray(adata.obs_names, dtype=object))
        salts = pd.util.hash_array(np.arange(n_components, dtype=np.uint64) + 1000 * (seed + 1))
        bits = pd.util.hash_array((names[:, None] ^ salts[None, :]).ravel())
        return ndtri((bits.astype(np.float64) + 0.5) / 2.0**64).reshape(len(names), n_components)

    return draw


def _stored(key: str) -> Callable[[AnnData], NDArray[Any]]:
    def read(adata: AnnData) -> NDArray[Any]:
        if key not in adata.obsm:
            raise InputError(
                f"obsm has no {key!r}; it has {sorted(adata.obsm) or 'nothing'}."
                + nearest(key, adata.obsm)
            )
        rows = adata.obsm[key]
        return rows.to_numpy() if isinstance(rows, pd.DataFrame) else np.asarray(rows)

    return read


def _layer(model: str, layer: str, pooling: str | None) -> Callable[[AnnData], NDArray[Any]]:
    def read(adata: AnnData) -> NDArray[Any]:
        from sclin.layers import find_store

        store = find_store(model, adata)
        return store.read(layer, pooling)[store.rows(adata)]

    return read


class _PCA:
    """Principal components learnt on training cells, of log values or of rank scores."""

    per_cell = False

    def __init__(
        self,
        matrix: Callable[[AnnData], Matrix],
        *,
        n_components: int,
        n_genes: int | None,
        scale: bool,
        whiten: bool,
        seed: int,
    ) -> None:
        self.matrix = matrix
        self.n_genes = n_genes
        self.n_components = n_components
        self.pca = ImplicitPCA(n_components=n_components, scale=scale, whiten=whiten, seed=seed)

    def fit(self, adata: AnnData) -> _PCA:
        self.genes_ = self._choose_genes(adata)
        X = self.matrix(adata)[:, self.genes_]
        possible = min(X.shape[0] - 1, X.shape[1])
        if possible < self.n_components:
            self.pca.set_params(n_components=possible)
        self.pca.fit(X)
        return self

    def _choose_genes(self, adata: AnnData) -> NDArray[np.intp]:
        """Genes seen in training cells, the most variable ones first when there is a limit."""
        seen = np.flatnonzero(_sparse(adata).getnnz(axis=0))
        if self.n_genes is None or self.n_genes >= seen.size:
            return seen
        # Dispersion of log values, as scanpy's default flavour ranks highly variable genes.
        import scanpy as sc

        values = AnnData(log_normalize(adata)[:, seen])
        table = sc.pp.highly_variable_genes(values, n_top_genes=self.n_genes, inplace=False)
        return seen[table["highly_variable"].to_numpy()]

    def transform(self, adata: AnnData) -> NDArray[Any]:
        check_is_fitted(self.pca)
        return self.pca.transform(self.matrix(adata)[:, self.genes_])


#: Representations by name; ``obsm:KEY`` and ``layer:MODEL/i`` come on top.
REPRESENTATIONS: Mapping[str, str] = {
    "counts": "raw counts",
    "lognorm": "log of one plus counts per 10,000",
    "hvg_pca": "50 principal components of the 2,000 most variable genes, log values",
    "rank": "rank scores of all genes",
    "rank_pca": "50 principal components of rank scores",
    "library_size": "control: log total and log number of genes seen",
    "random": "control: Gaussian noise",
}


def representation(
    name: str,
    *,
    n_components: int = 50,
    n_genes: int | None = None,
    scale: bool = False,
    whiten: bool = False,
    pooling: str | None = None,
    seed: int = 0,
) -> Representation:
    """Find a representation by name.

    Parameters
    ----------
    name
        One of `REPRESENTATIONS`, ``obsm:KEY`` for an array of the AnnData, or ``layer:MODEL/i``
        for layer i of a model from its layer store.
    n_components
        Number of components of ``hvg_pca``, ``rank_pca`` and ``random``; the first two give fewer
        when the training cells do not bear as many.
    n_genes
        Number of most variable genes; 2,000 for ``hvg_pca`` and all genes seen for ``rank_pca``.
    scale, whiten
        Scale genes to unit variance before, and components after the PCA.
    pooling
        Pooling of a layer; the store's first when ``None``.
    seed
        Seed of the PCA and of ``random``.

    Returns
    -------
    Representation
        With ``fit(adata)`` and ``transform(adata)``; rows follow the AnnData.

    Raises
    ------
    InputError
        When the name is unknown.

    Examples
    --------
    >>> representation("lognorm").per_cell
    True
    """
    if name.startswith("obsm:"):
        return _PerCell(_stored(name.removeprefix("obsm:")))
    if name.startswith("layer:"):
        model, slash, layer = name.removeprefix("layer:").rpartition("/")
        if not slash or not model or not layer:
            raise InputError(f"{name!r} is not of the form layer:MODEL/i, such as layer:tiny/3.")
        return _PerCell(_layer(model, layer, pooling))
    pca: dict[str, Any] = {
        "n_components": n_components,
        "scale": scale,
        "whiten": whiten,
        "seed": seed,
    }
    factories: dict[str, Callable[[], Representation]] = {
        "counts": lambda: _PerCell(_counts),
        "lognorm": lambda: _PerCell(log_normalize),
        "hvg_pca": lambda: _PCA(log_normalize, n_genes=n_genes or 2000, **pca),
        "rank": lambda: _PerCell(_rank),
        "rank_pca": lambda: _PCA(_rank, n_genes=n_genes, **pca),
        "library_size": lambda: _PerCell(_library_size),
        "random": lambda: _PerCell(_random(n_components, seed)),
    }
    if name not in factories:
        raise InputError(
            f"No representation is called {name!r}; there are {', '.join(factories)}, "
            f"obsm:KEY and layer:MODEL/i.{nearest(name, factories)}"
        )
    return factories[name]()


# Heads -------------------------------------------------------------------------------------------


def _is_wide(X: Matrix) -> bool:
    """Whole-genome matrices come as rank scores or sparse; embeddings come dense."""
    return isinstance(X, RankMatrix) or sparse.issparse(X)


class LogisticHead(ClassifierMixin, BaseEstimator):
    """Balanced logistic regression.

    A whole-genome matrix first goes through the linear pipeline (ANOVA, scaling, whitened PCA),
    an embedding through a standard scaler.

    Parameters
    ----------
    n_genes, n_components
        Genes kept by ANOVA and components kept by PCA, for whole-genome matrices.
    C
        Inverse strength of the L2 penalty.
    seed
        Seed of the PCA.
    """

    def __init__(
        self, *, n_genes: int = 20_000, n_components: int = 220, C: float = 1.0, seed: int = 0
    ) -> None:
        self.n_genes = n_genes
        self.n_components = n_components
        self.C = C
        self.seed = seed

    def fit(self, X: Matrix, y: ArrayLike) -> LogisticHead:
        """Fit on training cells."""
        if _is_wide(X):
            self.model_ = linear_pipeline(
                rank=False,
                n_genes=min(self.n_genes, X.shape[1]),
                n_components=min(self.n_components, X.shape[0] - 1, X.shape[1]),
                C=self.C,
                seed=self.seed,
            )
        else:
            self.model_ = make_pipeline(
                StandardScaler(),
                LogisticRegression(C=self.C, class_weight="balanced", max_iter=1000),
            )
        self.model_.fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Matrix) -> NDArray[Any]:
        """Most probable class of each cell."""
        return self.model_.predict(X)

    def predict_proba(self, X: Matrix) -> NDArray[Any]:
        """Class probabilities, shape ``(n_cells, n_classes)``."""
        return self.model_.predict_proba(X)


class KNNHead(ClassifierMixin, BaseEstimator):
    """k nearest neighbours on standardised columns.

    A whole-genome matrix is first reduced to principal components.

    Parameters
    ----------
    n_neighbors
        Number of neighbours; at most the number of training cells.
    n_components
        Components of a whole-genome matrix.
    seed
        Seed of the PCA.
    """

    def __init__(self, *, n_neighbors: int = 5, n_components: int = 50, seed: int = 0) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.seed = seed

    def fit(self, X: Matrix, y: ArrayLike) -> KNNHead:
        """Fit on training cells."""
        if X.shape[0] < self.n_neighbors:
            raise InputError(
                f"{X.shape[0]} training cells are fewer than {self.n_neighbors} neighbours; "
                "lower n_neighbors."
            )
        # Components keep their own scale: standardising them would weigh noise like signal.
        first: BaseEstimator = StandardScaler()
        if _is_wide(X):
            first = ImplicitPCA(
                n_components=min(self.n_components, X.shape[0] - 1, X.shape[1]),
                scale=False,
                seed=self.seed,
            )
        self.model_ = make_pipeline(first, KNeighborsClassifier(self.n_neighbors)).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Matrix) -> NDArray[Any]:
        """Majority class of the neighbours."""
        return self.model_.predict(X)

    def predict_proba(self, X: Matrix) -> NDArray[Any]:
        """Shares of the neighbours, shape ``(n_cells, n_classes)``."""
        return self.model_.predict_proba(X)


class CentroidHead(ClassifierMixin, BaseEstimator):
    """Class of the average with the highest cosine, after centring on the training mean."""

    def fit(self, X: Matrix, y: ArrayLike) -> CentroidHead:
        """Average the training cells of each class."""
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        members = np.zeros((X.shape[0], self.classes_.size))
        members[np.arange(codes.size), codes] = 1
        sums = X.T_dot(members) if isinstance(X, RankMatrix) else X.T @ members
        means = np.asarray(sums) / members.sum(axis=0)
        self.mean_ = np.asarray(sums).sum(axis=1) / X.shape[0]
        directions = means - self.mean_[:, None]
        norms = np.linalg.norm(directions, axis=0)
        self.directions_ = directions / np.where(norms > 0, norms, 1)
        return self

    def decision_function(self, X: Matrix) -> NDArray[Any]:
        """Length of each centred cell along each class direction."""
        check_is_fitted(self)
        return np.asarray(X @ self.directions_) - self.mean_ @ self.directions_

    def predict(self, X: Matrix) -> NDArray[Any]:
        """Class with the highest cosine."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]


#: Heads by name.
HEADS: Mapping[str, str] = {
    "projection": "coefficients on the class averages (scTOP)",
    "logistic": "balanced logistic regression",
    "knn": "5 nearest neighbours",
    "centroid": "nearest class average by cosine",
}


def head(name: str, *, of: str = "", **options: Any) -> Any:
    """Find a head by name.

    Parameters
    ----------
    name
        One of `HEADS`.
    of
        Name of the representation that the head will see.
        With ``rank`` or ``counts``, ``projection`` takes counts and ranks the class averages
        itself, because the average is taken before the ranks.
    **options
        Passed to the head, such as ``C`` or ``n_neighbors``.

    Returns
    -------
    estimator
        A scikit-learn classifier.
    """
    factories: dict[str, Callable[..., Any]] = {
        "projection": lambda **o: CentroidProjection(**{"rank": of in ("rank", "counts"), **o}),
        "logistic": LogisticHead,
        "knn": KNNHead,
        "centroid": CentroidHead,
    }
    if name not in factories:
        raise InputError(
            f"No head is called {name!r}; there are {', '.join(factories)}."
            + nearest(name, factories)
        )
    return factories[name](**options)


def head_fits(name: str, *, of: str) -> bool:
    """Tell whether a head can be used on a representation.

    Projection takes counts by ranking them, so it appears once, under ``rank``.
    It needs more features than classes, and class averages that are not centred: averages of
    principal components sum to zero and are no basis.
    """
    return not (
        name == "projection" and of in ("counts", "library_size", "random", "hvg_pca", "rank_pca")
    )


# The protocol ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """Predictions for the test cells of every split.

    Attributes
    ----------
    y_true, y_pred
        True and predicted class, shape ``(n_predictions,)``.
    cell
        Row of each cell in the AnnData.
    split
        Name of the split of each prediction.
    proba
        Class probabilities, shape ``(n_predictions, n_classes)``, or ``None``.
    classes
        Columns of ``proba``.
    n_unseen
        Test cells whose class was absent from the training part; they count as wrong.
    """

    y_true: NDArray[Any]
    y_pred: NDArray[Any]
    cell: NDArray[np.intp]
    split: NDArray[Any]
    proba: NDArray[np.float64] | None
    classes: NDArray[Any]
    n_unseen: int


def column(adata: AnnData, name: str) -> pd.Series:
    """Read a column of ``obs``, or say which ones there are.

    Parameters
    ----------
    adata
        Annotated cells.
    name
        Name of the column.

    Returns
    -------
    Series
        One value per cell.
    """
    if name not in adata.obs:
        raise InputError(
            f"obs has no column {name!r}; it has {', '.join(map(str, adata.obs.columns))}."
            + nearest(name, map(str, adata.obs.columns))
        )
    return adata.obs[name]


def _predict(estimator: Any, X: Matrix, classes: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    predicted = np.asarray(estimator.predict(X))
    if not hasattr(estimator, "predict_proba"):
        return predicted, None
    proba = np.zeros((len(predicted), classes.size))
    proba[:, np.searchsorted(classes, estimator.classes_)] = estimator.predict_proba(X)
    return predicted, proba


def fit_heads(
    name: str,
    heads: Sequence[str],
    y: NDArray[Any],
    *,
    source: AnnData,
    train: Matrix | Callable[[], Matrix],
    test: Matrix,
    classes: NDArray[Any],
    options: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.float64] | None]]:
    """Fit every head that goes with a representation, and predict the test cells.

    Parameters
    ----------
    name
        Name of the representation.
    heads
        Names of heads; those that do not fit are passed over.
    y
        Classes of the training cells.
    source
        Training cells.
    train
        The same as represented, or a function that gives them when a head needs them.
    test
        Test cells as represented.
    classes
        Columns of the probabilities.
    options
        Options by name of head.
    seed
        Seed of heads that draw.

    Yields
    ------
    head, predicted, proba
        ``proba`` is ``None`` for heads without probabilities.
    """
    for kind in heads:
        if not head_fits(kind, of=name):
            continue
        seeded = {"seed": seed} if kind in ("logistic", "knn") else {}
        estimator = head(kind, of=name, **{**seeded, **options.get(kind, {})})
        # On ranks the projection averages counts first, then ranks the averages.
        own = kind == "projection" and name == "rank"
        if own:
            estimator.fit(_sparse(source), y)
        else:
            estimator.fit(train() if callable(train) else train, y)
        yield kind, *_predict(estimator, test, classes)


def grid(
    adata: AnnData,
    label: str,
    *,
    representations: Sequence[str],
    heads: Sequence[str],
    splits: Iterable[Split],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    shuffle_labels: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> dict[tuple[str, str], Predictions]:
    """Put every representation through every head and split.

    Each representation is fitted once per split, on training cells only, and serves all heads.

    Parameters
    ----------
    adata
        Annotated cells, counts in ``X``.
    label
        Column of ``obs`` to predict.
    representations, heads
        Names; pairs that do not go together (`head_fits`) are left out.
    splits
        Training and test rows.
    options
        Options by name of representation or head, such as ``{"logistic": {"C": 0.1}}``.
    shuffle_labels
        Permute the training labels: the null control.
    seed
        Seed of representations, heads and permutation.
    progress
        Show a progress bar over splits and representations.

    Returns
    -------
    dict
        `Predictions` by ``(representation, head)``.
    """
    y = column(adata, label).astype(str).to_numpy()
    classes = np.unique(y)
    options = options or {}
    parts: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    whole: dict[str, Matrix] = {}
    splits = list(splits)
    bar = tqdm(total=len(splits) * len(representations), disable=not progress, unit="fit")
    for split in splits:
        y_train = shuffled(y[split.train], seed=seed) if shuffle_labels else y[split.train]
        unseen = int((~np.isin(y[split.test], np.unique(y[split.train]))).sum())
        for name in representations:
            transformer = representation(name, **{"seed": seed, **options.get(name, {})})
            if transformer.per_cell:
                if name not in whole:
                    whole[name] = transformer.fit(adata).transform(adata)
                X_train, X_test = whole[name][split.train], whole[name][split.test]
            else:
                train = adata[split.train]
                X_train = transformer.fit(train).transform(train)
                X_test = transformer.transform(adata[split.test])
            for kind, predicted, proba in fit_heads(
                name, heads, y_train, source=adata[split.train], train=X_train,
                test=X_test, classes=classes, options=options, seed=seed,
            ):  # fmt: skip
                parts.setdefault((name, kind), []).append(
                    (y[split.test], predicted, split.test, split.name, proba, unseen)
                )
            bar.update()
    bar.close()
    return {key: _join(rows, classes) for key, rows in parts.items()}


def _join(rows: list[tuple[Any, ...]], classes: NDArray[Any]) -> Predictions:
    true, predicted, cells, names, probas, unseen = zip(*rows, strict=True)
    return Predictions(
        y_true=np.concatenate(true),
        y_pred=np.concatenate(predicted),
        cell=np.concatenate(cells),
        split=np.repeat(np.array(names, dtype=object), [len(c) for c in cells]),
        proba=None if probas[0] is None else np.concatenate(probas),
        classes=classes,
        n_unseen=sum(unseen),
    )


def cross_validate(
    adata: AnnData,
    label: str,
    *,
    representation: str,
    head: str,
    splits: Iterable[Split],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    shuffle_labels: bool = False,
    seed: int = 0,
) -> Predictions:
    """Predict the test cells of every split with one representation and one head.

    Parameters
    ----------
    adata, label, splits, options, shuffle_labels, seed
        As in `grid`.
    representation, head
        Names that go together.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        When the head does not fit the representation.
    """
    if not head_fits(head, of=representation):
        raise InputError(
            f"Head {head!r} cannot be used on {representation!r}; "
            "use 'rank' for the projection of counts, or another head."
        )
    return grid(
        adata,
        label,
        representations=[representation],
        heads=[head],
        splits=splits,
        options=options,
        shuffle_labels=shuffle_labels,
        seed=seed,
    )[representation, head]
