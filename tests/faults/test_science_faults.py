"""Structure, regulation, manifold: bad input is refused in words."""

import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sclin.benchmarks import manifold, regulation, structure
from sclin.datasets import simulate
from sclin.errors import DataError, InputError


@pytest.fixture(scope="module")
def cells():
    return simulate.regulation(n_cells=150, n_genes=120, n_tfs=3, n_targets=5, library=150)


def test_species_without_ortholog_table(cells):
    sets = {"human": cells, "mouse": cells}
    with pytest.raises(InputError, match=r"ortholog table.*mouse"):
        structure.divergence(sets, myr={"mouse": 90.0})
    with pytest.raises(InputError, match=r"No ortholog table for \['mouse'\]"):
        structure.align_species(sets, {})


def test_repeated_orthologs_are_refused(cells):
    table = pd.DataFrame({"source": cells.var_names[:2], "target": [cells.var_names[0]] * 2})
    with pytest.raises(InputError, match="one2one"):
        structure.align_species({"human": cells, "mouse": cells}, {"mouse": table})


def test_no_shared_class():
    data = simulate.species(n_cells=20, n_genes=80)
    for name, adata in data.adatas.items():
        adata.obs["cell_type"] = [f"{name} cell"] * adata.n_obs
    with pytest.raises(InputError, match="shared by all species"):
        structure.divergence(data)


def test_unknown_stage_depth_protocol(cells):
    with pytest.raises(InputError, match="No cell of"):
        structure.lineage(cells, ["cell", "root", "leaf"])
    with pytest.raises(InputError, match="holds 10000000 molecules"):
        structure.match_depth({"a": cells}, depth=10_000_000)
    with pytest.raises(InputError, match="as_published"):
        structure.lineage(cells, ["cell"], protocol="best")
    with pytest.raises(InputError, match="order='rank_only'"):
        structure.class_averages(cells, order="rank_only")
    with pytest.raises(InputError, match="no column 'celltype'"):
        structure.class_averages(cells, "celltype")


def test_permutation_needs_three_complete_units():
    with pytest.raises(InputError, match="three units"):
        structure.permutation_test([1, 2], [2, 1])
    with pytest.raises(InputError, match="missing"):
        structure.permutation_test([1, 2, np.nan], [2, 1, 3])


def test_tree_must_name_the_same_classes():
    similarity = pd.DataFrame(np.eye(4), index=list("abcd"), columns=list("abcd"))
    with pytest.raises(InputError, match="both must name"):
        structure.tree_recovery(similarity, "((a,b),(c,e));")


def test_factor_absent_silent_or_rare(cells):
    with pytest.raises(InputError, match=r"No gene is called 'GENE0000'. Did you mean"):
        regulation.association(cells, "GENE0000")
    silent = cells.copy()
    silent.X = (silent.X @ sp.diags(np.sign(np.arange(120.0)))).astype(np.float32).tocsr()
    with pytest.raises(InputError, match="no count in any of 150 cells"):
        regulation.association(silent, "GENE00000")
    with pytest.raises(InputError, match="with and without"):
        regulation.association(cells, "GENE00001", min_cells=149)
    with pytest.raises(InputError, match="can be tested"):
        regulation.run(silent, ["GENE00000", "NOTHING"])


def test_skipped_factors_are_counted(cells):
    outcome = regulation.run(cells, ["GENE00000", "NOTHING"])
    assert list(outcome.skipped) == ["NOTHING"] and "NOTHING" in outcome.skipped["NOTHING"]
    assert outcome.factors["tf"].tolist() == ["GENE00000"]


def test_fewer_cells_than_neighbours_and_missing_values():
    with pytest.raises(InputError, match="46"):
        manifold.flatness(np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(InputError, match="finite"):
        manifold.flatness(np.full((60, 2), np.nan))


class _String(BaseHTTPRequestHandler):
    answer = b""

    def do_GET(self):
        self.send_response(200 if self.answer else 503)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def service():
    with socketserver.TCPServer(("127.0.0.1", 0), _String) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()
        thread.join()


def test_string_offline_is_one_readable_line(service):
    with pytest.raises(DataError, match=r"STRING did not answer for 'E2F8'.*pathway_commons"):
        regulation.string_partners("E2F8", url=service)  # answers 503
    with pytest.raises(DataError, match="did not answer"):
        regulation.string_partners("E2F8", url="http://127.0.0.1:9/api", timeout=2)


def test_string_answer_is_read(service, monkeypatch):
    head = "stringId_A\tpreferredName_A\tpreferredName_B\tscore\tescore\n"
    monkeypatch.setattr(_String, "answer", (head + "9606.1\tE2F8\tE2F7\t0.9\t0.5\n").encode())
    partners = regulation.string_partners("E2F8", url=service)
    assert partners.to_dict("records") == [
        {"source": "E2F8", "target": "E2F7", "score": 0.9, "experiments": 0.5}
    ]
    monkeypatch.setattr(_String, "answer", b"a\tb\n1\t2\n")
    with pytest.raises(DataError, match="lacks the columns"):
        regulation.string_partners("E2F8", url=service)
