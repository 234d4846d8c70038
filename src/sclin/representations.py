"""Representations by name: what turns cells into numbers.

Each is an object with ``fit(adata)`` and ``transform(adata)``; any other object with these two
methods can stand in its place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtri
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted

from sclin.chunks import as_dask, gather, map_cells, opened, sum_cells
from sclin.datasets import name_of
from sclin.errors import InputError, unknown
from sclin.genes import in_order
from sclin.linear import ImplicitPCA
from sclin.normalization import RankNormalizer

#: What a representation returns: a `RankMatrix`, a CSR matrix or an array, one row per cell.
Matrix: TypeAlias = Any

#: Representations that tell what a score is worth: depth alone, and nothing at all.
CONTROLS = ("library_size", "random")


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


@dataclass
class PerCell:
    """A function of each cell, which needs no fit.

    Parameters
    ----------
    function
        Function of the cells that gives one row per cell.
    averages_first
        A projection averages counts and represents the averages, not the cells.
    reads_genes
        Whether the function reads ``X``, so that later cells need the genes of the fit.
    """

    function: Callable[[AnnData], Matrix]
    _: KW_ONLY
    averages_first: bool = False
    reads_genes: bool = True
    per_cell = True

    def fit(self, adata: AnnData) -> PerCell:
        """Learn nothing but the names of the genes."""
        self.feature_names_in_ = adata.var_names
        return self

    def transform(self, adata: AnnData) -> Matrix:
        """Return one row per cell, whatever the order of the genes."""
        if self.reads_genes and hasattr(self, "feature_names_in_"):
            adata = in_order(adata, self.feature_names_in_, type(self).__name__)
        return self.function(adata)


def values_of(adata: AnnData) -> str:
    """Kind of the values in ``X``: ``counts`` unless the dataset says ``log`` or ``fpkm``."""
    return str(adata.uns.get("sclin", {}).get("values", "counts"))


def _sparse(adata: AnnData) -> Any:
    """CSR matrix of the cells, or `Blocks` of it where they are not in memory."""
    if adata.X is None:
        raise InputError("The AnnData holds no matrix X; put counts there.")
    return map_cells(_csr, opened(adata.X, adata.var_names))


def _csr(X: Any) -> sparse.csr_matrix:
    return X if sparse.issparse(X) and X.format == "csr" else sparse.csr_matrix(X)


def _counts(adata: AnnData) -> Any:
    if values_of(adata) == "log":
        raise InputError(
            "X holds log values, and this representation needs counts; "
            "use 'lognorm' or 'rank', or load a dataset with counts."
        )
    return _sparse(adata)


def log_normalize(adata: AnnData, *, target: float = 1e4) -> Any:
    """Natural log of one plus counts per ``target``; log values pass unchanged.

    Parameters
    ----------
    adata
        Cells with counts in ``X``, shape ``(n_cells, n_genes)``.
    target
        Total count of each cell after scaling.

    Returns
    -------
    csr_matrix or Blocks
        float32, same sparsity; a cell without counts stays empty.
    """
    if values_of(adata) == "log":
        return _sparse(adata)
    return map_cells(partial(_log_normalized, target=target), _counts(adata))


def _log_normalized(counts: sparse.csr_matrix, target: float) -> sparse.csr_matrix:
    X = counts.astype(np.float32, copy=True)
    totals = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(target, totals, out=np.zeros_like(totals), where=totals > 0)
    X.data *= np.repeat(scale, np.diff(X.indptr)).astype(np.float32)
    np.log1p(X.data, out=X.data)
    return X


def hellinger(adata: AnnData) -> Any:
    """Square root of each gene's share of its cell's counts; nothing is learnt.

    The recommended default: of the normalizations of chapter 04 it falls least below the best
    one on any data set, under every head (rows ``largest_loss`` of task ``normalization``).

    Parameters
    ----------
    adata
        Cells with counts in ``X``, shape ``(n_cells, n_genes)``.

    Returns
    -------
    csr_matrix or Blocks
        float32, same sparsity, rows of unit length; a cell without counts stays empty.

    References
    ----------
    Legendre and Gallagher, Oecologia 129, 271-280 (2001).
    """
    return map_cells(_hellinger, _counts(adata))


def _hellinger(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    return normalize(counts.astype(np.float32).sqrt())


def _rank(adata: AnnData) -> Matrix:
    return RankNormalizer().fit_transform(_sparse(adata))


def _library_size(adata: AnnData) -> NDArray[np.float64]:
    """Log total and log number of genes seen: all that depth alone can tell, shape (n, 2)."""
    return gather(map_cells(_sizes, _sparse(adata)))


def _sizes(X: sparse.csr_matrix) -> NDArray[np.float64]:
    total = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    return np.log1p(np.column_stack([total, X.getnnz(axis=1)]))


def _random(adata: AnnData, *, n_components: int, seed: int) -> NDArray[np.float64]:
    """Gaussian noise that depends on the cell's name and the seed only."""
    names = pd.util.hash_array(np.asarray(adata.obs_names, dtype=object))
    salts = pd.util.hash_array(np.arange(n_components, dtype=np.uint64) + 1000 * (seed + 1))
    bits = pd.util.hash_array((names[:, None] ^ salts[None, :]).ravel())
    return ndtri((bits.astype(np.float64) + 0.5) / 2.0**64).reshape(len(names), n_components)


def _stored(adata: AnnData, *, key: str) -> NDArray[Any]:
    if key not in adata.obsm:
        raise unknown("array of obsm", key, adata.obsm)
    return np.asarray(adata.obsm[key])


def _layer(adata: AnnData, *, model: str, layer: str, pooling: str | None = None) -> NDArray[Any]:
    from sclin.layers.store import find_rows

    store, rows = find_rows(model, adata)
    return store.read(layer, pooling)[rows]


def _times_seen(X: sparse.csr_matrix) -> NDArray[np.intp]:
    return X.getnnz(axis=0)


@dataclass
class PCA:
    """Principal components of a matrix, learnt on training cells.

    Parameters
    ----------
    matrix
        Function of the cells that gives the matrix, such as `log_normalize`.
    n_components
        Number of components; fewer when the training cells do not bear as many.
    n_genes
        Number of most variable genes; all genes seen in training when ``None``.
    scale, whiten
        Scale genes to unit variance before, and components after the PCA.
    seed
        Seed of the PCA.
    """

    matrix: Callable[[AnnData], Matrix]
    _: KW_ONLY
    n_components: int = 50
    n_genes: int | None = None
    scale: bool = False
    whiten: bool = False
    seed: int = 0
    per_cell = False

    def fit(self, adata: AnnData) -> PCA:
        """Choose genes and find components on training cells."""
        self.feature_names_in_ = adata.var_names
        self.chosen_ = self._choose_genes(adata)
        X = self.matrix(adata)[:, self.chosen_]
        k = min(self.n_components, X.shape[0] - 1, X.shape[1])
        options: Any = {"scale": self.scale, "whiten": self.whiten, "seed": self.seed}
        self.pca_ = ImplicitPCA(n_components=k, **options).fit(X)
        return self

    def _choose_genes(self, adata: AnnData) -> NDArray[np.intp]:
        """Genes seen in training cells, the most variable ones first when there is a limit."""
        seen = np.flatnonzero(sum_cells(_times_seen, _sparse(adata)))
        if self.n_genes is None or self.n_genes >= seen.size:
            return seen
        # Dispersion of log values, as scanpy's default flavour ranks highly variable genes.
        import scanpy as sc

        values = AnnData(as_dask(log_normalize(adata)[:, seen]))
        with np.errstate(invalid="ignore"):  # rounding leaves constant genes a variance below zero
            table = sc.pp.highly_variable_genes(values, n_top_genes=self.n_genes, inplace=False)
        return seen[table["highly_variable"].to_numpy()]

    def transform(self, adata: AnnData) -> NDArray[Any]:
        """Return component scores, one row per cell."""
        check_is_fitted(getattr(self, "pca_", ImplicitPCA()))
        adata = in_order(adata, self.feature_names_in_, type(self).__name__)
        return self.pca_.transform(self.matrix(adata)[:, self.chosen_])


def _per_cell(function: Callable[[AnnData], Matrix], **options: Any) -> Callable[..., PerCell]:
    return lambda *, seed=0: PerCell(function, **options)


#: Representations by name: what makes each, given a seed and options.
REPRESENTATIONS: dict[str, Callable[..., Representation]] = {
    "counts": _per_cell(_counts),
    "lognorm": _per_cell(log_normalize),
    "hellinger": _per_cell(hellinger),
    "hvg_pca": partial(PCA, log_normalize, n_genes=2000),
    "rank": _per_cell(_rank, averages_first=True),
    "rank_pca": partial(PCA, _rank),
    "library_size": _per_cell(_library_size),
    "random": lambda *, n_components=50, seed=0: PerCell(
        partial(_random, n_components=n_components, seed=seed), reads_genes=False
    ),
}


def representation(name: str, *, seed: int = 0, **options: Any) -> Representation:
    """Make a representation by name.

    Parameters
    ----------
    name
        One of `REPRESENTATIONS`, ``obsm:KEY`` for an array of the AnnData, or ``layer:MODEL/i``
        for layer i of a model from its layer store.
    seed
        Seed of those that draw.
    **options
        ``n_components``, ``n_genes``, ``scale`` and ``whiten`` of `PCA`; ``n_components`` of
        ``random``; ``pooling`` of a layer, the store's first when it is not named.

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
        return PerCell(partial(_stored, key=name.removeprefix("obsm:")), reads_genes=False)
    if name.startswith("layer:"):
        model, slash, layer = name.removeprefix("layer:").rpartition("/")
        if not slash or not model or not layer:
            raise InputError(f"{name!r} is not of the form layer:MODEL/i, such as layer:tiny/3.")
        return PerCell(partial(_layer, model=model, layer=layer, **options), reads_genes=False)
    if name not in REPRESENTATIONS:
        raise unknown("representation", name, [*REPRESENTATIONS, "obsm:KEY", "layer:MODEL/i"])
    return REPRESENTATIONS[name](seed=seed, **options)


def embed(thing: Representation, fitted_on: AnnData, *parts: AnnData, name: str) -> list[Matrix]:
    """Fit a copy of a representation, and represent some cells.

    Parameters
    ----------
    thing
        A representation.
    fitted_on
        Training cells.
    *parts
        Cells to represent.
    name
        Name of the representation, for errors.

    Returns
    -------
    list
        A matrix for each part.

    Raises
    ------
    InputError
        Rows do not match the cells, or values are not finite.
    """
    thing = copy.deepcopy(thing).fit(fitted_on)
    found = [thing.transform(cells) for cells in parts]
    for X, cells in zip(found, parts, strict=True):
        if X.shape[0] != cells.n_obs:
            raise InputError(
                f"Representation {name!r} has {X.shape[0]} rows for {cells.n_obs} cells; "
                "it must give one row for each cell, in their order."
            )
        values = X.data if sparse.issparse(X) else X
        if isinstance(values, np.ndarray) and not np.isfinite(values).all():
            raise InputError(
                f"Representation {name!r} has {int((~np.isfinite(values)).sum())} values that are "
                "not finite; drop these cells from every representation."
            )
    return found


def labels(adata: AnnData, name: str) -> NDArray[np.str_]:
    """Read a column of ``obs`` as text, or say what is wrong with it.

    Parameters
    ----------
    adata
        Annotated cells.
    name
        Name of the column.

    Returns
    -------
    ndarray
        One value per cell.

    Raises
    ------
    InputError
        The column does not exist, or lacks values.
    """
    if name not in adata.obs:
        raise unknown(f"column of obs of {name_of(adata)}", name, adata.obs.columns)
    missing = int(adata.obs[name].isna().sum())
    if missing:
        raise InputError(
            f"{missing} of {adata.n_obs} cells have no {name!r}; drop them first, with "
            f"cells[cells.obs[{name!r}].notna()]."
        )
    return adata.obs[name].astype(str).to_numpy()


def relative_depths(names: Iterable[str]) -> dict[str, float]:
    """Depth of each ``layer:MODEL/i`` among the layers named: 0 for layer 0, 1 for the last block.

    Parameters
    ----------
    names
        Names of representations; those that are not layers are left out.

    Returns
    -------
    dict
        Name to depth in [0, 1]; ``final`` counts as 1.

    Examples
    --------
    >>> relative_depths(["rank_pca", "layer:tiny/0", "layer:tiny/2", "layer:tiny/final"])
    {'layer:tiny/0': 0.0, 'layer:tiny/2': 1.0, 'layer:tiny/final': 1.0}
    """
    layers = [n.removeprefix("layer:").rpartition("/") for n in names if n.startswith("layer:")]
    last: dict[str, int] = {}
    for model, _, layer in layers:
        if layer.isdigit():
            last[model] = max(last.get(model, 0), int(layer))
    return {
        f"layer:{model}/{layer}": int(layer) / max(last[model], 1) if layer.isdigit() else 1.0
        for model, _, layer in layers
    }
