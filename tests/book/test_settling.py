"""The roles that bind a sentence to its rows, on a small table."""

from __future__ import annotations

import pytest

from sclin import results
from sclin.errors import InputError
from sclin.notebooks import claims

SAID = {"task": "t", "dataset": "baron_human", "metric": "f1_macro", "unit": "donor", "n": 8}


def row(representation, value, **more):
    return results.row(**(SAID | {"representation": representation, "value": value} | more))


@pytest.fixture
def rows() -> claims.Rows:
    gap = {"variant": "versus:lognorm", "metric": "f1_macro_difference"}
    p = {"variant": "versus:lognorm", "metric": "f1_macro_p"}
    table = results.table([
        row("rank", 0.7, head="knn"), row("rank", 0.8, head="logistic", ci_low=0.6, ci_high=0.9),
        row("rank", 0.3, head="logistic", variant="shuffled_labels"),
        row("lognorm", 0.9, head="logistic"), row("lognorm", 0.85, head="knn"),
        row("rank", -0.1, head="logistic", ci_low=-0.2, ci_high=-0.05, **gap),
        row("rank", 0.01, head="logistic", **p),
        row("rank", -0.15, head="knn", ci_low=-0.2, ci_high=0.05, **gap),
        row("rank", 0.2, head="knn", **p),
        row("layer:tiny/1", 0.4, variant="n=5"),
    ])  # fmt: skip
    return claims.Rows(table)


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ('the("rank logistic") < the("lognorm logistic")', True),
        ('the("rank logistic") > the("lognorm logistic")', False),
        ('the("rank shuffled_labels") < low("rank logistic")', True),
        ('each("rank f1_macro") < each("lognorm f1_macro")', True),
        ('each("rank f1_macro") < 0.75', False),
        ('shown("rank logistic versus:lognorm") == -1', True),
        ('shown("rank knn variant=versus:lognorm") == 0', True),
        ('shown("rank versus:lognorm") == -1', False),
        ('best("logistic f1_macro") == "lognorm" and n("rank knn") == 8', True),
        ('the("model=tiny variant=n=5") == 0.4', True),
    ],
)
def test_a_claim_is_an_expression_over_rows(rows, claim, holds) -> None:
    assert rows.claim(claim) == holds


def test_tokens_that_name_several_rows_or_none_are_refused(rows) -> None:
    with pytest.raises(InputError, match=r"2 rows; say which \(head: .*knn"):
        rows.the("rank f1_macro")
    with pytest.raises(claims.MissingError, match=r"baron_humn.*Did you mean 'baron_human'"):
        rows.the("rank baron_humn")


def test_sentences_are_marked_filled_or_left_out(rows) -> None:
    text = (
        'Ranks reach {number}`the("rank logistic")`, {number}`low("rank logistic"):.1f` at least.\n'
        'They are behind. {claim}`the("rank logistic") < the("lognorm logistic")`\n'
        '- They lead. {claim}`the("rank knn") > the("lognorm knn")`\n'
        '- Beta cells of mice are few. {claim}`ran("baron_mouse")`\n'
        "  But not here.\n"
        "Plain."
    )
    told = claims.Told()
    lines = claims.settle(text, rows, told).split("\n")
    assert lines[0] == "Ranks reach 0.80, 0.6 at least."
    assert lines[1].startswith('They are behind.<span class="claim"')
    assert lines[2].startswith('- <mark class="claim">They lead.</mark>')
    assert lines[3:] == ["- But not here.", "Plain."]
    assert told == {"hold": 1, "fail": 1, "left out": 1}
    plain = claims.settle(text, rows, plain=True)
    assert "<" not in plain and "They lead. (Not so in this run.)" in plain
    assert claims.settle(text, None).startswith("Ranks reach …, … at least.\nThey are behind.\n")


def test_captions_are_settled_sentence_by_sentence(rows) -> None:
    text = 'Dots. Ranks at {number}`the("rank knn")`. Mice. {claim}`ran("baron_mouse")` Bars.'
    assert claims.settle_caption(text, rows) == "Dots. Ranks at 0.70. Bars."
