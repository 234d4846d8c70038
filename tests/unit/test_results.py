from __future__ import annotations

import pandas as pd
import pytest

from sclin import results
from sclin.errors import InputError
from sclin.statistics import Interval


def row(**fields):
    given = {"task": "t", "dataset": "d", "metric": "f1_macro", "value": 0.9}
    return results.row(**given | fields)


def test_tables_survive_a_round_trip(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLIN_RESULTS", str(tmp_path))
    monkeypatch.setenv("SCLIN_PROFILE", "public")
    results.save([row(value=Interval(0.9, 0.8, 0.95, 4), layer="03", unit="donor")], "05_x")
    table = results.load()
    assert table.loc[0, "profile"] == "public"
    assert table.loc[0, ["ci_low", "ci_high", "n"]].tolist() == [0.8, 0.95, 4]
    assert table.loc[0, ["layer", "unit", "chapter"]].tolist() == ["03", "donor", "05_x"]
    assert tuple(table.columns) == (*results.COLUMNS, "chapter")


def test_a_layer_representation_fills_model_and_layer():
    made = row(representation="layer:tahoe-x1/final")
    assert (made["model"], made["layer"]) == ("tahoe-x1", "final")


def test_rows_are_told_apart_by_their_variant_and_not_by_a_note():
    results.table([row(), row(variant="shuffled_labels", value=0.3)])
    with pytest.raises(InputError, match=r"1 of 2 results share their key.*\n.*`variant`"):
        results.table([row(note="one")], [row(note="other", value=0.8)])


def trained(*values, **fields):
    """What a model trained with several seeds gave, as one table."""
    name = "layer:m-seed{}/final"
    rows = [row(representation=name.format(i + 1), value=v, **fields) for i, v in enumerate(values)]
    return results.over_seeds(results.table(rows, [row(representation="rank", value=0.5)]))


def test_seeds_of_a_training_stand_beside_one_plain_row():
    found = trained(0.1, 0.2, 0.6).set_index(["representation", "variant"])
    assert list(found.index) == [("rank", ""), ("layer:m/final", ""), *(
        ("layer:m/final", f"training seed {i}") for i in (1, 2, 3))]  # fmt: skip
    plain = found.loc[("layer:m/final", "")]
    assert plain[["ci_low", "ci_high", "n", "unit"]].tolist() == [0.1, 0.6, 3, "seed"]
    assert plain["value"] == pytest.approx(0.3)
    assert (plain["model"], plain["layer"]) == ("m", "final")


def test_what_all_seeds_show_is_what_the_plain_comparison_shows():
    about = {"variant": "versus:rank", "n": 8, "unit": "donor"}
    gap = trained(0.1, 0.3, metric="f1_macro_difference", ci_low=0.05, ci_high=0.4, **about)
    assert gap.loc[1, ["value", "ci_low", "n", "unit"]].tolist() == [0.2, 0.05, 8, "donor"]
    assert gap.loc[2, "variant"] == "training seed 1; versus:rank"
    assert trained(0.01, 0.2, metric="f1_macro_p", **about).loc[1, "value"] == 0.2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: results.table([row(protocol="correct")]), "Did you mean 'corrected'"),
        (lambda: results.table([row(source="paper")]), "published"),
        (lambda: results.table(pd.DataFrame({"task": ["t"]})), "first edition must be run again"),
    ],
)
def test_bad_tables_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run a chapter first"):
        results.load(tmp_path)
