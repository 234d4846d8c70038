"""Tools as scanpy does them: labels for new cells out of a labelled reference.

A reference is itself an AnnData, classes x genes, that any tool of the field can read:
``reference.write_h5ad("pancreas.h5ad")`` saves it, and nothing of it is code.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from sklearn.model_selection import GroupKFold

from sclin.datasets import name_of, take
from sclin.errors import InputError
from sclin.projection import UNSPECIFIED, CentroidProjection, align_genes
from sclin.representations import labels


def reference(
    adata: AnnData,
    cell_type: str,
    *,
    donor: str | None = None,
    layer: str | None = None,
    rejected: float = 0.05,
) -> AnnData:
    """Make a reference of labelled cells: an average per class, and a rejection threshold.

    Averages are kept before they are ranked, so that the reference can be cut to the genes that
    other cells have. The threshold is the largest coefficient under which this share of cells
    falls when they are held out: five parts, by donor where a donor is named.

    Parameters
    ----------
    adata
        Labelled cells x genes; :func:`sclin.datasets.take` chooses the matrix. Logs are undone.
    cell_type
        Column of ``obs`` with the classes.
    donor
        Column of ``obs`` with what is held out as a whole; single cells by default.
    layer
        Matrix to take: ``"X"``, ``"raw"`` or a layer.
    rejected
        Share of held-out cells, all of known classes, that the threshold rejects.

    Returns
    -------
    AnnData
        Classes x genes: averages of cells whose total is 1, ``obs["n_cells"]``, and in
        ``uns["sclin"]`` the ``threshold`` with what it was made from.

    Raises
    ------
    InputError
        A column does not exist, cells have no label, or there are fewer than two classes or
        donors.
    """
    y = labels(adata, cell_type)
    units = np.arange(adata.n_obs) if donor is None else labels(adata, donor)
    cells = take(adata, layer=layer)
    if cells.uns["sclin"]["values"] == "log":
        cells.X = cells.X.expm1()
    if (n_units := len(np.unique(units))) < 2:
        raise InputError(f"obs[{donor!r}] has one value: no threshold without held-out donors.")
    model, largest = CentroidProjection(), np.empty(cells.n_obs)
    for train, test in GroupKFold(min(5, n_units)).split(largest, groups=units):
        largest[test] = model.fit(cells[train], y[train]).transform(cells[test]).max(axis=1)
    model.fit(cells, y)
    said = {
        "dataset": name_of(cells), "version": version("sclin"),
        "cell_type": cell_type, "donor": donor or "", "values": cells.uns["sclin"]["values"],
        "threshold": float(np.quantile(largest, rejected)), "rejected": rejected,
    }  # fmt: skip
    classes = pd.DataFrame({"n_cells": model.class_counts_}, index=model.get_feature_names_out())
    return AnnData(model.averages_, obs=classes, var=cells.var[[]], uns={"sclin": said})


def project(
    adata: AnnData, reference: AnnData | str | Path, *, key_added: str = "projection",
    layer: str | None = None, min_shared: float = 0.5, copy: bool = False,
) -> AnnData | None:  # fmt: skip
    """Label cells by their coefficients on the classes of a reference.

    Cells and reference are cut to the genes that both have, before anything is ranked.

    Parameters
    ----------
    adata
        Cells x genes; :func:`sclin.datasets.take` chooses the matrix.
    reference
        What :func:`reference` has made, or the h5ad file of it.
    key_added
        Name of the result.
    layer
        Matrix to take: ``"X"``, ``"raw"`` or a layer.
    min_shared
        Smallest share of the reference's genes that the cells must have.
    copy
        Write into a copy, and return it.

    Returns
    -------
    AnnData or None
        The copy, if one was asked for. These are set:

        ``.obsm[key_added]``
            Coefficients, cells x classes in the order of ``.uns[key_added]["classes"]``.
        ``.obs[key_added]`` : categorical
            Class of the largest coefficient; ``"unspecified"`` below the reference's threshold.
        ``.obs[key_added + "_score"]``
            The largest coefficient.
        ``.uns[key_added]``
            Classes, threshold, parameters, and the genes of the reference that are missing.
        ``.uns[key_added + "_colors"]``
            Colours for scanpy's plots; rejected cells are grey.

    Raises
    ------
    InputError
        This is no reference, or the cells have too few of its genes.

    Warns
    -----
    UserWarning
        Some genes of the reference are missing.
    """
    adata = adata.copy() if copy else adata
    is_file = isinstance(reference, str | Path) and Path(reference).is_file()
    known: Any = read_h5ad(reference) if is_file else reference
    if "threshold" not in getattr(known, "uns", {}).get("sclin", {}):
        raise InputError(
            f"Neither a reference nor a file of one: {str(known).splitlines()[0]}.\n"
            "Make one of labelled cells: sclin.tl.reference(cells, 'cell_type')."
        )
    threshold = known.uns["sclin"]["threshold"]
    basis, cells = align_genes(known, take(adata, layer=layer))
    missing = known.var_names.difference(basis.var_names)
    if len(missing):
        found = f"{len(missing)} of the reference's {known.n_vars} genes are not in these cells"
        found += f", such as {missing[0]!r}"
        if basis.n_vars < min_shared * known.n_vars:
            raise InputError(
                f"{found}. At most {1 - min_shared:.0%} may be missing (min_shared={min_shared}). "
                "Give cells with all their genes, under the kind of name that the reference has."
            )
        warnings.warn(f"{found}. Ranks are those of the shared genes.", UserWarning, stacklevel=2)
    model = CentroidProjection(threshold=threshold).fit(basis, basis.obs_names)
    adata.obsm[key_added] = coefficients = model.transform(cells)
    categories = list(dict.fromkeys([*model.classes_, UNSPECIFIED]))  # a class may be called so
    named = pd.Categorical(model.named(coefficients), categories).remove_unused_categories()
    adata.obs[key_added] = named
    adata.obs[f"{key_added}_score"] = coefficients.max(axis=1)
    adata.uns[f"{key_added}_colors"] = _colors(model.classes_, named.categories)
    adata.uns[key_added] = {
        "classes": model.classes_.astype(str), "threshold": threshold,
        "missing_genes": missing.to_numpy(dtype=str),
        "params": {"layer": layer or "", "min_shared": min_shared},
        "reference": known.uns["sclin"],
    }  # fmt: skip
    return adata if copy else None


def _colors(classes: Any, shown: Any) -> list[str]:
    """Colours of scanpy's palettes, one a class whichever classes are found, and grey."""
    from scanpy.plotting.palettes import default_20, default_102

    palette = np.resize(default_20 if len(classes) <= 20 else default_102, len(classes))
    of = dict(zip(classes, palette.tolist(), strict=True))
    return [of.get(label, "#d3d3d3") for label in shown]
