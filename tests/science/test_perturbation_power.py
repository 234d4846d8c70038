"""The test of a perturbation's effect finds what is there, and nothing else.

The longer table, four seeds of 20 perturbations and 1,500 genes, takes minutes:
`python tests/science/test_perturbation_power.py`.
"""

import numpy as np
import pandas as pd

from sclin.datasets import simulate
from sclin.representations import log_normalize
from sclin.tasks import perturbation as response


def p_values(n_each, effect, *, seed, n_genes=1000, n_permutations=999):
    """P values of the perturbations of a screen whose pathways all act, by true effect or null."""
    made = simulate.perturbation(
        n_cells_per=n_each, n_genes=n_genes, effect=effect, states=("rest", "48h"), seed=seed
    )
    truth, late = made.uns["sclin"]["truth"], made[made.obs["condition"] == "48h"]
    kinds = pd.Series("true effect", list(truth["pathway"].index))
    kinds[list(truth["null"])] = "null"
    p = response.effect_p_values(
        log_normalize(late, target=float(np.median(np.asarray(late.X.sum(axis=1))))),
        response.read_names(late), kinds.index, own_gene=response.own_genes(late, kinds.index),
        n_permutations=n_permutations, seed=seed,
    )  # fmt: skip
    return pd.Series(p, kinds.to_numpy())


def test_sixty_cells_find_four_of_five_effects():
    p = pd.concat([p_values(60, 1.5, seed=s, n_permutations=199) for s in (0, 1)])
    assert (p["true effect"] <= 0.05).mean() >= 0.8


def test_no_effect_is_found_at_the_rate_of_the_level():
    rng = np.random.default_rng(0)
    X = np.log1p(rng.poisson(rng.gamma(0.5, 1.0, (1, 200)), (1300, 200))).astype(np.float32)
    names = np.array(["control"] * 300 + [f"p{i // 20}" for i in range(1000)])
    p = response.effect_p_values(X, names, [f"p{i}" for i in range(50)], n_permutations=199)
    # Tests share their controls; 7 of 50 or more would come by chance in about 1 % of runs.
    assert (p <= 0.05).sum() <= 6
    assert 0.35 < p.mean() < 0.65


if __name__ == "__main__":
    rows = [
        (effect, n, kind, p <= 0.05)
        for effect in (0.8, 1.5) for n in (20, 40, 60, 120) for seed in range(4)
        for kind, p in p_values(n, effect, seed=seed, n_genes=1500).items()
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["fold", "cells", "kind", "found"])
    print(table.pivot_table(index=["fold", "cells"], columns="kind", values="found").round(3))
