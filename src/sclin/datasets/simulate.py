"""Seeded simulators whose truth is known.

Every cell is a molecule count drawn from a log-linear model: the log rate of a gene is a baseline
plus effects of the cell's design (type, donor, state, factor activities).
Counts are negative binomial given the cell's expected molecules, drawn as a compound Poisson:
molecule bursts fall on genes, each burst has a logarithmic size.
The cost follows the molecules of a cell, not the genes, and only one profile is ever dense.

All functions return an :class:`anndata.AnnData` (species: one per species) with the truth in
``uns["sclin"]["truth"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.errors import InputError

__all__ = [
    "SpeciesData",
    "atlas",
    "infection",
    "perturbation",
    "realism",
    "regulation",
    "species",
    "trajectory",
]

# Myr from human, as the first paper typed them in; the order is that of a caterpillar tree.
_MYR = {
    "human": 0,
    "chimpanzee": 6,
    "gorilla": 10,
    "macaque": 25,
    "marmoset": 35,
    "mouse": 90,
    "opossum": 160,
    "platypus": 177,
}
_GERM_LINE = [
    "male germ line stem cell",
    "spermatogonium",
    "spermatocyte",
    "early spermatid",
    "late spermatid",
]
_TESTIS = [*_GERM_LINE, "somatic cell", "Sertoli cell"]
_SHARED = [*_GERM_LINE[1:], "somatic cell"]
# Cells and genes of the testis data; cells scaled so that the eight sum to about 74,000.
_PAPER = {
    "human": (16_408, 34_168),
    "chimpanzee": (12_746, 15_773),
    "gorilla": (7_584, 19_457),
    "macaque": (7_893, 14_722),
    "marmoset": (6_620, 12_237),
    "mouse": (5_463, 24_027),
    "opossum": (10_271, 15_793),
    "platypus": (7_014, 18_096),
}
_DEPTH = dict(zip(_MYR, (1.0, 0.85, 0.9, 1.1, 0.65, 0.8, 0.5, 0.4), strict=True))
_CHUNK = 2_000_000  # molecules drawn at once


def _check(**sizes: int) -> None:
    for name, value in sizes.items():
        if int(value) != value or value < 1:
            raise InputError(f"{name} is {value!r}: give a whole number of at least 1.")


def _draw(log_rate: np.ndarray, library: np.ndarray, dispersion: float, rng) -> sp.csr_matrix:
    """Draw negative binomial counts for cells that share one profile.

    ``log_rate`` is (genes,), natural log up to a constant; ``library`` is (cells,), the expected
    molecules; variance = mean + dispersion * mean**2.
    """
    rate = np.exp(log_rate - log_rate.max())
    rate /= rate.sum()
    edges = np.cumsum(rate)
    edges /= edges[-1]
    bursts = rng.poisson(library)
    parts = np.array_split(
        np.arange(len(library)), max(1, min(len(library), -(-bursts.sum() // _CHUNK)))
    )
    blocks = []
    for cells in parts:
        owner = np.repeat(np.arange(len(cells)), bursts[cells])
        gene = np.searchsorted(edges, rng.random(len(owner))).astype(np.int32)
        if dispersion > 0:
            # NB(mean, 1/dispersion) = Poisson(ln(1 + d*mean)/d) bursts of Logarithmic(q) molecules.
            scaled = dispersion * library[cells][owner] * rate[gene]
            kept = rng.random(len(owner)) * scaled < np.log1p(scaled)
            owner, gene, scaled = owner[kept], gene[kept], scaled[kept]
            size = rng.logseries(scaled / (1 + scaled)).astype(np.float32)
        else:
            size = np.ones(len(owner), dtype=np.float32)
        start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(cells)))])
        block = sp.csr_matrix((size, gene, start), shape=(len(cells), len(rate)))
        block.sum_duplicates()
        blocks.append(block)
    return sp.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]


def _counts(
    design: np.ndarray, effects: np.ndarray, library: np.ndarray, rng, dispersion: float = 0.5
) -> sp.csr_matrix:
    """Draw counts (cells, genes) with log rate ``design @ effects``, profile by profile."""
    profiles, member = np.unique(np.round(design, 6), axis=0, return_inverse=True)
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(len(profiles) + 1))
    blocks = [
        _draw(profile @ effects, library[order[low:high]], dispersion, rng)
        for profile, low, high in zip(profiles, bounds[:-1], bounds[1:], strict=True)
    ]
    drawn = sp.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    return drawn[np.argsort(order)]


def _sparse_effects(rng, rows: int, n_genes: int, *, share: float, scale: float) -> np.ndarray:
    """Effects (rows, genes): a share of genes is hit, natural-log fold changes of sd ``scale``."""
    hit = rng.random((rows, n_genes)) < share
    return hit * rng.normal(0, scale, (rows, n_genes))


def _baseline(rng, n_genes: int, sd: float = 2.1) -> np.ndarray:
    """Return log rates (1, genes) with the wide, right-heavy spread of real means."""
    return rng.normal(0, sd, (1, n_genes)) + (rng.random((1, n_genes)) < 0.01) * 2.0


def _library(rng, n_cells: int, median: float, sd: float = 0.5) -> np.ndarray:
    return median * np.exp(rng.normal(0, sd, n_cells))


def _one_hot(codes: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size)[codes]


def _pack(X, obs, genes, dataset: str, seed: int, truth: dict[str, Any], **var) -> ad.AnnData:
    """Assemble the AnnData in the layout shared by all datasets."""
    index = pd.Index([f"{dataset}-{i}" for i in range(X.shape[0])], dtype=object)
    frame = pd.DataFrame(obs, index=index)
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = frame[name].astype("category")
    names = pd.Index(genes, dtype=object)
    genes_frame = pd.DataFrame({"symbol": names.to_numpy(), **var}, index=names)
    info = {"dataset": dataset, "tier": "simulated", "values": "counts", "seed": int(seed)}
    return ad.AnnData(
        X=X.astype(np.float32), obs=frame, var=genes_frame, uns={"sclin": {**info, "truth": truth}}
    )


def _genes(n_genes: int, prefix: str = "GENE") -> list[str]:
    return [f"{prefix}{i:05d}" for i in range(n_genes)]


def _donors(rng, n_cells: int, n_donors: int) -> tuple[np.ndarray, np.ndarray]:
    codes = rng.permutation(np.arange(n_cells) % n_donors)
    return codes, np.array([f"donor{i + 1}" for i in range(n_donors)], dtype=object)[codes]


def _type_tree(rng, names: list[str]) -> tuple[list[tuple[frozenset, float]], str, pd.DataFrame]:
    """Join types at random, pair by pair.

    Returns the edges (types below, length), Newick text and path lengths.
    """
    nodes: list[tuple[list[str], str]] = [([name], name) for name in names]
    edges: list[tuple[frozenset, float]] = []
    while len(nodes) > 1:
        left, right = (nodes.pop(int(rng.integers(len(nodes)))) for _ in range(2))
        edges += [(frozenset(left[0]), 1.0), (frozenset(right[0]), 1.0)]
        nodes.append((left[0] + right[0], f"({left[1]},{right[1]})"))
    distance = pd.DataFrame(0.0, index=names, columns=names)
    for below, length in edges:
        split = np.array([name in below for name in names])
        distance += length * (split[:, None] != split[None, :])
    return edges, nodes[0][1] + ";", distance


def atlas(
    *,
    n_cells: int = 2000,
    n_genes: int = 2000,
    n_types: int = 8,
    n_donors: int = 4,
    n_rare: int = 1,
    rare_share: float = 0.02,
    effect: float = 1.0,
    donor_effect: float = 0.15,
    batch_effect: float = 0.2,
    ambient: float = 0.05,
    library: float = 4000.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate cell types that sit on a tree, in donors and two batches.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_donors
        Sizes.
    n_rare, rare_share
        The last ``n_rare`` types hold ``rare_share`` of the cells each.
    effect, donor_effect, batch_effect
        Sd of natural-log fold changes: on 8 % of the genes per tree edge; on all genes per donor
        and per batch.
    ambient
        Expected share of a cell's molecules that come from its batch's soup.
    library
        Median molecules per cell.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        Counts (cells, genes); ``obs``: cell_type, donor, batch; truth: ``newick``,
        ``tree_distance`` (types, types), ``log_profiles`` (types, genes), ``ambient``.

    Raises
    ------
    InputError
        If a size is not a positive whole number or shares leave no room for the common types.

    Examples
    --------
    >>> adata = atlas(n_cells=100, n_genes=50, n_types=3)
    >>> adata.shape, adata.obs["cell_type"].nunique()
    ((100, 50), 3)
    """
    _check(n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_donors=n_donors)
    n_rare = min(n_rare, n_types - 1)
    if not 0 <= n_rare * rare_share < 1 or not 0 <= ambient < 1:
        raise InputError(
            f"n_rare * rare_share is {n_rare * rare_share} and ambient is {ambient}: "
            "both must be at least 0 and below 1."
        )
    rng = np.random.default_rng(seed)
    names = [f"type{i + 1}" for i in range(n_types)]
    edges, newick, distance = _type_tree(rng, names)
    profiles = np.repeat(_baseline(rng, n_genes), n_types, axis=0)
    for below, length in edges:
        rows = [names.index(name) for name in sorted(below)]
        profiles[rows] += _sparse_effects(rng, 1, n_genes, share=0.08, scale=effect * length**0.5)
    share = np.full(n_types, (1 - n_rare * rare_share) / (n_types - n_rare))
    share[n_types - n_rare :] = rare_share
    kind = rng.permutation(np.arange(n_types).repeat(_split(n_cells, share)))
    donor, donor_names = _donors(rng, n_cells, n_donors)
    batch = donor % 2
    design = np.hstack([_one_hot(kind, n_types), _one_hot(donor, n_donors), _one_hot(batch, 2)])
    effects = np.vstack(
        [
            profiles,
            rng.normal(0, donor_effect, (n_donors, n_genes)),
            rng.normal(0, batch_effect, (2, n_genes)),
        ]
    )
    depth = _library(rng, n_cells, library)
    X = _counts(design, effects, depth * (1 - ambient), rng)
    if ambient > 0:
        soup = [np.asarray(X[batch == b].sum(0)).ravel() + 1e-9 for b in (0, 1)]
        X = X + _counts(_one_hot(batch, 2), np.log(soup), depth * ambient, rng, 0.0)
    obs = {
        "cell_type": np.array(names, dtype=object)[kind],
        "donor": donor_names,
        "batch": np.array(["batch1", "batch2"], dtype=object)[batch],
    }
    genes = _genes(n_genes)
    truth = {
        "newick": newick,
        "tree_distance": distance,
        "log_profiles": pd.DataFrame(profiles, index=names, columns=genes),
        "ambient": float(ambient),
    }
    return _pack(X, obs, genes, "sim_atlas", seed, truth)


def _split(n: int, share: np.ndarray) -> np.ndarray:
    """Split ``n`` cells by share (largest remainders first), at least one each where possible."""
    exact = n * np.asarray(share) / np.sum(share)
    size = np.floor(exact).astype(int)
    size[np.argsort(size - exact, kind="stable")[: n - size.sum()]] += 1
    while n >= len(size) and size.min() == 0:
        size[size.argmax()] -= 1
        size[size.argmin()] += 1
    return size


def infection(
    *,
    n_cells: int = 2000,
    n_genes: int = 2000,
    n_types: int = 4,
    n_donors: int = 4,
    response: float = 0.8,
    leak: bool = False,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate mock, bystander and infected cells of several types and donors.

    Each exposed cell has a graded response in (0, 1) along a shared and a type-specific set of
    host genes; bystanders respond weakly.
    Infected cells lose up to 60 % of their host molecules, so library size alone tells them apart
    to some degree.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_donors
        Sizes; ``n_genes`` counts host genes.
    response
        Sd of the natural-log fold changes at a full response.
    leak
        Add ten viral genes, found in infected cells above all: a label in the features.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: cell_type, donor, batch, condition (mock, bystander, infected);
        ``var["host"]``; truth: ``response`` per cell, ``log_fold`` (types, genes).

    Examples
    --------
    >>> infection(n_cells=60, n_genes=40, leak=True).var["host"].value_counts().to_dict()
    {True: 40, False: 10}
    """
    _check(n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_donors=n_donors)
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(n_cells) % n_types)
    donor, donor_names = _donors(rng, n_cells, n_donors)
    state = rng.choice(3, size=n_cells, p=[0.4, 0.3, 0.3])
    strength = np.select([state == 0, state == 1], [0.0, 0.35], 1.0)
    graded = np.round(strength * rng.beta(3, 2, n_cells), 2)
    base = np.repeat(_baseline(rng, n_genes), n_types, axis=0)
    base += _sparse_effects(rng, n_types, n_genes, share=0.15, scale=1.0)
    shared = np.abs(_sparse_effects(rng, 1, n_genes, share=0.04, scale=response))
    fold = shared + _sparse_effects(rng, n_types, n_genes, share=0.04, scale=response)
    design = np.hstack(
        [
            _one_hot(kind, n_types),
            _one_hot(kind, n_types) * graded[:, None],
            _one_hot(donor, n_donors),
        ]
    )
    effects = np.vstack([base, fold, rng.normal(0, 0.25, (n_donors, n_genes))])
    depth = _library(rng, n_cells, 4000.0)
    lost = np.where(state == 2, 0.6 * graded, 0.0)
    X = _counts(design, effects, depth * (1 - lost), rng)
    genes, host = _genes(n_genes), np.ones(n_genes, dtype=bool)
    if leak:
        viral = np.where(state == 2, lost, np.where(state == 1, 0.002, 0.0001))
        X = sp.hstack(
            [X, _counts(np.zeros((n_cells, 1)), np.zeros((1, 10)), depth * viral, rng, 0.5)],
            format="csr",
        )
        genes, host = genes + _genes(10, "VIRUS"), np.r_[host, np.zeros(10, dtype=bool)]
    obs = {
        "cell_type": np.array([f"type{i + 1}" for i in range(n_types)], dtype=object)[kind],
        "donor": donor_names,
        "batch": np.array(["batch1", "batch2"], dtype=object)[donor % 2],
        "condition": np.array(["mock", "bystander", "infected"], dtype=object)[state],
    }
    truth = {
        "response": graded,
        "log_fold": pd.DataFrame(
            fold, index=[f"type{i + 1}" for i in range(n_types)], columns=_genes(n_genes)
        ),
        "leak": bool(leak),
    }
    return _pack(X, obs, genes, "sim_infection", seed, truth, host=host)


@dataclass
class SpeciesData:
    """Simulated species with their orthologs and their dated tree.

    Attributes
    ----------
    adatas
        Counts per species, own gene ids; ``obs``: cell_type, donor, species.
    orthologs
        One row a gene: ``group`` (ortholog group), ``species``, ``gene_id``.
    divergence_myr
        Million years since the common ancestor (species, species).
    tree
        Newick text, branch lengths in million years.
    """

    adatas: dict[str, ad.AnnData]
    orthologs: pd.DataFrame
    divergence_myr: pd.DataFrame
    tree: str

    def pairs(self, source: str, target: str, *, kind: str | None = "one2one") -> pd.DataFrame:
        """Ortholog pairs of two species.

        Parameters
        ----------
        source, target
            Species.
        kind
            ``one2one``, ``one2many``, ``many2many`` or None for all.

        Returns
        -------
        DataFrame
            Columns source, target (gene ids) and kind; one row a pair.

        Raises
        ------
        InputError
            If a species or the kind is unknown.
        """
        for name in (source, target):
            if name not in self.adatas:
                raise InputError(f"No species {name!r} here; there are {sorted(self.adatas)}.")
        if kind not in (None, "one2one", "one2many", "many2many"):
            raise InputError(f"kind is {kind!r}: give one2one, one2many, many2many or None.")
        table = self.orthologs
        left, right = (
            table.loc[table["species"] == name, ["group", "gene_id"]] for name in (source, target)
        )
        both = left.merge(right, on="group", suffixes=("_source", "_target"))
        copies = [
            both["group"].map(side["group"].value_counts()).to_numpy() for side in (left, right)
        ]
        label = np.where(
            (copies[0] == 1) & (copies[1] == 1),
            "one2one",
            np.where((copies[0] > 1) & (copies[1] > 1), "many2many", "one2many"),
        )
        out = pd.DataFrame(
            {
                "source": both["gene_id_source"].to_numpy(),
                "target": both["gene_id_target"].to_numpy(),
                "kind": label,
            }
        )
        return out if kind is None else out[out["kind"] == kind].reset_index(drop=True)


def _testis_profiles(rng, n_groups: int) -> np.ndarray:
    """Ancestral log rates (types, groups): a germ line in steps, two somatic types apart."""
    base = _baseline(rng, n_groups)
    step = _sparse_effects(rng, len(_GERM_LINE), n_groups, share=0.2, scale=1.2)
    soma = _sparse_effects(rng, 3, n_groups, share=0.15, scale=1.2)
    germ = base + np.cumsum(step, axis=0)
    return np.vstack([germ, base + soma[0] + soma[1], base + soma[0] + soma[2]])


def species(
    *,
    n_cells: int | Mapping[str, int] | str = 600,
    n_genes: int | Mapping[str, int] | str = 2000,
    library: float = 3000.0,
    rate: float = 0.9,
    n_donors: int = 2,
    seed: int = 0,
) -> SpeciesData:
    """Simulate the testis of eight mammals whose expression evolves along their dated tree.

    Log rates follow an Ornstein-Uhlenbeck process around the ancestral value (half-life 100 Myr):
    one part is shared by all types of a species, one is a type's own and faster in late
    germ cells.
    Genes are lost and doubled along the branches; each species has its own gene ids and its own
    sequencing depth, lower in the distant species.

    Parameters
    ----------
    n_cells, n_genes
        Per species: one number, a mapping, or ``"paper"`` for the sizes of the testis data
        (about 74,000 cells, 12,000 to 34,000 genes each).
    library
        Median molecules of a human cell.
    rate
        Stationary sd of the natural-log rate of a gene around its ancestral value.
    n_donors
        Donors of each species.
    seed
        Seed of every random step.

    Returns
    -------
    SpeciesData
        ``uns["sclin"]["truth"]["log_profiles"]`` of each species holds its types by genes.

    Raises
    ------
    InputError
        If a size is missing, not a positive whole number or an unknown word.

    Examples
    --------
    >>> data = species(n_cells=40, n_genes=200)
    >>> [data.adatas[name].obs["cell_type"].nunique() for name in ("human", "mouse", "platypus")]
    [7, 6, 5]
    """
    _check(n_donors=n_donors)
    cells, genes = _sizes(n_cells, 0, "n_cells"), _sizes(n_genes, 1, "n_genes")
    rng = np.random.default_rng(seed)
    n_groups = int(0.9 * np.median(list(genes.values())))
    ancestor = _testis_profiles(rng, n_groups)
    speed = np.array([0.6, 0.7, 1.0, 1.2, 1.4, 0.8, 0.8])[:, None]

    def evolve(state, myr):
        deviation, alive = state
        keep = np.exp(-np.log(2) / 100 * myr)
        step = rng.normal(0, 0.7, (1, n_groups)) + rng.normal(0, 0.7, deviation.shape) * speed
        alive = alive & (rng.random(n_groups) < np.exp(-myr / 1500))
        return deviation * keep + rate * (1 - keep**2) ** 0.5 * step, alive

    names = list(_MYR)
    state = (np.zeros_like(ancestor), np.ones(n_groups, dtype=bool))
    leaves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, above in zip(names[:0:-1], names[-2::-1], strict=True):
        leaves[name] = evolve(state, _MYR[name])  # from its split with the human line to today
        state = evolve(state, _MYR[name] - _MYR[above])
    leaves["human"] = evolve(state, 0)

    adatas, tables = {}, []
    for name in names:
        deviation, alive = leaves[name]
        groups = np.flatnonzero(alive)[: genes[name]]
        double = rng.random(len(groups)) < 0.02 + 0.06 * _MYR[name] / 177
        groups = np.concatenate([groups, groups[double]])[: genes[name]]
        private = genes[name] - len(groups)
        profile = np.hstack(
            [
                (ancestor + deviation)[:, groups],
                _testis_profiles(rng, private) - 1.5,
            ]
        )
        copies = np.bincount(groups, minlength=n_groups)[groups] > 1
        profile[:, : len(groups)] += copies * (rng.normal(0, 0.5, len(groups)) - np.log(2))
        ids = _genes(genes[name], f"{name[:4].upper()}G")
        shuffled = rng.permutation(genes[name])
        ids_of = np.array(ids, dtype=object)[shuffled]
        tables.append(
            pd.DataFrame({"group": groups, "species": name, "gene_id": ids_of[: len(groups)]})
        )
        profile = profile[:, np.argsort(shuffled)]
        adatas[name] = _species_cells(rng, name, profile, ids, cells[name], library, n_donors, seed)

    myr = np.array([_MYR[name] for name in names], dtype=float)
    divergence = np.maximum(myr[:, None], myr[None, :]) * (1 - np.eye(len(names)))
    tree = f"{names[0]}:{_MYR[names[1]]}"
    for i in range(1, len(names)):
        stem = _MYR[names[i + 1]] - _MYR[names[i]] if i + 1 < len(names) else 0
        tree = f"({tree},{names[i]}:{_MYR[names[i]]}):{stem}"
    return SpeciesData(
        adatas=adatas,
        orthologs=pd.concat(tables, ignore_index=True).astype({"species": "category"}),
        divergence_myr=pd.DataFrame(divergence, index=names, columns=names),
        tree=tree.rsplit(":", 1)[0] + ";",
    )


def _sizes(given, column: int, what: str) -> dict[str, int]:
    if isinstance(given, str):
        if given != "paper":
            raise InputError(f"{what} is {given!r}: give a number, a mapping or 'paper'.")
        return {name: size[column] for name, size in _PAPER.items()}
    if isinstance(given, Mapping):
        if missing := sorted(set(_MYR) - set(given)):
            raise InputError(f"{what} names no size for {missing}: give all eight species.")
        sizes = {name: given[name] for name in _MYR}
    else:
        sizes = dict.fromkeys(_MYR, given)
    _check(**{f"{what} of {name}": size for name, size in sizes.items()})
    return sizes


def _species_cells(rng, name, profile, ids, n_cells, library, n_donors, seed) -> ad.AnnData:
    """Draw the cells of one species; primates have 7 types, mouse and opossum 6, platypus 5."""
    lacking = {"mouse": ["Sertoli cell"], "opossum": ["Sertoli cell"]}.get(name, [])
    kinds = _SHARED if name == "platypus" else [t for t in _TESTIS if t not in lacking]
    rows = [_TESTIS.index(kind) for kind in kinds]
    kind = rng.permutation(np.repeat(rows, _split(n_cells, rng.uniform(0.5, 1.5, len(rows)))))
    donor, donor_names = _donors(rng, n_cells, n_donors)
    design = np.hstack([_one_hot(kind, len(_TESTIS)), _one_hot(donor, n_donors)])
    effects = np.vstack([profile, rng.normal(0, 0.1, (n_donors, profile.shape[1]))])
    X = _counts(design, effects, _library(rng, n_cells, library * _DEPTH[name], 0.4), rng)
    obs = {
        "cell_type": np.array(_TESTIS, dtype=object)[kind],
        "donor": np.array([f"{name}-{d}" for d in donor_names], dtype=object),
        "species": np.full(n_cells, name, dtype=object),
    }
    truth = {"log_profiles": pd.DataFrame(profile[rows], index=kinds, columns=ids)}
    out = _pack(X, obs, ids, "sim_species", seed, truth)
    out.obs_names = [f"{name}-{i}" for i in range(n_cells)]
    out.uns["sclin"]["organism"] = name
    return out


def _network(rng, n_tfs: int, n_genes: int, n_targets: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw a bipartite network; TFs are the first genes. Returns edges and weights (tfs, genes)."""
    weights = np.zeros((n_tfs, n_genes))
    for factor in range(n_tfs):
        chosen = rng.choice(np.arange(n_tfs, n_genes), n_targets, replace=False)
        weights[factor, chosen] = rng.choice([1, -1], n_targets, p=[0.75, 0.25]) * rng.uniform(
            0.5, 1.5, n_targets
        )
    tf, target = np.nonzero(weights)
    names = np.array(_genes(n_genes), dtype=object)
    edges = pd.DataFrame(
        {
            "tf": names[tf],
            "target": names[target],
            "sign": np.sign(weights[tf, target]).astype(int),
            "weight": weights[tf, target],
        }
    )
    return edges, weights


def regulation(
    *,
    n_cells: int = 2000,
    n_genes: int = 1500,
    n_tfs: int = 12,
    n_targets: int = 30,
    n_donors: int = 4,
    cycling: float = 0.3,
    library: float = 3000.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate a transcription factor network under a cell-cycle confounder.

    A factor is active in a share of the cells; its own gene and its targets follow.
    The last quarter of the factors are switched by the cell cycle, which also moves 10 % of the
    genes directly: these genes associate with cycle factors without being their targets.
    Depth varies widely and differs by donor.

    Parameters
    ----------
    n_cells, n_genes, n_tfs, n_targets, n_donors
        Sizes; ``n_targets`` per factor.
    cycling
        Share of cells in cycle.
    library
        Median molecules per cell.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: cell_type, donor, batch, condition (resting, cycling); ``var["tf"]``; truth:
        ``edges`` (tf, target, sign, weight), ``activity`` (cells, tfs), ``cycle_genes``,
        ``cycle_tfs``.

    Raises
    ------
    InputError
        If there are not enough genes for the factors and their targets.

    Examples
    --------
    >>> adata = regulation(n_cells=50, n_genes=100, n_tfs=4, n_targets=5)
    >>> len(adata.uns["sclin"]["truth"]["edges"])
    20
    """
    _check(n_cells=n_cells, n_genes=n_genes, n_tfs=n_tfs, n_targets=n_targets, n_donors=n_donors)
    if n_genes < n_tfs + n_targets:
        raise InputError(f"{n_genes} genes cannot hold {n_tfs} factors and {n_targets} targets.")
    rng = np.random.default_rng(seed)
    edges, weights = _network(rng, n_tfs, n_genes, n_targets)
    donor, donor_names = _donors(rng, n_cells, n_donors)
    cycle = (rng.random(n_cells) < cycling).astype(float)
    n_cycle = max(1, n_tfs // 4)
    on = rng.random((n_cells, n_tfs)) < rng.uniform(0.1, 0.5, n_tfs)
    on[:, -n_cycle:] = rng.random((n_cells, n_cycle)) < 0.05 + 0.6 * cycle[:, None]
    activity = on * rng.choice([0.6, 0.8, 1.0], (n_cells, n_tfs))
    own = np.zeros((n_tfs, n_genes))
    own[:, :n_tfs] = np.eye(n_tfs) * 2.5
    moved = np.zeros(n_genes)
    moved[rng.choice(np.arange(n_tfs, n_genes), n_genes // 10, replace=False)] = 1.0
    base = _baseline(rng, n_genes, 1.6)
    base[0, :n_tfs] = base.mean() + rng.uniform(-2.0, 0.5, n_tfs)
    design = np.hstack([np.ones((n_cells, 1)), _one_hot(donor, n_donors), activity, cycle[:, None]])
    effects = np.vstack(
        [base, rng.normal(0, 0.2, (n_donors, n_genes)), own + 1.2 * weights, moved * 1.0]
    )
    depth = _library(rng, n_cells, library, 0.6) * rng.uniform(0.6, 1.4, n_donors)[donor]
    X = _counts(design, effects, depth, rng)
    names = _genes(n_genes)
    obs = {
        "cell_type": np.full(n_cells, "cell", dtype=object),
        "donor": donor_names,
        "batch": np.array(["batch1", "batch2"], dtype=object)[donor % 2],
        "condition": np.array(["resting", "cycling"], dtype=object)[cycle.astype(int)],
    }
    truth = {
        "edges": edges,
        "activity": pd.DataFrame(activity, columns=names[:n_tfs]),
        "cycle_genes": np.array(names, dtype=object)[moved > 0],
        "cycle_tfs": np.array(names[n_tfs - n_cycle : n_tfs], dtype=object),
    }
    return _pack(X, obs, names, "sim_regulation", seed, truth, tf=np.arange(n_genes) < n_tfs)


def trajectory(
    *,
    n_cells: int = 1500,
    n_genes: int = 1500,
    n_times: int = 5,
    n_donors: int = 4,
    branching: float = 0.4,
    asynchrony: float = 0.08,
    batch_effect: float = 0.15,
    library: float = 4000.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate a differentiation that splits in two, sampled at real times from several donors.

    Cells of one time point are spread along the path (asynchrony); every donor is sampled at every
    time, so time is not confounded with donor or batch.

    Parameters
    ----------
    n_cells, n_genes, n_times, n_donors
        Sizes.
    branching
        Pseudotime of the split, in (0, 1).
    asynchrony
        Sd of a cell's true pseudotime around its sampling time.
    batch_effect
        Sd of the natural-log fold change between the two batches (donors alternate).
    library
        Median molecules per cell.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: time (days: 0, 2, 4, ...), pseudotime (truth, 0 to 1), branch (trunk, A, B),
        cell_type, donor, batch; truth: ``root`` (row of the earliest cell), ``branching``.

    Raises
    ------
    InputError
        If a size is not a positive whole number, fewer than two times are asked for or
        ``branching`` is outside (0, 1).

    Examples
    --------
    >>> sorted(trajectory(n_cells=60, n_genes=50, n_times=3).obs["time"].unique().tolist())
    [0.0, 2.0, 4.0]
    """
    _check(n_cells=n_cells, n_genes=n_genes, n_times=n_times, n_donors=n_donors)
    if n_times < 2 or not 0 < branching < 1:
        raise InputError(
            f"n_times is {n_times} and branching {branching}: give two times or more and a split "
            "between 0 and 1."
        )
    rng = np.random.default_rng(seed)
    donor, donor_names = _donors(rng, n_cells, n_donors)
    step = np.empty(n_cells, dtype=int)  # times are spread evenly within every donor
    for code in range(n_donors):
        rows = np.flatnonzero(donor == code)
        step[rows] = rng.permutation(np.arange(len(rows)) % n_times)
    s = np.clip(0.03 + 0.94 * step / (n_times - 1) + rng.normal(0, asynchrony, n_cells), 0, 1)
    side = rng.integers(2, size=n_cells)
    past = s > branching
    # Piecewise linear programs: knots on the trunk, then one set of knots per branch.
    trunk = np.linspace(0, branching, 3)[1:]
    arm = np.linspace(branching, 1, 5)[1:]
    ramps = [np.clip((s - low) / (high - low), 0, 1) for low, high in _spans(0, trunk)]
    late = [np.clip((s - low) / (high - low), 0, 1) for low, high in _spans(branching, arm)]
    late_a = [ramp * (side == 0) for ramp in late]
    late_b = [ramp * (side == 1) for ramp in late]
    moving = np.column_stack([*ramps, *late, *late_a, *late_b])
    moves = _sparse_effects(rng, moving.shape[1], n_genes, share=0.06, scale=1.0)
    design = np.hstack([np.ones((n_cells, 1)), moving, _one_hot(donor, n_donors)])
    effects = np.vstack([_baseline(rng, n_genes), moves, np.zeros((n_donors, n_genes))])
    shift = rng.normal(0, batch_effect, (2, n_genes))[np.arange(n_donors) % 2]
    effects[-n_donors:] = shift + rng.normal(0, 0.1, (n_donors, n_genes))
    X = _counts(design, effects, _library(rng, n_cells, library), rng)
    branch = np.where(past, np.where(side == 0, "A", "B"), "trunk").astype(object)
    stage = np.where(s < branching / 2, "progenitor", np.where(past, "fate ", "primed"))
    obs = {
        "time": 2.0 * step,
        "pseudotime": s,
        "branch": branch,
        "cell_type": np.where(past, stage.astype(object) + branch, stage).astype(object),
        "donor": donor_names,
        "batch": np.array(["batch1", "batch2"], dtype=object)[donor % 2],
    }
    truth = {"root": int(s.argmin()), "branching": float(branching)}
    return _pack(X, obs, _genes(n_genes), "sim_trajectory", seed, truth)


def _spans(start: float, knots: np.ndarray) -> list[tuple[float, float]]:
    return list(zip([start, *knots[:-1]], knots, strict=True))


def perturbation(
    *,
    n_cells_per: int = 60,
    n_genes: int = 1500,
    n_perturbations: int = 20,
    states: tuple[str, ...] = ("rest", "8h", "48h"),
    null_share: float = 0.25,
    n_guides: int = 2,
    n_donors: int = 4,
    effect: float = 0.8,
    library: float = 4000.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate knock-outs that act through one network in several activation states.

    Factors of one pathway share most of their targets, so their knock-outs look alike.
    Pathways differ in activity between the states: many are silent at rest.
    Each guide has an efficacy; a cell escapes with one minus that probability.
    A share of the perturbations has no effect in any state.

    Parameters
    ----------
    n_cells_per
        Cells per perturbation and state; controls get five times as many.
    n_genes, n_perturbations, n_guides, n_donors
        Sizes; guides per perturbation.
    states
        Names of the states; the first is the resting one.
    null_share
        Share of perturbations without effect.
    effect
        Natural-log fold change of a typical target at full pathway activity.
    library
        Median molecules per cell (resting cells hold 60 % of it).
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: perturbation (``control`` = non-targeting), condition (state), guide, donor,
        batch, edited (truth: the guide cut); truth: ``effects`` {state: (perturbations, genes)
        natural-log fold changes of an edited cell}, ``null``, ``efficacy`` per guide, ``pathway``.

    Raises
    ------
    InputError
        If a size is not a positive whole number or genes are fewer than three per perturbation.

    Examples
    --------
    >>> adata = perturbation(n_cells_per=5, n_genes=100, n_perturbations=4)
    >>> adata.n_obs == 3 * (4 * 5 + 25)
    True
    """
    _check(n_cells_per=n_cells_per, n_genes=n_genes, n_perturbations=n_perturbations)
    _check(n_guides=n_guides, n_donors=n_donors)
    if n_genes < 3 * n_perturbations:
        raise InputError(
            f"{n_genes} genes for {n_perturbations} perturbations: give three a perturbation."
        )
    rng = np.random.default_rng(seed)
    n_states, n = len(states), n_perturbations
    genes = _genes(n_genes)
    n_pathways = max(1, n // 4)
    pathway = np.arange(n) % n_pathways
    shared = _network(rng, n_pathways, n_genes, max(1, n_genes // 20))[1]
    own = _network(rng, n, n_genes, max(1, n_genes // 60))[1]
    shared[:, :n] = 0.0
    null = np.zeros(n, dtype=bool)
    null[rng.choice(n, round(null_share * n), replace=False)] = True
    activity = rng.uniform(0.3, 1.0, (n_pathways, n_states))
    activity[:, 0] *= rng.random(n_pathways) < 0.4
    strength = np.where(null, 0.0, rng.uniform(0.6, 1.2, n)) * effect
    fold = np.stack(  # (states, perturbations, genes); a knock-out removes activity
        [
            -strength[:, None]
            * (shared[pathway] * activity[pathway, k][:, None] + 0.5 * own * activity[:, k].mean())
            for k in range(n_states)
        ]
    )
    fold[:, np.arange(n), np.arange(n)] = np.where(null, 0.0, -2.0)
    guide_rate = np.round(rng.beta(6, 2, (n, n_guides)), 3)

    size = np.r_[5 * n_cells_per, np.full(n, n_cells_per)]
    target = np.tile(np.repeat(np.arange(-1, n), size), n_states)
    state = np.repeat(np.arange(n_states), size.sum())
    n_cells = len(target)
    guide = rng.integers(n_guides, size=n_cells)
    edited = (target >= 0) & (rng.random(n_cells) < guide_rate[target, guide])
    donor, donor_names = _donors(rng, n_cells, n_donors)
    base = _baseline(rng, n_genes)
    base[0, :n] = np.maximum(base[0, :n], 1.0)  # knocked-out genes are expressed
    resting = _sparse_effects(rng, n_states, n_genes, share=0.2, scale=0.8)
    resting[0] = 0.0
    effects = np.vstack(
        [base + resting, fold.reshape(-1, n_genes), rng.normal(0, 0.15, (n_donors, n_genes))]
    )
    hit = np.zeros((n_cells, n_states * n))
    hit[np.flatnonzero(edited), (state * n + target)[edited]] = 1.0
    design = np.hstack([_one_hot(state, n_states), hit, _one_hot(donor, n_donors)])
    depth = _library(rng, n_cells, library) * np.where(state == 0, 0.6, 1.0)
    X = _counts(design, effects, depth, rng)
    names = np.array([*genes[:n], "control"], dtype=object)  # index -1 is the control
    obs = {
        "perturbation": names[target],
        "condition": np.array(states, dtype=object)[state],
        "guide": np.char.add(
            np.where(target < 0, "NT", names[target]).astype(str),
            np.char.add("_g", (guide + 1).astype(str)),
        ).astype(object),
        "donor": donor_names,
        "batch": np.array(["batch1", "batch2"], dtype=object)[donor % 2],
        "edited": edited,
    }
    truth = {
        "effects": {
            name: pd.DataFrame(fold[k], index=genes[:n], columns=genes)
            for k, name in enumerate(states)
        },
        "null": np.array(genes[:n], dtype=object)[null],
        "efficacy": pd.DataFrame(
            guide_rate, index=genes[:n], columns=[f"g{i + 1}" for i in range(n_guides)]
        ),
        "pathway": pd.DataFrame({"pathway": pathway}, index=genes[:n]),
    }
    return _pack(X, obs, genes, "sim_perturbation", seed, truth)


def realism(sim: ad.AnnData, real: ad.AnnData, *, seed: int = 0) -> pd.DataFrame:
    """Hold simulated counts against real ones.

    Genes have no common names, so both matrices are reduced to per-cell and per-gene summaries and
    to the genes in order of their mean.

    Parameters
    ----------
    sim, real
        Counts; at least 50 cells each.
    seed
        Seed of the subsample and of the folds.

    Returns
    -------
    DataFrame
        Columns measure, simulated, real: library size (median, spread), genes seen, dispersion of
        well-seen genes, dropout against the Poisson expectation, and the cross-validated balanced
        accuracy of a random forest that tells the two apart (0.5 = it cannot), from five
        summaries of a cell and from the 200 strongest genes in order.

    Raises
    ------
    InputError
        If either set holds fewer than 50 cells.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    rng = np.random.default_rng(seed)
    n = min(sim.n_obs, real.n_obs, 1000)
    if n < 50:
        raise InputError(f"realism() found {sim.n_obs} and {real.n_obs} cells: it needs 50 each.")
    features, ordered, rows = [], [], {}
    for name, adata in (("simulated", sim), ("real", real)):
        X = sp.csr_matrix(adata.X)[np.sort(rng.permutation(adata.n_obs)[:n])].astype(np.float64)
        depth = np.maximum(np.asarray(X.sum(1)).ravel(), 1)
        scaled = sp.diags(np.median(depth) / depth) @ X
        mean = np.asarray(scaled.mean(0)).ravel()
        variance = np.asarray(scaled.multiply(scaled).mean(0)).ravel() - mean**2
        seen = np.diff(X.tocsc().indptr) / n
        strong = np.argsort(-mean, kind="stable")[:200]
        good = mean > 0.5
        expected = np.exp(-np.outer(depth, mean[good] / np.median(depth))).mean(0)
        top = scaled[:, strong].toarray()
        rows[name] = {
            "library size, median (molecules)": np.median(depth),
            "library size, sd of log10": np.log10(depth).std(),
            "genes seen in a cell, median": np.median(np.diff(X.indptr)),
            "genes never seen, share": (seen == 0).mean(),
            "dispersion of genes with mean > 0.5, median": np.median(
                (variance[good] - mean[good]) / mean[good] ** 2
            ),
            "dropout beyond Poisson, genes with mean > 0.5": (1 - seen[good] - expected).mean(),
        }
        share = np.sort(top, axis=1)[:, ::-1] / np.median(depth)
        features.append(
            np.column_stack(
                [
                    np.log(depth),
                    np.log(np.diff(X.indptr) + 1),
                    share[:, 0],
                    share[:, :20].sum(1),
                    share.sum(1),
                ]
            )
        )
        ordered.append(np.log1p(np.pad(top, ((0, 0), (0, 200 - top.shape[1])))))
    table = pd.DataFrame(rows)
    y = np.repeat([0, 1], n)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for what, blocks in (("five summaries", features), ("200 strongest genes", ordered)):
        model = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
        score = cross_val_score(model, np.vstack(blocks), y, cv=folds, scoring="balanced_accuracy")
        table.loc[f"telling them apart from {what}, balanced accuracy"] = [score.mean(), np.nan]
    return table.rename_axis("measure").reset_index()
