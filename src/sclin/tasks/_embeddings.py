"""Representations as dense arrays of one AnnData's cells, and the depth of their layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sclin.errors import InputError

__all__ = ["embeddings", "relative_depths"]


def embeddings(
    adata: Any, representations: Mapping[str, Any] | Iterable[str]
) -> dict[str, NDArray[np.floating]]:
    """Dense arrays, one row a cell of ``adata``, for arrays given or representations named.

    Parameters
    ----------
    adata
        AnnData, cells x genes.
    representations
        Names for `sclin.representations.representation`, fitted on all cells (no label is used),
        or a mapping from name to array of shape ``(n_cells, n_features)``.

    Returns
    -------
    dict
        Name to float array of shape ``(n_cells, n_features)``.

    Raises
    ------
    InputError
        When an array has another number of rows than there are cells, or values not finite.
    """
    if isinstance(representations, Mapping):
        found = dict(representations)
    else:
        from sclin.representations import representation

        found = {name: representation(name).fit(adata).transform(adata) for name in representations}
    if not found:
        raise InputError("No representation was given; name at least one, such as 'rank_pca'.")
    arrays = {}
    for name, values in found.items():
        array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
        array = array[:, None] if array.ndim == 1 else array
        if array.shape[0] != adata.n_obs:
            raise InputError(
                f"Representation {name!r} has {array.shape[0]} rows for {adata.n_obs} cells; "
                "extract it again for these cells, or select its rows by cell name."
            )
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        if bad:
            raise InputError(
                f"Representation {name!r} has values that are not finite in {bad} cells; "
                "drop these cells from every representation."
            )
        arrays[name] = array
    return arrays


def relative_depths(names: Iterable[str]) -> dict[str, float]:
    """Depth of each ``layer:MODEL/i`` among the layers named: 0 for layer 0, 1 for the last block.

    Parameters
    ----------
    names
        Names of representations; those that are not layers are left out.

    Returns
    -------
    dict
        Name to depth in [0, 1]; ``final`` counts as 1.

    Examples
    --------
    >>> relative_depths(["rank_pca", "layer:tiny/0", "layer:tiny/2", "layer:tiny/final"])
    {'layer:tiny/0': 0.0, 'layer:tiny/2': 1.0, 'layer:tiny/final': 1.0}
    """
    layers = [n.removeprefix("layer:").rpartition("/") for n in names if n.startswith("layer:")]
    last: dict[str, int] = {}
    for model, _, layer in layers:
        if layer.isdigit():
            last[model] = max(last.get(model, 0), int(layer))
    return {
        f"layer:{model}/{layer}": int(layer) / max(last[model], 1) if layer.isdigit() else 1.0
        for model, _, layer in layers
    }
