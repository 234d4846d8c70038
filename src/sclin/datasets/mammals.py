"""The testis of eight simulated mammals whose expression evolves along their dated tree."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

from sclin.datasets import counts
from sclin.errors import InputError

# Million years to the ancestor shared with human, as the first paper typed them in (the order is
# that of a caterpillar tree), and sequencing depth relative to human.
_NAMES = ["human", "chimpanzee", "gorilla", "macaque", "marmoset", "mouse", "opossum", "platypus"]
_MYR = dict(zip(_NAMES, (0, 6, 10, 25, 35, 90, 160, 177), strict=True))
_DEPTH = dict(zip(_NAMES, (1.0, 0.85, 0.9, 1.1, 0.65, 0.8, 0.5, 0.4), strict=True))
KINDS = ("one2one", "one2many", "many2many")
_TESTIS = [
    "male germ line stem cell", "spermatogonium", "spermatocyte", "early spermatid",
    "late spermatid", "somatic cell", "Sertoli cell",
]  # fmt: skip


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
        if kind not in (None, *KINDS):
            raise InputError(f"kind is {kind!r}: give {', '.join(KINDS)} or None.")
        table = self.orthologs
        left, right = (
            table.loc[table["species"] == name, ["group", "gene_id"]] for name in (source, target)
        )
        pairs = left.merge(right, on="group").set_axis(["group", "source", "target"], axis=1)
        many = sum(pairs["group"].map(side["group"].value_counts()) > 1 for side in (left, right))
        pairs["kind"] = np.array(KINDS)[many]
        pairs = pairs[["source", "target", "kind"]]
        return pairs if kind is None else pairs[pairs["kind"] == kind].reset_index(drop=True)


def _testis_profiles(rng, n_groups: int) -> np.ndarray:
    """Ancestral log rates (types, groups): a germ line in steps, two somatic types apart."""
    base = counts.baseline(rng, n_groups)
    step = counts.sparse_effects(rng, 5, n_groups, share=0.2, scale=1.2)
    soma = counts.sparse_effects(rng, 3, n_groups, share=0.15, scale=1.2)
    germ = base + np.cumsum(step, axis=0)
    return np.vstack([germ, base + soma[0] + soma[1], base + soma[0] + soma[2]])


def species(*, n_cells: int = 600, n_genes: int = 2000, seed: int = 0) -> SpeciesData:
    """Simulate the testis of eight mammals whose expression evolves along their dated tree.

    Log rates follow an Ornstein-Uhlenbeck process around the ancestral value (half-life 100 Myr):
    one part is shared by all types of a species, one is a type's own and faster in late
    germ cells.
    Genes are lost and doubled along the branches; each species has its own gene ids and its own
    sequencing depth, lower in the distant species.

    Parameters
    ----------
    n_cells, n_genes
        Sizes, per species.
    seed
        Seed of every random step.

    Returns
    -------
    SpeciesData
        ``uns["sclin"]["truth"]["log_profiles"]`` of each species holds its types by genes.

    Raises
    ------
    InputError
        If a size is not a positive whole number.

    Examples
    --------
    >>> data = species(n_cells=40, n_genes=200)
    >>> [data.adatas[name].obs["cell_type"].nunique() for name in ("human", "mouse", "platypus")]
    [7, 6, 5]
    """
    counts.check(n_cells=n_cells, n_genes=n_genes)
    rng = np.random.default_rng(seed)
    n_groups = int(0.9 * n_genes)
    ancestor = _testis_profiles(rng, n_groups)
    adatas, tables = {}, []
    for name, (deviation, alive) in _evolve(rng, ancestor.shape).items():
        groups = np.flatnonzero(alive)[:n_genes]
        double = rng.random(len(groups)) < 0.02 + 0.06 * _MYR[name] / 177
        groups = np.concatenate([groups, groups[double]])[:n_genes]
        private = _testis_profiles(rng, n_genes - len(groups)) - 1.5
        profile = np.hstack([(ancestor + deviation)[:, groups], private])
        copies = np.bincount(groups, minlength=n_groups)[groups] > 1
        profile[:, : len(groups)] += copies * (rng.normal(0, 0.5, len(groups)) - np.log(2))
        ids = counts.genes(n_genes, f"{name[:4].upper()}G")
        shuffled = rng.permutation(n_genes)
        own = counts.pick(ids, shuffled)[: len(groups)]
        tables.append(pd.DataFrame({"group": groups, "species": name, "gene_id": own}))
        profile = profile[:, np.argsort(shuffled)]
        adatas[name] = _species_cells(rng, name, profile, ids, n_cells, seed)
    myr = np.array(list(_MYR.values()), dtype=float)
    divergence = np.maximum(myr[:, None], myr) * (1 - np.eye(len(myr)))
    tree, height = _NAMES[0], 0
    for name, age in zip(_NAMES[1:], myr[1:].astype(int), strict=True):
        tree, height = f"({tree}:{age - height},{name}:{age})", age
    return SpeciesData(
        adatas=adatas,
        orthologs=pd.concat(tables, ignore_index=True).astype({"species": "category"}),
        divergence_myr=pd.DataFrame(divergence, index=_NAMES, columns=_NAMES),
        tree=f"{tree};",
    )


def _evolve(rng, shape: tuple[int, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Deviation (types, groups) from the ancestor and groups still alive, for each species."""
    speed = np.array([0.6, 0.7, 1.0, 1.2, 1.4, 0.8, 0.8])[:, None]

    def grow(state, myr):
        deviation, alive = state
        keep = np.exp(-np.log(2) / 100 * myr)
        step = rng.normal(0, 0.7, (1, shape[1])) + rng.normal(0, 0.7, shape) * speed
        alive = alive & (rng.random(shape[1]) < np.exp(-myr / 1500))
        return deviation * keep + 0.9 * (1 - keep**2) ** 0.5 * step, alive

    state = (np.zeros(shape), np.ones(shape[1], dtype=bool))
    leaves = {}
    for name, above in zip(_NAMES[:0:-1], _NAMES[-2::-1], strict=True):
        leaves[name] = grow(state, _MYR[name])  # from its split with the human line to today
        state = grow(state, _MYR[name] - _MYR[above])
    leaves["human"] = grow(state, 0)
    return {name: leaves[name] for name in _NAMES}


def _species_cells(rng, name, profile, ids, n_cells, seed) -> ad.AnnData:
    """Draw the cells of one species; primates have 7 types, mouse and opossum 6, platypus 5."""
    fewer = {"mouse": _TESTIS[:-1], "opossum": _TESTIS[:-1], "platypus": _TESTIS[1:-1]}
    kinds = fewer.get(name, _TESTIS)
    rows = [_TESTIS.index(kind) for kind in kinds]
    kind = rng.permutation(np.repeat(rows, counts.split(n_cells, rng.uniform(0.5, 1.5, len(rows)))))
    donor, donors = counts.donors(rng, n_cells, 2)
    types = counts.one_hot(kind, len(_TESTIS)), profile
    bias = counts.one_hot(donor, 2), rng.normal(0, 0.1, (2, len(ids)))
    depth = counts.library(rng, n_cells, 3000.0 * _DEPTH[name], 0.4)
    X = counts.draw(depth, rng, types, bias)
    donors = {"donor": f"{name}-" + donors["donor"], "species": name}
    obs = {"cell_type": counts.pick(_TESTIS, kind), **donors}
    truth = {"log_profiles": pd.DataFrame(profile[rows], index=kinds, columns=ids)}
    out = counts.pack(X, obs, ids, "sim_species", seed, truth)
    out.obs_names = [f"{name}-{i}" for i in range(n_cells)]
    out.uns["sclin"]["organism"] = name
    return out
