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


def test_freezing_copies_the_tables_and_says_what_changed(tmp_path, monkeypatch):
    run, kept = tmp_path / "run", tmp_path / "kept"
    monkeypatch.setenv("SCLIN_RESULTS", str(run))
    results.save([row(), row(dataset="e")], "05_x")
    assert results.freeze(run, kept)["change"].tolist() == ["came", "came"]
    results.save([row(value=0.91), row(dataset="f")], "05_x")
    changed = results.freeze(run, kept).set_index("dataset")
    assert changed["change"].to_dict() == {"d": "differs", "e": "went", "f": "came"}
    assert changed.loc["d", ["old", "new"]].tolist() == [0.9, 0.91]
    assert results.compare(results.load(run), results.load(kept)).empty


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
