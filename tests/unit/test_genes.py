"""Whatever is fitted on named genes gets them in that order, or refuses."""

from __future__ import annotations

import numpy as np
import pytest

from sclin import representations as rp
from sclin.chunks import dense
from sclin.errors import InputError
from sclin.heads import head
from sclin.linear import AnovaSelector, ImplicitPCA, linear_pipeline
from sclin.normalization import RankNormalizer
from sclin.projection import CentroidProjection

ESTIMATORS = {
    "logistic": head("logistic"),
    "knn": head("knn"),
    "centroid": head("centroid"),
    "projection": head("projection"),
    "CentroidProjection": CentroidProjection(),
    "pipeline": head("pipeline", n_genes=60, n_components=10),
    "linear_pipeline": linear_pipeline(n_genes=60, n_components=10),
    "AnovaSelector": AnovaSelector(k=20),
    "ImplicitPCA": ImplicitPCA(n_components=5),
    "RankNormalizer": RankNormalizer(),
}
NAMES = ("counts", "lognorm", "hvg_pca", "rank", "rank_pca", "library_size", "random")


@pytest.fixture(scope="module")
def cells(make_cells):
    return make_cells(seed=0)


@pytest.fixture(scope="module")
def permuted(cells):
    return cells[:, np.random.default_rng(1).permutation(cells.n_vars)].copy()


def ask(fitted, cells):
    ask = getattr(fitted, "predict", None) or fitted.transform
    found = ask(cells)
    return found if hasattr(fitted, "predict") else dense(found)


@pytest.mark.filterwarnings("error:X does not have valid feature names")  # the cells do have them
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_puts_genes_in_order_or_refuses(name, cells, permuted) -> None:
    fitted = ESTIMATORS[name].fit(cells, cells.obs["cell_type"].astype(str).to_numpy())
    first = fitted[0] if hasattr(fitted, "steps") else fitted
    assert list(first.feature_names_in_) == list(cells.var_names)
    np.testing.assert_array_equal(ask(fitted, permuted), ask(fitted, cells))
    with pytest.raises(InputError, match="gene"):
        ask(fitted, cells[:, 1:])


@pytest.mark.parametrize("name", ["pipeline", "hvg_pca", "rank_pca"])
def test_a_fit_on_few_cells_leaves_the_next_fit_as_it_would_be(name, cells) -> None:
    def make():
        return head(name, n_genes=60, n_components=30) if name in ESTIMATORS else (
            rp.representation(name, n_components=30)
        )  # fmt: skip

    y, few = cells.obs["cell_type"].astype(str).to_numpy(), np.arange(0, cells.n_obs, 11)
    used, fresh = make(), make()
    for fitted, rows in ((used, few), (used, slice(None)), (fresh, slice(None))):
        fitted.fit(cells[rows], y[rows]) if name in ESTIMATORS else fitted.fit(cells[rows])
    np.testing.assert_array_equal(ask(used, cells), ask(fresh, cells))


@pytest.mark.parametrize("name", NAMES)
def test_a_representation_puts_genes_in_order_or_refuses(name, cells, permuted) -> None:
    fitted = rp.representation(name).fit(cells)
    assert list(fitted.feature_names_in_) == list(cells.var_names)
    np.testing.assert_array_equal(ask(fitted, permuted), ask(fitted, cells))
    if name != "random":
        with pytest.raises(InputError, match=r"fitted on .* genes, and these cells lack 1"):
            ask(fitted, cells[:, 1:])


def test_genes_that_the_fit_did_not_see_are_left_out(cells) -> None:
    fewer = cells[:, :100].copy()
    for name in ("lognorm", "rank", "hvg_pca", "library_size"):
        fitted = rp.representation(name).fit(fewer)
        np.testing.assert_array_equal(ask(fitted, cells), ask(fitted, fewer))


def test_names_that_repeat_are_refused_where_order_matters(cells, permuted) -> None:
    fitted = rp.representation("rank").fit(cells)
    twice = permuted.copy()
    twice.var_names = ["same", "same", *twice.var_names[2:]]
    with pytest.raises(InputError, match="more than once"):
        fitted.transform(twice)
