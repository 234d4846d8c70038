"""Bad input to the rank scores, the projection and the linear pipeline."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from sclin.errors import InputError
from sclin.linear import AnovaSelector, ImplicitPCA, linear_pipeline
from sclin.normalization import RankMatrix, RankNormalizer, rank_normalize
from sclin.projection import CentroidProjection, align_genes

X = np.random.default_rng(0).poisson(1.0, (12, 30)).astype(np.float32)
Y = np.repeat(["a", "b"], 6)


def spoiled(value):
    bad = X.copy()
    bad[3, 7] = value
    return bad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_not_finite_names_the_place(value, form):
    for use in (
        rank_normalize,
        RankNormalizer().fit,
        ImplicitPCA(n_components=2).fit,
        lambda bad: AnovaSelector().fit(bad, Y),
        lambda bad: CentroidProjection().fit(bad, Y),
        lambda bad: CentroidProjection().fit(X, Y).predict(bad),
    ):
        with pytest.raises(InputError, match=r"1 value\(s\), the first in cell 3, gene 7"):
            use(form(spoiled(value)))


def test_not_finite_in_anndata_names_cell_and_gene():
    adata = anndata.AnnData(spoiled(np.nan))
    adata.obs_names = [f"c{i}" for i in range(12)]
    adata.var_names = [f"G{i}" for i in range(30)]
    with pytest.raises(InputError, match="cell 'c3', gene 'G7'"):
        rank_normalize(adata)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([["a", "b"]]), "not numeric.*Give counts"),
        (np.array([[1, "b"]], dtype=object), "not numeric"),
        (np.array([[1 + 2j]]), "not numeric"),
        (np.arange(4.0), "Reshape your data"),
        (np.empty((3, 0)), "no genes"),
        (np.zeros((2, 2, 2)), "cells x genes"),
        ([[1, 2], [3]], "cannot be read as an array"),
    ],
)
def test_matrices_that_cannot_be_ranked(bad, message):
    with pytest.raises(InputError, match=message):
        rank_normalize(bad)


def test_rank_matrix_refuses():
    Z = rank_normalize(X)
    with pytest.raises(InputError, match=r"toarray\(\)"):
        np.asarray(Z)
    with pytest.raises(InputError, match="Give 30 rows"):
        Z @ np.ones(12)
    with pytest.raises(InputError, match="Give 12 rows"):
        Z.T_dot(np.ones(30))
    with pytest.raises(InputError, match=r"some of the 12 cells.*boolean"):
        Z[np.ones(5, dtype=bool)]
    with pytest.raises(InputError, match=r"some of the 30 genes.*out of bounds"):
        Z[:, 30]
    with pytest.raises(InputError, match="only integers, slices"):
        Z[["a"]]
    with pytest.raises(InputError, match="Use 0"):
        Z.mean(axis=2)
    with pytest.raises(InputError, match="one number per cell"):
        RankMatrix(Z.sparse, np.zeros(3))
    with pytest.raises(InputError, match="same genes"):
        RankMatrix.stack([Z, Z[:, :3]])
    with pytest.raises(InputError, match="at least one block"):
        RankMatrix.stack([])


@pytest.mark.parametrize(
    "estimator",
    [CentroidProjection(), CentroidProjection(rank=False), AnovaSelector(), linear_pipeline()],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"] * 12, "class"),
        (["a"] * 5, "12 cells"),
        (np.linspace(0, 1, 12), "class labels, not measurements"),
        (None, "give the classes"),
    ],
)
def test_labels_that_do_not_fit(estimator, y, message):
    with pytest.raises(InputError, match=message):
        estimator.fit(X, y)


def test_missing_labels():
    with pytest.raises(InputError, match="1 cells have no label"):
        CentroidProjection().fit(X, [None, *Y[1:]])


def test_every_cell_its_own_class():
    with pytest.raises(InputError, match="more cells than classes"):
        AnovaSelector().fit(X, [str(i) for i in range(12)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "rank_then_averag"}, "Did you mean 'rank_then_average'"),
        ({"order": None}, "No order is called"),
    ],
)
def test_projection_options(options, message):
    with pytest.raises(InputError, match=message):
        CentroidProjection(**options).fit(X, Y)


def test_projection_wants_counts():
    with pytest.raises(InputError, match=r"smallest is -2.*rank=False"):
        CentroidProjection().fit(X - 2, Y)
    with pytest.raises(InputError, match="order='rank_then_average'"):
        CentroidProjection().fit(rank_normalize(X), Y)


def test_gene_names():
    other = anndata.AnnData(X)
    other.var_names = [f"ENSG{i}" for i in range(30)]
    with pytest.raises(InputError, match=r"No genes are shared.*map orthologs"):
        align_genes(anndata.AnnData(X), other)
    other.var_names = ["1", *other.var_names[1:-1], "1"]
    with pytest.raises(InputError, match="The query has 1 gene name"):
        align_genes(anndata.AnnData(X), other)
    with pytest.raises(InputError, match="called 'c'; there are a, b"):
        CentroidProjection().fit(X, Y).contributions(X, "c")


def test_dependent_averages_are_said():
    twice = np.vstack([X, X[:6]])
    with pytest.warns(UserWarning, match="span only 2 dimensions; the closest pair is 'a' and 'c'"):
        model = CentroidProjection().fit(twice, [*Y, *["c"] * 6])
    coefficients = model.coefficients(X)
    np.testing.assert_allclose(coefficients[:, 0], coefficients[:, 2], atol=1e-8)


@pytest.mark.parametrize("k", [0, -1, 2.5, "all"])
def test_numbers_of_genes_and_components(k):
    with pytest.raises(InputError, match="whole number from 1 on"):
        AnovaSelector(k=k).fit(X, Y)
    with pytest.raises(InputError, match="whole number from 1 on"):
        ImplicitPCA(n_components=k).fit(X)


def test_components_need_two_cells():
    with pytest.raises(InputError, match=r"two cells|minimum of 2"):
        ImplicitPCA(n_components=1).fit(X[:1])
    with pytest.raises(InputError, match="two cells"):
        ImplicitPCA(n_components=1).fit(rank_normalize(X)[:1])


def test_too_many_components_are_said():
    with pytest.warns(UserWarning, match="220 components were asked for; 12 cells and 30 genes"):
        model = ImplicitPCA(n_components=220).fit(X)
    assert model.n_components_ == 11
    assert model.transform(X).shape == (12, 11)


def test_other_numbers_of_genes():
    Z = rank_normalize(X)
    for model in (
        RankNormalizer().fit(X),
        AnovaSelector(k=3).fit(X, Y),
        ImplicitPCA(n_components=2).fit(X),
    ):
        for other in (X[:, :4], sp.csr_matrix(X[:, :4]), Z[:, :4]):
            with pytest.raises(InputError, match=r"4 features, but .* expecting 30 features"):
                model.transform(other)
