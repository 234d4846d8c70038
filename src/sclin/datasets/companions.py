"""Files that lie beside the cells: labels and embeddings, a row a cell."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.datasets.tables import separator_of
from sclin.errors import DataError, InputError, reading


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
