import anndata
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sclin.normalization import RankNormalizer, rank_normalize
from sclin.projection import CentroidProjection, align_genes

RNG = np.random.default_rng(0)
PROFILES = RNG.gamma(0.4, 2.0, (3, 200))
Y = np.repeat(["alpha", "beta", "delta"], [30, 20, 25])
X = RNG.poisson(np.repeat(PROFILES, [30, 20, 25], axis=0) * RNG.uniform(0.5, 2, (75, 1)))
X = X.astype(np.float32)


def ranked(rows):
    z = ndtri(rankdata(rows, axis=1) / (rows.shape[1] + 1))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def expected_basis(order):
    if order == "average_then_rank":
        shares = X.astype(np.float64) / X.sum(axis=1, keepdims=True, dtype=np.float64)
        return ranked(np.array([shares[Y == name].mean(axis=0) for name in np.unique(Y)])).T
    columns = np.array([ranked(X)[Y == name].mean(axis=0) for name in np.unique(Y)]).T
    return columns / np.linalg.norm(columns, axis=0)


@pytest.mark.parametrize("order", ["average_then_rank", "rank_then_average"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_basis_and_coefficients_by_hand(order, form):
    model = CentroidProjection(order=order).fit(form(X), Y)
    basis = expected_basis(order)
    np.testing.assert_allclose(model.basis_, basis, atol=1e-7)
    expected = np.linalg.lstsq(basis, ranked(X).T, rcond=None)[0].T
    np.testing.assert_allclose(model.coefficients(form(X)), expected, atol=1e-6)
    np.testing.assert_array_equal(model.predict(form(X)), np.unique(Y)[expected.argmax(axis=1)])
    assert model.rank_ == 3
    assert model.class_counts_.tolist() == [30, 20, 25]


@pytest.mark.filterwarnings("ignore:The 2 class averages span only:UserWarning")
def test_weak_genes_of_an_average_keep_their_order():
    # Shares of 1.000e-7 and 1.001e-7 are one number after log2(x + 1) in float32.
    counts = np.array([[10_000_000, 1_000, 1_001, 0, 5], [20_000_000, 2_000, 2_002, 0, 11]] * 2)
    basis = CentroidProjection().fit(counts, ["a", "a", "b", "b"]).basis_[:, 0]
    assert basis[2] > basis[1] > basis[4] > basis[3]


def test_ranked_cells_are_accepted_where_they_make_sense():
    counts = CentroidProjection(order="rank_then_average").fit(X, Y)
    scores = CentroidProjection(order="rank_then_average").fit(rank_normalize(X), Y)
    np.testing.assert_allclose(scores.basis_, counts.basis_, atol=1e-9)
    first = CentroidProjection().fit(X, Y)
    np.testing.assert_allclose(
        first.coefficients(rank_normalize(X)), first.coefficients(X), atol=1e-9
    )


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_other_representations_are_used_as_they_are(form):
    Z = np.log1p(X)
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    basis = np.array([unit[Y == name].mean(axis=0) for name in np.unique(Y)]).T
    basis /= np.linalg.norm(basis, axis=0)
    model = CentroidProjection(rank=False).fit(form(Z), Y)
    np.testing.assert_allclose(model.basis_, basis, atol=1e-7)
    expected = np.linalg.lstsq(basis, unit.T, rcond=None)[0].T
    np.testing.assert_allclose(model.coefficients(form(Z)), expected, atol=1e-6)


@pytest.mark.parametrize("order", ["average_then_rank", "rank_then_average"])
@pytest.mark.parametrize("rank", [True, False])
def test_contributions_sum_to_the_coefficient(order, rank):
    model = CentroidProjection(order=order, rank=rank).fit(sp.csr_matrix(X), Y)
    for cells in (sp.csr_matrix(X[:9]), X[:1]):
        for column, name in enumerate(model.classes_):
            parts = model.contributions(cells, name)
            assert parts.shape == (200,)
            assert parts.sum() == pytest.approx(
                model.coefficients(cells)[:, column].mean(), abs=1e-7
            )


def test_threshold():
    plain = CentroidProjection().fit(X, Y)
    largest = plain.coefficients(X).max(axis=1)
    middle = float(np.median(largest))
    labels = CentroidProjection(threshold=middle).fit(X, Y).predict(X)
    np.testing.assert_array_equal(labels == "unspecified", largest < middle)
    kept = labels != "unspecified"
    np.testing.assert_array_equal(labels[kept], plain.predict(X)[kept])


def test_decision_function_of_two_classes_is_a_difference():
    two = Y != "delta"
    model = CentroidProjection().fit(X[two], Y[two])
    coefficients = model.coefficients(X)
    assert coefficients.shape == (75, 2)
    np.testing.assert_allclose(
        model.decision_function(X), coefficients[:, 1] - coefficients[:, 0], atol=1e-12
    )


def test_genes_are_put_in_order_by_name():
    names = np.array([f"G{i}" for i in range(200)])
    shuffle = RNG.permutation(200)
    expected = CentroidProjection().fit(X, Y).coefficients(X)
    query = anndata.AnnData(X[:, shuffle])
    query.var_names = names[shuffle]
    basis = anndata.AnnData(X)
    basis.var_names = names
    by_anndata = CentroidProjection().fit(basis, Y)
    np.testing.assert_allclose(by_anndata.coefficients(query), expected)
    assert by_anndata.contributions(query, "beta").index[0] == "G0"
    # Genes that the basis lacks are left out before the cells are ranked.
    more = anndata.AnnData(np.hstack([X[:, shuffle], X[:, :9] + 7]))
    more.var_names = [*names[shuffle], *(f"other {i}" for i in range(9))]
    np.testing.assert_allclose(by_anndata.coefficients(more), expected)


def test_alignment_cuts_before_ranking():
    basis, query = anndata.AnnData(X), anndata.AnnData(X[:, ::-1][:, :120].copy())
    basis.var_names = [f"G{i}" for i in range(200)]
    query.var_names = [f"G{i}" for i in range(200)][::-1][:120]
    cut_basis, cut_query = align_genes(basis, query)
    assert cut_basis.var_names.equals(cut_query.var_names)
    assert cut_basis.n_vars == 120
    np.testing.assert_array_equal(cut_basis.X, cut_query.X)
    model = CentroidProjection().fit(cut_basis, Y)
    # Basis columns keep unit length only when genes are cut before they are ranked.
    np.testing.assert_allclose(np.linalg.norm(model.basis_, axis=0), 1)
    again = CentroidProjection().fit(X[:, 80:], Y)
    np.testing.assert_allclose(model.coefficients(cut_query), again.coefficients(X[:, 80:]))


@parametrize_with_checks(
    [CentroidProjection(), CentroidProjection(rank=False)],
    expected_failed_checks=lambda model: (
        {"check_decision_proba_consistency": "it gives negative counts"} if model.rank else {}
    ),
)
@pytest.mark.filterwarnings("ignore:The . class averages span only:UserWarning")
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_a_transformer_with_a_column_per_class():
    model = CentroidProjection().set_output(transform="pandas")
    frame = model.fit_transform(pd.DataFrame(X), Y)
    assert frame.columns.tolist() == ["alpha", "beta", "delta"]
    np.testing.assert_array_equal(frame, model.coefficients(X))


def test_shares_of_the_positive_coefficients():
    model = CentroidProjection(rank=False).fit(np.eye(3)[[0, 1, 2]], ["a", "b", "c"])
    shares = model.predict_proba(np.array([[3.0, 1.0, -1.0], [-3.0, -1.0, -2.0]]))
    np.testing.assert_allclose(shares[0], [0.75, 0.25, 0], atol=1e-12)
    # No class fits the second cell: its shares are nearly even, and keep the order.
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[1].argsort().tolist() == [0, 2, 1] and shares[1].max() < 0.5


def test_groups_are_routed_past_our_steps(tmp_path):
    donors = np.arange(75) % 3
    model = make_pipeline(RankNormalizer(), CentroidProjection(order="rank_then_average"))
    with config_context(enable_metadata_routing=True):
        found = cross_validate(
            model,
            sp.csr_matrix(X),
            Y,
            cv=GroupKFold(3),
            params={"groups": donors},
            return_indices=True,
        )
    assert [np.unique(donors[test]).size for test in found["indices"]["test"]] == [1, 1, 1]
    assert min(found["test_score"]) > 0.9
    joblib.dump(clone(model).fit(X, Y), tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict(X), model.fit(X, Y).predict(X))
