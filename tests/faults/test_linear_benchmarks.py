"""Species: bad input is refused in words, what is odd is counted."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from sclin.datasets import simulate
from sclin.errors import InputError
from sclin.tasks import cross_species

FAST = {"representations": ["rank"], "heads": ["projection"], "min_cells": 5, "n_boot": 20}


@pytest.fixture(scope="module")
def cells():
    return simulate.atlas(n_cells=150, n_genes=120, n_types=3, n_donors=3, seed=1)


# Species -----------------------------------------------------------------------------------------


def test_no_shared_gene_says_what_is_there():
    a, b = (AnnData(np.ones((1, 1)), var=pd.DataFrame(index=[g])) for g in "Ab")
    with pytest.raises(InputError, match="one kind of gene id"):
        cross_species.cut_to_orthologs(a, b, pd.DataFrame({"source": ["X"], "target": ["b"]}))


def test_species_without_table_or_common_types(three, mammals):
    with pytest.raises(InputError, match="no ortholog table for human to mouse"):
        cross_species.run(three, {}, **FAST)
    with pytest.raises(InputError, match="two species"):
        cross_species.run({"human": three["human"]}, mammals)
    with pytest.raises(InputError, match="species dataset"):
        cross_species.load_species(["human"])
    other = {name: a.copy() for name, a in three.items()}
    other["mouse"].obs["cell_type"] = "mouse " + other["mouse"].obs["cell_type"].astype(str)
    with pytest.raises(InputError, match="one vocabulary"):
        cross_species.run(other, mammals, **FAST)
    with pytest.raises(InputError, match="cut_to_orthologs first"):
        cross_species.transfer(three["human"], three["mouse"])


def test_a_folder_without_the_table_names_the_file(three, tmp_path):
    tables = cross_species.read_orthologs(tmp_path)
    with pytest.raises(InputError, match=r"human_mouse.csv nor mouse_human.csv.*BioMart"):
        cross_species.run(three, tables, **FAST)
