"""How each dataset of the catalogue is put together from its files.

The catalogue's ``reader`` names a function here: files in, cells out.
"""

from __future__ import annotations

from pathlib import Path
from shutil import unpack_archive
from tempfile import TemporaryDirectory

import anndata as ad
import numpy as np
import pandas as pd

from sclin.datasets import readers
from sclin.errors import DataError, InputError, reading, unknown
from sclin.matrices import as_csr

Paths = list[Path]


def _column(cells: ad.AnnData, name: str, path: Path) -> pd.Series:
    if name not in cells.obs:
        raise unknown(f"column of obs in {path.name}", name, cells.obs.columns)
    return cells.obs[name]


def file(paths: Paths, *, layer: str | None = None, backed: bool = False) -> ad.AnnData:
    """One file of cells."""
    return readers.read(paths[0], layer=layer, backed=backed)


def lineage(paths: Paths, *, layer: str = "spliced", stages: dict[str, int]) -> ad.AnnData:
    """Counts in a layer; ``stages`` says the known place of each published cluster."""
    cells = readers.read(paths[0], layer=layer)
    clusters = _column(cells, "clusters", paths[0]).astype(str)
    if new := sorted(set(clusters) - set(stages)):
        raise InputError(
            f"{paths[0].name}: clusters {', '.join(new)} have no known place; it is known of "
            f"{', '.join(stages)}."
        )
    cells.obs["stage"] = clusters.map(stages).astype(float)
    return cells


def pbmc3k(paths: Paths) -> ad.AnnData:
    """DgCMatrix with the labels as an attribute."""
    matrix = readers.load_rda(paths[0])["pbmc3k"]
    X, cells, genes = readers.r_matrix(matrix)
    obs = pd.DataFrame({"cell_type": np.asarray(matrix.cell_type, dtype=object)}, index=cells)
    return readers.pack(X, obs, genes)


def ifnb_pbmc(paths: Paths) -> ad.AnnData:
    """Seurat object; conditions are named ctrl and stim."""
    cells = readers.read(paths[0])
    cells.obs["stim"] = cells.obs["stim"].astype(str).str.lower()
    return cells


def ifnb_pbmc_2k(paths: Paths) -> ad.AnnData:
    """Two matrices of one study, control and stimulated; barcodes get the condition in front."""
    parts = {name: readers.read(paths[0], name=f"pbmc.{name}") for name in ("ctrl", "stim")}
    cells = ad.concat(parts, label="condition")  # genes of both
    if any(part.n_vars > cells.n_vars for part in parts.values()):
        raise InputError(f"{paths[0].name}: the two matrices do not have the same genes.")
    cells.obs_names = [f"{condition}_{name}" for name, condition in cells.obs["condition"].items()]
    return readers.pack(cells.X, cells.obs.astype(object), list(cells.var_names))


def muscat_pbmc(paths: Paths) -> ad.AnnData:
    """SingleCellExperiment; a sample is a condition and a donor, as in stim107."""
    cells = readers.read(paths[0])
    cells.obs["donor"] = cells.obs["sample_id"].astype(str).str.replace(r"\D", "", regex=True)
    return cells


def _tables(
    counts: Path, metadata: Path, prefix: str = "", *, orientation: str = "genes_in_rows"
) -> ad.AnnData:
    """Counts and a table of their cells; spike-ins (ERCC) are left out and counted."""
    cells = readers.read(counts, orientation=orientation)
    obs = pd.read_csv(metadata, index_col=0)
    if sorted(obs.index) != sorted(cells.obs_names):
        raise InputError(f"{counts.name} and {metadata.name} do not list the same cells.")
    obs = obs.loc[cells.obs_names]
    obs.index = pd.Index([f"{prefix}{name}" for name in obs.index])
    cells.obs = obs
    if "demuxlet_cls" in obs:
        cells.obs["doublet"] = (obs["demuxlet_cls"] == "DBL").to_numpy()
    spikes = cells.var_names.str.startswith("ERCC")
    cells.uns["sclin"]["n_ercc_rows_left_out"] = int(spikes.sum())
    return cells[:, ~spikes].copy()


def _symbols(cells: ad.AnnData, dictionary: Path) -> ad.AnnData:
    """Symbols of Ensembl ids; a gene without one keeps its id, and is counted."""
    names = {v: k for k, v in readers.read_dictionary(dictionary).items()}
    cells.var["symbol"] = [names.get(n, n) for n in cells.var_names]
    cells.uns["sclin"]["n_genes_without_symbol"] = sum(n not in names for n in cells.var_names)
    return cells


def cell_lines(paths: Paths) -> ad.AnnData:
    """Plates of sc_mixology; a gene that a plate lacks was not seen there and is zero."""
    dictionary, files = paths[0], paths[1:]
    pairs = list(zip(files[::2], files[1::2], strict=True))
    # Cells carry the same names on every plate.
    plates = [f"{c.name.split('.')[0][-2:]}_" if len(pairs) > 1 else "" for c, _ in pairs]
    parts = [_tables(*pair, plate) for pair, plate in zip(pairs, plates, strict=True)]
    said = [part.uns["sclin"] for part in parts]
    cells = ad.concat(parts, join="outer", fill_value=0) if len(parts) > 1 else parts[0]
    cells = readers.pack(cells.X, cells.obs, list(cells.var_names))
    cells.uns["sclin"]["n_ercc_rows_left_out"] = sum(s["n_ercc_rows_left_out"] for s in said)
    cells.uns["sclin"]["n_doublets"] = int(cells.obs["doublet"].sum())
    return _symbols(cells, dictionary)


def rna_mixtures(paths: Paths, *, labels: str = "corrected") -> ad.AnnData:
    """RNA mixtures; ``obs["proportion_LINE"]`` sums to one over the three lines."""
    if labels not in ("corrected", "as_published"):
        raise InputError(f"labels={labels!r}: use 'corrected' or 'as_published'.")
    cells = _tables(paths[1], paths[2])
    # Expression says which line is which: EGFR, XIST and CDKN2A of the pure mixtures agree with
    # the single cells of the same study only when these two columns are exchanged.
    swap = {"H2228": "HCC827", "HCC827": "H2228"} if labels == "corrected" else {}
    lines = ["H1975", "H2228", "HCC827"]
    shares = cells.obs[[f"{swap.get(line, line)}_prop" for line in lines]].to_numpy(float)
    shares = shares / shares.sum(axis=1, keepdims=True)  # thirds are published as 0.33
    for line, share in zip(lines, shares.T, strict=True):
        cells.obs[f"proportion_{line}"] = share
    words = ["+".join(f"{n}:{s:.2f}" for n, s in zip(lines, row, strict=True)) for row in shares]
    pure = np.where(shares.max(axis=1) == 1, np.array(lines)[shares.argmax(axis=1)], words)
    cells.obs["cell_type"] = pure
    cells.obs["batch"] = [f"mix{n}" for n in cells.obs["mix"]]
    cells.uns["sclin"]["labels"] = labels
    return _symbols(cells, paths[0])


def tabula_muris(paths: Paths) -> ad.AnnData:
    """A zip with one table of counts, cells in rows, and one of the cells."""
    with TemporaryDirectory() as folder:
        with reading(paths[0], "zip archive", "Delete it and fetch again."):
            unpack_archive(paths[0], folder, "zip")
        inside = {path.name: path for path in sorted(Path(folder).rglob("*.csv"))}
        for name in ("brain_counts.csv", "brain_metadata.csv"):
            if name not in inside:
                raise unknown(f"table in {paths[0].name}", name, inside, error=DataError)
        files = inside["brain_counts.csv"], inside["brain_metadata.csv"]
        return _tables(*files, orientation="cells_in_rows")


def myoblast(paths: Paths) -> ad.AnnData:
    """FPKM with the published pseudotime and state."""
    X, names, genes = readers.r_matrix(readers.load_rda(paths[0])["HSMM_expr_matrix"])
    annotation = readers.load_rda(paths[1])["HSMM_gene_annotation"]
    sheet = readers.load_rda(paths[2])["HSMM_sample_sheet"]
    if list(sheet.index) != names:
        raise InputError("The expression matrix and the sample sheet do not list the same cells.")
    obs = sheet.rename(columns={"Pseudotime": "published_pseudotime", "State": "published_state"})
    obs["time"] = pd.to_numeric(obs["Hours"].astype(str)).astype(float)
    obs["batch"] = obs["Library"].astype(str).str.rsplit("_", n=1).str[0]
    var = pd.DataFrame({"symbol": annotation["gene_short_name"].astype(str)}).reindex(genes)
    cells = readers.pack(X, obs, var)
    cells.uns["sclin"]["values"] = "fpkm"
    return cells


def thp1_crispr(paths: Paths) -> ad.AnnData:
    """Molecules of 299 genes; the guide is the one with most molecules in the cell."""
    data = readers.load_rda(paths[0])["lowmoi_example_data"]
    X, _, genes = readers.r_matrix(data["response_matrix"])
    guides, _, guide_names = readers.r_matrix(data["grna_matrix"])
    targets = data["grna_target_data_frame"].set_index("grna_id")["grna_target"].astype(str)
    best = np.asarray(guides.argmax(axis=1)).ravel()
    guide = np.asarray(guide_names, dtype=object)[best]
    target = targets.reindex(guide).to_numpy()
    obs = pd.DataFrame({"perturbation": np.where(target == "non-targeting", "control", target)})
    obs["guide"] = guide
    obs["n_guide_molecules"] = guides.max(axis=1).toarray().ravel()
    obs["batch"] = data["extra_covariates"]["bio_rep"].astype(str).to_numpy()
    obs.index = obs.index.map("cell_{}".format)
    cells = readers.pack(X, obs, genes)
    cells.uns["sclin"]["n_cells_without_guide"] = int((obs["n_guide_molecules"] == 0).sum())
    return cells


def tabula_sapiens(
    paths: Paths, *, version: str = "v2", layer: str | None = None, backed: bool = False
) -> ad.AnnData:
    """One tissue; ``version`` chooses donors by their number (TSP16 itself is in neither)."""
    rules = {"v1": lambda n: n < 16, "v2": lambda n: n > 16, "all": lambda n: n == n}
    if version not in rules:
        raise InputError(f"version={version!r}: use 'v2', 'v1' or 'all'.")
    cells = readers.read(paths[0], layer=layer, backed=backed)
    donor = _column(cells, "donor_id", paths[0]).astype(str)
    keep = rules[version](pd.to_numeric(donor.str.extract(r"TSP(\d+)$")[0])).to_numpy()
    if not keep.any():
        has = ", ".join(sorted(donor.unique()))
        raise InputError(f"{paths[0].name}: no donor of version {version!r}; donors are {has}.")
    said = {**cells.uns["sclin"], "version": version, "n_cells_left_out": int((~keep).sum())}
    if not keep.all():
        # Of a backed file only the rows of the donors that stay are read.
        cells = cells[keep].to_memory() if cells.isbacked else cells[keep].copy()
        cells.X = as_csr(cells.X)
        said["backed"] = False
    cells.uns["sclin"] = said
    return cells


def cd4_perturb(
    paths: Paths, *, non_targeting: str | None = None, backed: bool = True, layer: str | None = None
) -> ad.AnnData:
    """Perturb-seq of CD4+ T cells; cells with a non-targeting guide are called control.

    ``non_targeting`` names their label in the column guide_type; usual labels are found.
    """
    cells = readers.read(paths[0], layer=layer, backed=backed)
    if "guide_type" in cells.obs and "perturbed_gene_name" in cells.obs:
        kind = cells.obs["guide_type"].astype(str)
        usual = kind.str.contains("non-targeting|non_targeting|ntc", case=False)
        null = usual if non_targeting is None else kind == non_targeting
        if not null.any():
            has = ", ".join(map(repr, sorted(kind.unique())[:10]))
            raise InputError(
                f"{paths[0].name}: no cell has the guide_type {non_targeting or 'non-targeting'!r};"
                f" it has {has}. Name the label of control guides with non_targeting=."
            )
        name = cells.obs["perturbed_gene_name"].astype(object)
        cells.obs["perturbed_gene_name"] = name.where(~null, "control").astype(str)
    cells.obs["condition"] = paths[0].name.split(".")[0].rpartition("_")[2]
    cells.obs["donor"] = paths[0].name.split("_")[0]
    return cells
