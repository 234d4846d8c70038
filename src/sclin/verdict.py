"""The verdict: what paired comparisons and controls allow to say, for pages and for users alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from sclin.representations import CONTROLS
from sclin.results import KEY
from sclin.statistics import Comparison

#: Variant of the rows of shuffled training labels.
SHUFFLED = "shuffled_labels"
#: What can become of a representation that is compared with another.
OUTCOMES = ("ahead", "behind", "no difference", "too few", "not compared", "silent")


_SAME = [key for key in KEY if key not in ("metric", "source")]


def comparison(rows: pd.DataFrame, gap: pd.Series) -> Comparison:
    """The paired comparison that a row of differences is half of; the other half is its p value.

    Parameters
    ----------
    rows
        The table that holds both.
    gap
        Its row of a metric ``..._difference``.

    Returns
    -------
    Comparison
        The p value is NaN where no row holds it.
    """
    p = rows[rows["metric"].eq(gap["metric"].removesuffix("_difference") + "_p")]
    p = p[(p[_SAME].astype(str) == gap[_SAME].astype(str)).all(axis=1)]
    p_value = float(next(iter(p["value"]), np.nan))
    ends = gap["ci_low"], gap["ci_high"]
    return Comparison(gap["value"], *ends, p_value, int(gap["n"]), gap["unit"])


class Verdict(NamedTuple):
    """What the paired rows and the controls allow to say.

    Attributes
    ----------
    best
        The representation that the others are compared with; the best one, unless another is
        asked for.
    equals
        Those that are not shown to differ from it.
    words
        The same in sentences.
    outcomes
        One of `OUTCOMES` for each other representation: where it stands to ``best``.
    """

    best: str
    equals: tuple[str, ...]
    words: str
    outcomes: Mapping[str, str]

    def __str__(self) -> str:
        return self.words


def _least_p(c: Comparison, n_comparisons: int) -> float:
    """Smallest p that so many units can give; swaps of cells are as many as one likes."""
    return 0.0 if c.unit == "cell" else 2.0 ** (1 - c.n) * n_comparisons


def _outcome(c: Comparison | None, sign: int, n_comparisons: int) -> str:
    """Where b stands to a, by the comparison of a with b."""
    if c is None:
        return "not compared"
    if _least_p(c, n_comparisons) >= 0.05:
        return "too few"
    if not c.proven:
        return "no difference"
    return "behind" if sign * c.difference > 0 else "ahead"


_WORDS = {
    "behind": "{best} leads {other} ({gap}).",
    "ahead": "{other} leads {best} ({gap}).",
    "no difference": "No difference is shown between {best} and {other} ({gap}).",
    "too few": "No difference is shown between {best} and {other} ({gap}).",
}


def judge_rows(
    rows: pd.DataFrame, compare: Callable[[str, str], Comparison | None], reference: str = ""
) -> Verdict:
    """Judge the rows of one metric and head.

    Parameters
    ----------
    rows
        Rows of representations, and of controls beside them.
    compare
        Paired comparison of two representations, or None where there is none.
    reference
        What all are compared with; the best by default.

    Returns
    -------
    Verdict
        p values are multiplied by the number of comparisons (Bonferroni). No lead is called with
        too few units for any, without an interval, or where a control does as well.
    """
    sign = 1 if rows["higher_is_better"].all() else -1
    rows = rows.sort_values("value", ascending=sign < 0, kind="stable")
    null = rows["representation"].isin(CONTROLS) | rows["variant"].str.contains(SHUFFLED)
    ours = rows[~null]
    top = (ours[ours["representation"].eq(reference)] if reference else ours).iloc[0]
    best = str(top["representation"])
    others = [str(name) for name in ours["representation"] if name != best]
    units = str(top["unit"]).removesuffix("s")  # species is its own plural
    units += "es" if units.endswith("ch") else "s"
    words = [f"{top['metric']} over {top['n']:.0f} {units}: {best} has {top['value']:.3f}."]
    for control in rows[null].to_dict("records")[:1]:
        name = "shuffled labels" if SHUFFLED in control["variant"] else control["representation"]
        words.append(f"The best control, {name}, has {control['value']:.3f}.")
    end = top["ci_low"] if sign > 0 else top["ci_high"]
    no_better = null.any() and sign * (rows[null]["value"].iloc[0] - end) >= 0
    if pd.isna(end) or no_better:
        why = f"{best} is not shown to do better: the task says little."
        words.append(why if no_better else "Without an interval nothing is said.")
        return Verdict(best, tuple(others), " ".join(words), dict.fromkeys(others, "silent"))
    found = {other: compare(best, other) for other in others}
    outcomes = {}
    for other, c in found.items():
        c = c and c._replace(p_value=min(1.0, c.p_value * len(found)))
        outcomes[other] = _outcome(c, sign, len(found))
        if c is not None:
            gap = f"{c.difference:+.3f} [{c.ci_low:.3f}, {c.ci_high:.3f}], p = {c.p_value:.3g}"
            words.append(_WORDS[outcomes[other]].format(best=best, other=other, gap=gap))
    if "too few" in outcomes.values():
        few = min((c for c in found.values() if c is not None), key=lambda c: c.n)
        many = f"{len(found)} comparison{'s' * (len(found) > 1)}"
        said = f"With {few.n} {units} and {many}"
        least = f"no p value is below {min(1.0, _least_p(few, len(found))):g}"
        words.append(f"{said} no test can prove a lead: {least}.")
    if "not compared" in outcomes.values():
        lost = ", ".join(name for name, word in outcomes.items() if word == "not compared")
        words.append(f"Scores of {lost} have no units to compare over.")
    if sum(c is not None for c in found.values()) > 1:
        words.append(f"p is corrected for {len(found)} comparisons.")
    equals = tuple(name for name, word in outcomes.items() if word not in ("ahead", "behind"))
    return Verdict(best, equals, " ".join(words), outcomes)
