"""Tables that are kept: what a run changes is listed, and nothing else."""

from __future__ import annotations

import frozen

from sclin import results


def row(**fields):
    given = {"task": "t", "dataset": "d", "metric": "f1_macro", "value": 0.9}
    return results.row(**given | fields)


def trained(*values):
    """What a model trained with several seeds gave, as one table."""
    name = "layer:m-seed{}/final"
    rows = [row(representation=name.format(i + 1), value=v) for i, v in enumerate(values)]
    return results.over_seeds(results.table(rows, [row(representation="rank", value=0.5)]))


def test_freezing_copies_the_tables_and_says_what_changed(tmp_path, monkeypatch):
    run, kept = tmp_path / "run", tmp_path / "kept"
    monkeypatch.setenv("SCLIN_RESULTS", str(run))
    results.save([row(), row(dataset="e")], "05_x")
    assert frozen.freeze(run, kept)["change"].tolist() == ["came", "came"]
    results.save([row(value=0.91), row(dataset="f")], "05_x")
    changed = frozen.freeze(run, kept).set_index("dataset")
    assert changed["change"].to_dict() == {"d": "differs", "e": "went", "f": "came"}
    assert changed.loc["d", ["old", "new"]].tolist() == [0.9, 0.91]
    assert frozen.compare(results.load(run), results.load(kept)).empty


def test_a_training_is_compared_by_the_spread_of_its_seeds():
    old = trained(0.1, 0.2, 0.3)
    assert frozen.compare(old, trained(0.3, 0.35, 0.4)).empty
    far = frozen.compare(old, trained(0.4, 0.42, 0.44))
    assert far[["representation", "variant"]].to_numpy().tolist() == [["layer:m/final", ""]]
    near, moved = (results.table([row(value=v)]) for v in (0.9 + 1e-7, 0.9001))
    assert frozen.compare(results.table([row()]), near).empty
    assert len(frozen.compare(results.table([row()]), moved)) == 1


def test_the_command_says_whether_a_number_moved(tmp_path, monkeypatch, capsys):
    run, kept = str(tmp_path / "run"), str(tmp_path / "kept")
    monkeypatch.setenv("SCLIN_RESULTS", run)
    results.save([row()], "05_x")
    assert frozen.main("freeze", run, kept) == 0
    assert frozen.main("compare", run, kept) == 0
    results.save([row(value=0.8)], "05_x")
    assert frozen.main("compare", run, kept) == 1
    assert "differs" in capsys.readouterr().out
