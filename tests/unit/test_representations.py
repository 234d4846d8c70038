from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sclin import representations as rp
from sclin.errors import InputError
from sclin.evaluation import classification_metrics, leave_one_donor_out, split_cells
from sclin.normalization import RankMatrix


def test_lognorm_equals_the_formula(cells):
    got = rp.representation("lognorm").fit(cells).transform(cells)
    dense = cells.X.toarray()
    expected = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    np.testing.assert_allclose(got.toarray(), expected, rtol=1e-5)
    assert cells.X.max() == int(cells.X.max())  # the counts are untouched


def test_log_values_pass_and_counts_refuse_them(cells):
    cells.uns["sclin"] = {"values": "log"}
    assert rp.representation("lognorm").transform(cells) is cells.X
    with pytest.raises(InputError, match="log values"):
        rp.representation("counts").transform(cells)


def test_an_empty_cell_stays_empty(cells):
    X = cells.X.tolil()
    X[3] = 0
    cells.X = sparse.csr_matrix(X)
    assert rp.representation("lognorm").transform(cells)[3].nnz == 0


@pytest.mark.parametrize("name", ["hvg_pca", "rank_pca"])
def test_components_do_not_see_the_test_cells(cells, name):
    train, test = cells[:180].copy(), cells[180:].copy()
    first = rp.representation(name, n_components=5).fit(train)
    before = first.transform(train)
    other = test.copy()
    other.X = other.X * 7
    again = rp.representation(name, n_components=5).fit(train)
    again.transform(other)
    np.testing.assert_array_equal(before, again.transform(train))
    assert before.shape == (180, 5)


def test_fewer_cells_give_fewer_components(cells):
    assert rp.representation("rank_pca", n_components=50).fit(cells[:20]).transform(
        cells[:20]
    ).shape == (20, 19)


def test_random_depends_on_cell_and_seed_only(cells):
    whole = rp.representation("random", n_components=4).transform(cells)
    part = rp.representation("random", n_components=4).transform(cells[[5, 2]])
    np.testing.assert_array_equal(part, whole[[5, 2]])
    other = rp.representation("random", n_components=4, seed=1).transform(cells)
    assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.1
    assert abs(whole.mean()) < 0.1 and abs(whole.std() - 1) < 0.1
    assert abs(np.corrcoef(whole.T)[np.triu_indices(4, 1)]).max() < 0.2


def test_library_size_knows_depth_only(cells):
    got = rp.representation("library_size").transform(cells)
    np.testing.assert_allclose(np.expm1(got[:, 0]), cells.X.toarray().sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(np.expm1(got[:, 1]), (cells.X.toarray() > 0).sum(axis=1), rtol=1e-6)


def test_stored_arrays_are_read_by_key(cells):
    cells.obsm["X_model"] = np.arange(cells.n_obs * 2.0).reshape(-1, 2)
    got = rp.representation("obsm:X_model").transform(cells[[3, 1]])
    np.testing.assert_array_equal(got, [[6, 7], [2, 3]])


def test_rank_is_sparse(cells):
    assert isinstance(rp.representation("rank").transform(cells), RankMatrix)


PAIRS = [
    (name, head)
    for name in ("rank", "lognorm", "hvg_pca", "rank_pca")
    for head in rp.HEADS
    if rp.head_fits(head, of=name)
]


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_every_head_learns_what_can_be_learnt(cells, name, head):
    found = rp.cross_validate(
        cells, "cell_type", representation=name, head=head,
        splits=leave_one_donor_out(cells.obs["donor"]),
        options={"logistic": {"n_components": 20}, "knn": {"n_components": 10},
                 "hvg_pca": {"n_components": 10, "n_genes": 80}, "rank_pca": {"n_components": 10}},
    )  # fmt: skip
    assert classification_metrics(found.y_true, found.y_pred)["macro_f1"] > 0.9
    assert sorted(found.cell) == list(range(cells.n_obs))
    if found.proba is not None:
        np.testing.assert_allclose(found.proba.sum(axis=1), 1)


@pytest.mark.parametrize("head", ["logistic", "projection", "centroid", "knn"])
def test_shuffled_labels_score_at_chance(cells, rng, head):
    # Cells without clusters: otherwise one permutation can favour one cluster for all its cells.
    cells.X = sparse.csr_matrix(rng.poisson(0.5, size=cells.shape).astype(np.float32))
    splits = split_cells(cells.obs["cell_type"], n_splits=3)
    scores = []
    for seed in range(4):
        found = rp.cross_validate(
            cells, "cell_type", representation="rank", head=head, splits=splits,
            shuffle_labels=True, seed=seed, options={"logistic": {"n_components": 20}},
        )  # fmt: skip
        scores.append(np.mean(found.y_true == found.y_pred))
    assert abs(np.mean(scores) - 1 / 3) < 0.08


@pytest.mark.parametrize("name", ["random", "library_size"])
def test_controls_score_near_chance(cells, name):
    splits = split_cells(cells.obs["cell_type"], n_splits=3)
    found = rp.cross_validate(
        cells, "cell_type", representation=name, head="logistic", splits=splits
    )
    assert np.mean(found.y_true == found.y_pred) < 0.45


def test_a_class_absent_from_training_is_counted(cells):
    cells.obs["donor"] = np.where(cells.obs["cell_type"] == "type 0", "d0", cells.obs["donor"])
    found = rp.cross_validate(
        cells, "cell_type", representation="rank", head="centroid",
        splits=leave_one_donor_out(cells.obs["donor"]),
    )  # fmt: skip
    assert found.n_unseen == (cells.obs["cell_type"] == "type 0").sum()


def test_grid_leaves_out_pairs_that_do_not_fit(cells):
    splits = split_cells(cells.obs["cell_type"], n_splits=2)
    found = rp.grid(
        cells, "cell_type", representations=["rank", "library_size"],
        heads=["projection", "centroid"], splits=splits,
    )  # fmt: skip
    assert set(found) == {
        ("rank", "projection"), ("rank", "centroid"), ("library_size", "centroid"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: rp.representation("ranks"), "Did you mean 'rank'"),
        (lambda c: rp.representation("layer:tiny"), "layer:MODEL/i"),
        (lambda c: rp.representation("obsm:X_pca").transform(c), "obsm has no 'X_pca'"),
        (lambda c: rp.head("logistics"), "Did you mean 'logistic'"),
        (lambda c: rp.column(c, "celltype"), "Did you mean 'cell_type'"),
        (
            lambda c: rp.cross_validate(
                c, "cell_type", representation="counts", head="projection", splits=[]
            ),
            "use 'rank'",
        ),
        (lambda c: rp.KNNHead(n_neighbors=999).fit(c.X, c.obs["cell_type"]), "fewer than 999"),
    ],
)
def test_bad_input_names_what_and_the_remedy(cells, call, words):
    with pytest.raises(InputError, match=words):
        call(cells)
