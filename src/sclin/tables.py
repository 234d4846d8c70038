"""Tables that people bring: of numbers as text, and of labels and embeddings beside the cells."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.errors import DataError, InputError, reading

_GENES = re.compile(r"ENS[A-Z]*G\d|gene[-_. ]?\d", re.IGNORECASE)
_CELLS = re.compile(r"(cell|c|barcode)[-_. ]?\d+$|.*[ACGT]{10}", re.IGNORECASE)
_HOUSEKEEPING = {"ACTB", "GAPDH", "B2M", "MALAT1", "RPLP0", "RPS6", "RPL3", "EEF1A1", "TMSB4X"}


# Numbers ----------------------------------------------------------------------------------------
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


# Labels and embeddings, a row a cell ------------------------------------------------------------
def _frame(path: Path, key: str = "") -> pd.DataFrame:
    """Read a table or an array; ``key`` names an array of ``obsm``."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    parquet = path.suffix == ".parquet"
    remedy = "Write it again" + ", or pip install pyarrow, which reads parquet" * parquet
    with reading(path, f"{path.suffix} file", f"{remedy}."):
        if path.suffix == ".npy":
            return pd.DataFrame(np.load(path, allow_pickle=False))
        if path.suffix in (".h5ad", ".zarr"):
            return _of_adata(path, key)
        return pd.read_parquet(path) if parquet else pd.read_csv(path, sep=separator_of(path))


def _of_adata(path: Path, key: str) -> pd.DataFrame:
    """Array of ``obsm`` of that name, or the only one; X where there is none."""
    stored = ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
    keys = list(stored.obsm)
    if key not in keys and (key or len(keys) > 1):
        raise InputError(f"{path}: name one of {', '.join(keys) or 'no arrays'}: {path.name}:KEY.")
    array = stored.obsm[key or keys[0]] if keys else stored.X
    array = array.toarray() if sp.issparse(array) else np.asarray(array)
    return pd.DataFrame(array, index=stored.obs_names)


def _by_name(frame: pd.DataFrame, names: pd.Index, path: Path) -> pd.DataFrame:
    """Put the rows of a table in the order of cells, by the column that holds their names."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    text = frame[[column for column in frame if frame[column].dtype.kind != "f"]].astype(str)
    hits = {column: text[column].isin(names).sum() for column in text}
    if not (most := max(hits.values(), default=0)):
        raise InputError(
            f"{path}: no column holds names of cells, such as {names[0]!r}; the first row starts "
            f"with {frame.iloc[:1, :3].to_numpy().ravel().tolist()}."
        )
    tied = [column for column in text if hits[column] == most]
    best, *rest = [column for column in tied if text[column].is_unique] or tied[:1]
    # Where cells are named 0, 1, 2, a running number holds them too, in an order of its own.
    if rivals := [column for column in rest if not text[column].equals(text[best])]:
        raise InputError(
            f"{path}: columns {best!r} and {rivals[0]!r} both hold names of cells; leave one out."
        )
    numbered = [column for column in frame if str(column).startswith("Unnamed")]
    frame = frame.drop(columns=[*numbered, best, *rest]).set_index(text[best])
    if (twice := frame.index[frame.index.duplicated()].intersection(names)).size:
        raise InputError(f"{path} has {len(twice)} cells more than once, such as {twice[0]!r}.")
    return frame


def with_labels(obs: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Add the columns of a table of labels to ``obs``; cells that it lacks have none.

    Raises
    ------
    InputError
        When no column holds the names of the cells, or a cell stands there twice.
    """
    path = Path(path)
    found = _by_name(_frame(path), obs.index.astype(str), path).reindex(obs.index)
    return pd.concat([obs.drop(columns=obs.columns.intersection(found.columns)), found], axis=1)


def embedding(path: str | Path, cells: ad.AnnData) -> np.ndarray:
    """Read an embedding that another tool wrote, a row a cell.

    Parameters
    ----------
    path
        ``.npy`` with rows in the order of the cells; ``.csv``, ``.tsv`` or ``.parquet`` with a
        column of cell names beside the numbers; ``.h5ad`` or ``.zarr``, of which the one array
        of ``obsm`` is taken, or ``FILE:KEY``, or ``X`` when there is none.
    cells
        Cells, for their names and order.

    Returns
    -------
    ndarray
        Shape ``(n_cells, n_dimensions)``, float32.

    Raises
    ------
    InputError
        When cells are missing, names repeat, or something is not a number.
    DataError
        When the file is not readable.
    """
    path, key = Path(path), ""
    if not path.exists() and ":" in path.name:
        path, key = Path(str(path).rpartition(":")[0]), path.name.rpartition(":")[2]
    frame, names = _frame(path, key), cells.obs_names
    if path.suffix == ".npy":
        if len(frame) != len(names):
            raise InputError(
                f"{path} has {len(frame)} rows, but there are {len(names)} cells: give one row a "
                "cell in their order, or a table with cell names."
            )
        frame.index = names
    else:
        frame = _by_name(frame, names, path)
    if (lacks := names.difference(frame.index)).size:
        raise InputError(
            f"{path} lacks {len(lacks)} of {len(names)} cells, such as {', '.join(lacks[:3])}; "
            "every cell needs a row."
        )
    if text := [column for column in frame if frame[column].dtype.kind not in "biuf"]:
        raise InputError(f"{path}: column {text[0]!r} does not hold numbers; leave it out.")
    return frame.loc[names].to_numpy(np.float32)
