"""Which columns: labels that a user names in ``obs``, read as what they are, nothing guessed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sclin.errors import InputError, unknown

#: What a column of ``obs`` can be.
ROLES = ("cell_type", "donor", "condition", "time", "perturbation")
#: Spellings of a label that is not there, in lower case.
MISSING = frozenset(
    (
        "", "-", "?", "na", "n/a", "nan", "nat", "<na>", "null", "unknown", "unassigned",
        "undefined", "unlabeled", "unlabelled", "not available", "not determined", "missing",
    )
)  # fmt: skip
# "none" may be the untreated condition, or the control of a screen.
_MISSING_NAMES = MISSING | {"none"}
_DONOR_WORDS = (
    "donor", "patient", "participant", "individual", "subject", "person", "mouse", "animal",
    "embryo", "specimen", "sample", "replicate", "ident", "library", "channel", "batch", "plate",
)  # fmt: skip


def _clean(values: pd.Series, role: str, control: str) -> pd.Series:
    """The values with every spelling of a missing label as missing; text but for times."""
    text = values.astype(object).map(str, na_action="ignore").fillna("").str.strip()
    spellings = _MISSING_NAMES if role in ("cell_type", "donor") else MISSING
    missing = text.str.lower().isin(spellings) & text.ne(control)
    return (values if role == "time" else text.astype("category")).where(~missing)


def read_columns(
    obs: pd.DataFrame, roles: Mapping[str, str | None], *, control: str = "control"
) -> pd.DataFrame:
    """Columns under the names of `ROLES`, missing labels in all their spellings as missing.

    Parameters
    ----------
    obs
        Annotation of cells.
    roles
        Column by role; None where there is none.
    control
        Label of unperturbed cells, which is never a missing one.

    Returns
    -------
    DataFrame
        One column for each role that was named, and no other.

    Raises
    ------
    InputError
        A column does not exist, stands in two roles, or holds no label; or a donor has one cell.
    """
    named = {role: str(column) for role, column in roles.items() if column}
    found: dict[str, pd.Series] = {}
    for role, column in named.items():
        other = [r for r in found if named[r] == column]
        if other:
            raise InputError(
                f"Column {column!r} of obs is named both as {other[0]} and as {role}; "
                "name another column for one of them, or leave one out."
            )
        if column not in obs:
            raise unknown(f"column of obs, for {role},", column, obs.columns)
        found[role] = _clean(obs[column], role, control)
        n = found[role].nunique()
        if n == 0:
            raise InputError(f"Column {column!r} of obs holds no {role}: all labels are missing.")
        if role == "donor" and n > max(len(obs) / 2, 1):
            raise InputError(
                f"Column {column!r} of obs has {n:,} values for {len(obs):,} cells: these are no "
                "donors. Name the column of donors, or none to split by cells."
            )
    return pd.DataFrame(found, index=obs.index)


def likely_donors(obs: pd.DataFrame) -> list[str]:
    """Columns that look like donors, the likeliest first: two values or more, few for the cells."""
    words = obs.columns.astype(str).to_series(index=obs.columns).str.lower()
    found = words.str.extract(f"({'|'.join(_DONOR_WORDS)})")[0]
    order = found.map({word: i for i, word in enumerate(_DONOR_WORDS)}).dropna().sort_values().index
    return [c for c in order if 2 <= obs[c].nunique() <= len(obs) / 10]


def nested(labels: pd.Series, groups: pd.Series) -> bool:
    """Whether every group holds one label only, so that groups and labels cannot be told apart."""
    return bool(labels.groupby(groups, observed=True).nunique().le(1).all())
