"""Preprocessing as scanpy does it: an AnnData goes in, and the result stands in it."""

from __future__ import annotations

from anndata import AnnData

from sclin import normalization
from sclin.errors import unknown


def rank_normalize(
    adata: AnnData, *, layer: str | None = None, key_added: str | None = None, copy: bool = False
) -> AnnData | None:
    """Keep rank normal scores in an AnnData, as a sparse layer and one number per cell.

    The scores are the sum of the two, and the two follow when cells or genes are selected,
    cells are put together, or a file is written. So this gives the matrix back::

        RankMatrix(adata.layers["rank"], adata.obs["rank_offset"])

    The layer alone is how far a gene stands above the unseen genes of its cell: good for
    colouring a plot, not for PCA, which reads the RankMatrix (:class:`sclin.linear.ImplicitPCA`).

    Parameters
    ----------
    adata
        Cells x genes, with any finite values.
    layer
        Layer to rank; ``X`` by default.
    key_added
        Name of the result, ``"rank"`` by default.
    copy
        Write into a copy, and return it.

    Returns
    -------
    AnnData or None
        The copy, if one was asked for. These are set:

        ``.layers[key_added]`` : float32 CSR matrix
            The score minus the cell's offset, where a gene is seen.
        ``.obs[key_added + "_offset"]``
            The score that all unseen genes of the cell share.
        ``.uns[key_added]["params"]``
            The layer that was ranked.

    Raises
    ------
    InputError
        The layer does not exist, or :func:`sclin.normalization.rank_normalize` refuses it.

    Examples
    --------
    >>> import numpy as np
    >>> cells = AnnData(np.array([[0.0, 0.0, 1.0, 5.0]]))
    >>> rank_normalize(cells)
    >>> cells.layers["rank"].toarray().round(2), cells.obs["rank_offset"].round(2).item()
    (array([[0.  , 0.  , 0.68, 1.19]], dtype=float32), -0.46)
    """
    if layer is not None and layer not in adata.layers:
        raise unknown("layer", layer, adata.layers)
    adata, key = adata.copy() if copy else adata, key_added or "rank"
    named = {"obs": adata.obs[[]], "var": adata.var[[]]}  # for errors that name cell and gene
    scores = normalization.rank_normalize(
        adata if layer is None else AnnData(adata.layers[layer], **named)
    )
    adata.layers[key] = scores.sparse.copy()  # its own indices: those of X may change in place
    adata.obs[f"{key}_offset"] = scores.offset
    adata.uns[key] = {"params": {"layer": layer or "X"}}
    return adata if copy else None
