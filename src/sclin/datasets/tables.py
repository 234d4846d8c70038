"""Tables of numbers as text: which separator, which side holds the genes."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from sclin.errors import DataError, InputError

_GENES = re.compile(r"ENS[A-Z]*G\d|gene[-_. ]?\d", re.IGNORECASE)
_CELLS = re.compile(r"(cell|c|barcode)[-_. ]?\d+$|.*[ACGT]{10}", re.IGNORECASE)
_HOUSEKEEPING = {"ACTB", "GAPDH", "B2M", "MALAT1", "RPLP0", "RPS6", "RPL3", "EEF1A1", "TMSB4X"}


def read_matrix(
    path: Path, *, orientation: str | None = None
) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Read a table of numbers, cells in rows or in columns: the matrix, cells and genes.

    Parameters
    ----------
    path
        Table with a header and names in the first column, split by commas, semicolons, tabs or
        spaces; decimal commas where commas do not split.
    orientation
        ``"cells_in_rows"`` or ``"genes_in_rows"``; by default found from the names: Ensembl ids,
        ``gene1`` and well-known symbols tell genes, ``cell1`` and barcodes tell cells.

    Raises
    ------
    InputError
        When genes and cells cannot be told, or the table says otherwise than ``orientation``.
    """
    columns, rows, X = _parse_table(path)
    score = {
        "cells_in_rows": _gene_score(columns) + _share(_CELLS, rows),
        "genes_in_rows": _gene_score(rows) + _share(_CELLS, columns),
    }
    told = max(score.values()) - min(score.values()) > 0.05
    seen = max(score, key=score.__getitem__) if told else None
    if orientation not in (None, *score):
        raise InputError(f"orientation={orientation!r}: use {' or '.join(map(repr, score))}.")
    if orientation is None and seen is None:
        raise InputError(
            f"{path.name}: rows ({rows[0]!r}, ...) and columns ({columns[0]!r}, ...) do not tell "
            f"genes from cells; say it with {path.name}:orientation=genes_in_rows or "
            "=cells_in_rows (orientation= in Python)."
        )
    if orientation is not None and seen not in (None, orientation):
        raise InputError(
            f"{path.name} looks transposed: orientation={orientation!r} was given, but the "
            f"{'rows' if seen == 'genes_in_rows' else 'columns'} are named like genes."
        )
    if (orientation or seen) == "genes_in_rows":
        return X.T.tocsr(), columns, rows
    return X, rows, columns


def _share(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return float(np.mean([pattern.match(str(name)) is not None for name in names]))


def _gene_score(names: Sequence[str]) -> float:
    """Share of names that are gene ids, or of a few symbols that every table has."""
    plain = {str(n).upper() for n in names}
    return max(_share(_GENES, names), len(plain & _HOUSEKEEPING) / len(_HOUSEKEEPING))


def separator_of(path: Path) -> str:
    """Tab, semicolon, comma or space: what splits the first two lines alike."""
    with _text(path) as stream:
        lines = list(islice(filter(str.strip, stream), 2))
    for separator in "\t;, ":
        header, row = (_count(line, separator) for line in (lines * 2)[:2])
        if row and header in (row, row - 1):
            return separator
    raise DataError(f"{path.name} is not a table: no separator splits its first lines alike.")


def _count(line: str, separator: str) -> int:
    """Count separators outside quotes."""
    return (re.sub('"[^"]*"', "", line) if '"' in line else line).rstrip("\r\n").count(separator)


def _text(path: Path) -> Any:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig")


def _parse_table(path: Path) -> tuple[list[str], list[str], sp.csr_matrix]:
    """Columns, row names and values; a wide table is never held densely."""
    separator = separator_of(path)
    options: Any = {"delimiter": separator, "quotechar": '"', "comments": None, "ndmin": 2}
    rows: list[str] = []
    blocks = []
    with _text(path) as stream:
        header = next(csv.reader(stream, delimiter=separator))
        while lines := list(islice(filter(str.strip, stream), 500)):
            if separator != ",":
                lines = _decimal_points(lines, separator, path)
            width = _count(lines[0], separator)
            if wrong := [line for line in lines if _count(line, separator) != width]:
                raise DataError(f"{path.name}: row {wrong[0][:20]!r} does not have {width} values.")
            try:
                values = np.loadtxt(lines, np.float32, usecols=range(1, width + 1), **options)
            except ValueError as error:
                raise DataError(
                    f"{path.name} is not a table of numbers: {error}\n"
                    "Labels go into a file of their own: --labels FILE (labels= in Python)."
                ) from error
            rows += [
                line.split('"')[1] if line.startswith('"') else line.partition(separator)[0]
                for line in lines
            ]
            blocks.append(sp.csr_matrix(values))
    if not rows:
        raise DataError(f"{path.name} has no rows under its header.")
    X = sp.vstack(blocks, format="csr")
    if len(header) not in (X.shape[1], X.shape[1] + 1):  # R leaves the corner of the header out
        raise DataError(f"{path.name} has {len(header)} names over {X.shape[1]} columns of values.")
    if len(set(rows)) < len(rows) and _share(re.compile(r"[\d.]+$"), rows) == 1:
        raise DataError(f"{path.name}: the first column holds numbers, not names; add names.")
    return header[-X.shape[1] :], rows, X


def _decimal_points(lines: list[str], separator: str, path: Path) -> list[str]:
    """Turn decimal commas into points; 1,234 alone may be a thousand, and is refused."""
    parts = [line.partition(separator) for line in lines]
    text = " ".join(rest for *_, rest in parts if "," in rest)
    if "," in text and not re.search(r"\b0,|,(\d{1,2}|\d{4,})\b", text):
        raise DataError(f"{path.name} has numbers such as 1,234: remove commas of thousands.")
    return [f"{name}{separator}{rest.replace(',', '.')}" for name, _, rest in parts]
