import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sclin.linear import AnovaSelector, ImplicitPCA, linear_pipeline
from sclin.normalization import rank_normalize

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 90)
RATES = RNG.gamma(0.3, 1.5, (4, 400))
RATES[:, 350:] = 0  # genes never seen: their scores tie in every cell
COUNTS = RNG.poisson(RATES[Y] * RNG.uniform(0.3, 3, (90, 1))).astype(np.float32)
RANKS = rank_normalize(COUNTS)
FORMS = {
    "ranks": (RANKS, RANKS.toarray().astype(np.float64)),
    "csr": (sp.csr_matrix(np.log1p(COUNTS)), np.log1p(COUNTS).astype(np.float64)),
    "integer csr": (sp.csr_matrix(COUNTS.astype(np.int32)), COUNTS.astype(np.float64)),
    "array": (np.log1p(COUNTS).astype(np.float64), np.log1p(COUNTS).astype(np.float64)),
}


def dense(X):
    return X.toarray() if hasattr(X, "toarray") else X


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Features:UserWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_anova_is_select_k_best(form):
    X, D = FORMS[form]
    for k in (1, 37, 200):
        ours, theirs = AnovaSelector(k=k).fit(X, Y), SelectKBest(f_classif, k=k).fit(D, Y)
        np.testing.assert_array_equal(ours.get_support(), theirs.get_support())
        np.testing.assert_allclose(dense(ours.transform(X)), theirs.transform(D), atol=1e-6)
    seen = D.var(axis=0) > 1e-20
    np.testing.assert_allclose(ours.scores_[seen], theirs.scores_[seen], rtol=1e-6)
    np.testing.assert_allclose(ours.pvalues_[seen], theirs.pvalues_[seen], rtol=1e-5, atol=1e-300)


def test_anova_ties_are_broken_as_by_scikit_learn():
    X = np.tile(RNG.normal(size=(90, 1)), (1, 10))
    ours = AnovaSelector(k=3).fit(X, Y).get_support(indices=True)
    np.testing.assert_array_equal(ours, [7, 8, 9])
    theirs = SelectKBest(f_classif, k=3).fit(X, Y).get_support(indices=True)
    np.testing.assert_array_equal(ours, theirs)


def test_anova_of_constant_genes():
    X = np.column_stack([np.full(90, 0.1), RNG.normal(size=90), np.full(90, 1e8), Y * 2.0])
    selector = AnovaSelector(k=2).fit(X, Y)
    assert np.isnan(selector.scores_[[0, 2]]).all()
    assert np.isinf(selector.scores_[3]) or selector.scores_[3] > 1e10
    np.testing.assert_array_equal(selector.get_support(indices=True), [1, 3])


def test_anova_keeps_what_there_is():
    selector = AnovaSelector(k=20_000).fit(RANKS, Y)
    assert selector.k_ == 400
    assert selector.transform(RANKS) is RANKS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("genes", [slice(None), slice(0, 60)], ids=["wide", "tall"])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_exact_solver_is_scaler_and_pca(form, genes, whiten, scale):
    X, D = FORMS[form]
    X, D = X[:, genes], D[:, genes]
    ours = ImplicitPCA(n_components=15, whiten=whiten, scale=scale).fit(X)
    assert ours.solver_ == "exact"
    scaler = StandardScaler(with_std=scale).fit(D)
    theirs = PCA(15, whiten=whiten, svd_solver="full").fit(scaler.transform(D))
    np.testing.assert_allclose(ours.mean_, scaler.mean_, atol=1e-7)
    if scale:
        np.testing.assert_allclose(ours.scale_, scaler.scale_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-6
    )
    np.testing.assert_allclose(ours.singular_values_, theirs.singular_values_, rtol=1e-6)
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-5)
    expected = theirs.transform(scaler.transform(D))
    found = ours.transform(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def large(seed=0, n_cells=900, n_genes=1500):
    """Cells of 6 types on a smooth spectrum, large enough for the iterative solver."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(size=(6, n_genes))) * rng.gamma(0.2, 1, n_genes)
    types = rng.integers(0, 6, n_cells)
    return rank_normalize(sp.csr_matrix(rng.poisson(rates[types]).astype(np.float32))), types


def test_krylov_solver_against_the_exact_one():
    Z, _ = large()
    ours = ImplicitPCA(n_components=40).fit(Z)
    assert ours.solver_ == "krylov"
    scaled = StandardScaler().fit_transform(Z.toarray().astype(np.float64))
    theirs = PCA(40, svd_solver="full").fit(scaled)
    captured = ours.explained_variance_.sum() / theirs.explained_variance_.sum()
    assert 0.99 < captured < 1 + 1e-6
    randomized = PCA(40, svd_solver="randomized", random_state=0).fit(scaled)
    assert ours.explained_variance_.sum() > randomized.explained_variance_.sum()
    # The five directions between six types stand out of the noise and must be exact.
    np.testing.assert_allclose(ours.components_[:5], theirs.components_[:5], atol=1e-4)
    np.testing.assert_allclose(
        ours.explained_variance_[:5], theirs.explained_variance_[:5], rtol=1e-6
    )
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(40), atol=1e-5)
    whitened = ImplicitPCA(n_components=40, whiten=True).fit_transform(Z)
    # The space holds the leading variances exactly and the last ones a little low.
    spread = whitened.var(axis=0, ddof=1)
    np.testing.assert_allclose(spread[:5], 1, rtol=1e-5)
    assert spread.min() > 1 - 1e-5
    assert spread.max() < 1.02


def test_krylov_solver_repeats_with_its_seed():
    Z, _ = large()
    first, again = (ImplicitPCA(n_components=40, seed=3).fit(Z) for _ in range(2))
    np.testing.assert_array_equal(first.components_, again.components_)
    other = ImplicitPCA(n_components=40, seed=4).fit(Z)
    assert not np.array_equal(first.components_, other.components_)


def test_matrices_of_low_rank_fall_back_to_the_exact_solver():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 3)) @ rng.normal(size=(3, 1000))
    model = ImplicitPCA(n_components=10, scale=False).fit(X)
    assert model.solver_ == "exact"
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(10), atol=1e-8)
    np.testing.assert_allclose(model.explained_variance_[3:], 0, atol=1e-8)
    back = model.transform(X) @ model.components_ + model.mean_
    np.testing.assert_allclose(back, X, atol=1e-6)


def test_constant_matrix():
    model = ImplicitPCA(n_components=2, whiten=True).fit(np.ones((5, 4)))
    assert np.isfinite(model.transform(np.ones((5, 4)))).all()
    assert not model.explained_variance_ratio_.any()


def test_pipeline_equals_the_dense_one():
    theirs = make_pipeline(
        SelectKBest(f_classif, k=150),
        StandardScaler(),
        PCA(20, whiten=True, svd_solver="full"),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    ours = linear_pipeline(n_genes=150, n_components=20)
    train, test = np.arange(90) < 60, np.arange(90) >= 60
    theirs.fit(RANKS.toarray().astype(np.float64)[train], Y[train])
    ours.fit(sp.csr_matrix(COUNTS[train]), Y[train])
    np.testing.assert_allclose(
        ours.predict_proba(sp.csr_matrix(COUNTS[test])),
        theirs.predict_proba(RANKS.toarray().astype(np.float64)[test]),
        atol=1e-3,
    )
    ours.fit(RANKS[train], Y[train])
    assert (ours.predict(RANKS[test]) == Y[test]).mean() > 0.9


def test_pipeline_goes_through_cross_validation():
    model = linear_pipeline(n_genes=100, n_components=10)
    for X in (RANKS, sp.csr_matrix(COUNTS), COUNTS):
        assert cross_val_score(model, X, Y, cv=3, scoring="f1_macro").mean() > 0.9


def test_pipeline_can_leave_the_ranks_out():
    assert list(linear_pipeline(rank=False).named_steps) == ["anova", "pca", "logistic"]


@parametrize_with_checks(
    [AnovaSelector(), ImplicitPCA(n_components=2), ImplicitPCA(n_components=2, whiten=True)]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)
