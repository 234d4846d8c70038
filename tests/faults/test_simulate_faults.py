"""Simulators refuse sizes that make no sense, and say which."""

import pytest

from sclin.datasets import simulate
from sclin.errors import InputError


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: simulate.atlas(n_cells=0), "n_cells is 0"),
        (lambda: simulate.atlas(ambient=1.2), "below 1"),
        (lambda: simulate.species(n_cells=2.5), "n_cells is 2.5"),
        (lambda: simulate.regulation(n_genes=20, n_tfs=5, n_targets=30), "cannot hold"),
        (lambda: simulate.trajectory(n_times=1), "two times"),
        (lambda: simulate.perturbation(n_genes=10, n_perturbations=5), "give three each"),
    ],
)
def test_refusals_name_the_option(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_unknown_species_and_kind_are_named():
    data = simulate.species(n_cells=20, n_genes=60)
    with pytest.raises(InputError, match="gibbon"):
        data.pairs("human", "gibbon")
    with pytest.raises(InputError, match="one2few"):
        data.pairs("human", "mouse", kind="one2few")
