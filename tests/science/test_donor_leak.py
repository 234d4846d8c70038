"""A task written in one short module: what `book/using.md` shows."""

import numpy as np
import pytest
from scipy import sparse

from tests.science import donor_leak


@pytest.mark.parametrize("leaks", [True, False])
def test_the_donor_is_found_where_it_leaks_and_only_there(make_cells, leaks):
    cells = make_cells(seed=0)
    if leaks:
        of = cells.obs["donor"].str[1].astype(int).to_numpy()
        extra = np.zeros(cells.shape, dtype=np.float32)
        for donor in range(4):
            extra[of == donor, 80 + 10 * donor : 90 + 10 * donor] = 2
        cells.X = sparse.csr_matrix(cells.X + extra)
    found = donor_leak.run(cells, representations=["rank", "lognorm"], heads=["centroid"])
    rows = found.table.query("metric == 'balanced_accuracy' and variant == ''")
    rows = rows.set_index("representation")
    assert set(rows["unit"]) == {"cell_type"} and set(rows["n"]) == {3}
    assert (rows.loc[["rank", "lognorm"], "value"] > 0.9).all() == leaks
    assert (rows.loc[["rank", "lognorm", "random"], "value"] < 0.4).all() == (not leaks)
