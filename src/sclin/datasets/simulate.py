"""Seeded simulators whose truth is known.

Each writes a cell's log rates as a sum of terms and lets `sclin.datasets.counts` draw from them.
All functions return an :class:`anndata.AnnData` (species: one per species) with the truth in
``uns["sclin"]["truth"]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclin.datasets import counts
from sclin.errors import InputError


def _type_tree(rng, names: list[str]) -> tuple[list[np.ndarray], str, pd.DataFrame]:
    """Join types at random, pair by pair.

    Returns for each edge which types lie below it, Newick text and path lengths; edges are one.
    """
    nodes = [(np.array([name == own for name in names]), own) for own in names]
    edges = []
    while len(nodes) > 1:
        left, right = (nodes.pop(int(rng.integers(len(nodes)))) for _ in range(2))
        edges += [left[0], right[0]]
        nodes.append((left[0] | right[0], f"({left[1]},{right[1]})"))
    distance = sum((below[:, None] != below for below in edges), np.zeros((len(names),) * 2))
    return edges, nodes[0][1] + ";", pd.DataFrame(distance, index=names, columns=names)


def atlas(
    *, n_cells: int = 2000, n_genes: int = 2000, n_types: int = 8, n_donors: int = 4,
    n_rare: int = 1, effect: float = 1.0, ambient: float = 0.05, library: float = 4000.0,
    seed: int = 0,
) -> ad.AnnData:  # fmt: skip
    """Simulate cell types that sit on a tree, in donors and two batches.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_donors
        Sizes.
    n_rare
        The last ``n_rare`` types hold 2 % of the cells each.
    effect
        Sd of the natural-log fold changes of 8 % of the genes per tree edge.
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
        ``tree_distance`` (types, types), ``log_profiles`` (types, genes).

    Raises
    ------
    InputError
        If a size is not a positive whole number or ``ambient`` is outside [0, 1).

    Examples
    --------
    >>> adata = atlas(n_cells=100, n_genes=50, n_types=3)
    >>> adata.shape, adata.obs["cell_type"].nunique()
    ((100, 50), 3)
    """
    counts.check(n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_donors=n_donors)
    if not 0 <= ambient < 1:
        raise InputError(f"ambient is {ambient}: give a share of at least 0 and below 1.")
    rng = np.random.default_rng(seed)
    names, genes = counts.named("type", n_types), counts.genes(n_genes)
    edges, newick, distance = _type_tree(rng, names)
    profiles = np.repeat(counts.baseline(rng, n_genes), n_types, axis=0)
    for below in edges:
        profiles[below] += counts.sparse_effects(rng, 1, n_genes, share=0.08, scale=effect)
    n_rare = min(n_rare, n_types - 1)
    share = np.full(n_types, (1 - n_rare * 0.02) / (n_types - n_rare))
    share[n_types - n_rare :] = 0.02
    kind = rng.permutation(np.arange(n_types).repeat(counts.split(n_cells, share)))
    donor, donors = counts.donors(rng, n_cells, n_donors)
    batches = np.eye(2)[donor % 2]
    terms = [
        (np.eye(n_types)[kind], profiles),
        (np.eye(n_donors)[donor], rng.normal(0, 0.15, (n_donors, n_genes))),
        (batches, rng.normal(0, 0.2, (2, n_genes))),
    ]
    depth = counts.library(rng, n_cells, library)
    X = counts.draw(depth * (1 - ambient), rng, *terms)
    soup = np.log(np.vstack([X[donor % 2 == b].sum(0).A1 for b in (0, 1)]) + 1e-9)
    X = X + counts.draw(depth * ambient, rng, (batches, soup), dispersion=0.0)
    obs = {"cell_type": counts.pick(names, kind), **donors}
    table = pd.DataFrame(profiles, index=names, columns=genes)
    truth = {"newick": newick, "tree_distance": distance, "log_profiles": table}
    return counts.pack(X, obs, genes, "sim_atlas", seed, truth)


def infection(
    *, n_cells: int = 2000, n_genes: int = 2000, n_types: int = 4, n_donors: int = 4,
    leak: bool = False, seed: int = 0,
) -> ad.AnnData:  # fmt: skip
    """Simulate mock, bystander and infected cells of several types and donors.

    Each exposed cell has a graded response in (0, 1) along a shared and a type-specific set of
    host genes; bystanders respond weakly.
    Infected cells lose up to 60 % of their host molecules, so library size alone tells them apart
    to some degree.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_donors
        Sizes; ``n_genes`` counts host genes.
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
    counts.check(n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_donors=n_donors)
    rng = np.random.default_rng(seed)
    types, genes = counts.named("type", n_types), counts.genes(n_genes)
    kind = rng.permutation(np.arange(n_cells) % n_types)
    donor, donors = counts.donors(rng, n_cells, n_donors)
    state = rng.choice(3, size=n_cells, p=[0.4, 0.3, 0.3])
    graded = np.round(np.array([0.0, 0.35, 1.0])[state] * rng.beta(3, 2, n_cells), 2)
    base = np.repeat(counts.baseline(rng, n_genes), n_types, axis=0)
    base += counts.sparse_effects(rng, n_types, n_genes, share=0.15, scale=1.0)
    shared = np.abs(counts.sparse_effects(rng, 1, n_genes, share=0.04, scale=0.8))
    fold = shared + counts.sparse_effects(rng, n_types, n_genes, share=0.04, scale=0.8)
    of_type = np.eye(n_types)[kind]
    terms = [
        (of_type, base),
        (of_type * graded[:, None], fold),
        (np.eye(n_donors)[donor], rng.normal(0, 0.25, (n_donors, n_genes))),
    ]
    depth = counts.library(rng, n_cells, 4000.0)
    lost = np.where(state == 2, 0.6 * graded, 0.0)
    X = counts.draw(depth * (1 - lost), rng, *terms)
    truth = {"response": graded, "log_fold": pd.DataFrame(fold, index=types, columns=genes)}
    if leak:
        viral = np.select([state == 2, state == 1], [lost, 0.002], 0.0001)
        found = counts.draw(depth * viral, rng, (np.zeros((n_cells, 1)), np.zeros((1, 10))))
        X, genes = sp.hstack([X, found], format="csr"), genes + counts.genes(10, "VIRUS")
    condition = counts.pick(["mock", "bystander", "infected"], state)
    obs = {"cell_type": counts.pick(types, kind), **donors, "condition": condition}
    host = np.arange(len(genes)) < n_genes
    return counts.pack(X, obs, genes, "sim_infection", seed, truth, host=host)


def _network(rng, n_tfs: int, n_genes: int, n_targets: int) -> np.ndarray:
    """Draw the weights (factors, genes) of a bipartite network; factors are the first genes."""
    weights = np.zeros((n_tfs, n_genes))
    for row in weights:
        chosen = rng.choice(np.arange(n_tfs, n_genes), n_targets, replace=False)
        sign = rng.choice([1, -1], n_targets, p=[0.75, 0.25])
        row[chosen] = sign * rng.uniform(0.5, 1.5, n_targets)
    return weights


def regulation(
    *, n_cells: int = 2000, n_genes: int = 1500, n_tfs: int = 12, n_targets: int = 30,
    n_donors: int = 4, library: float = 3000.0, seed: int = 0,
) -> ad.AnnData:  # fmt: skip
    """Simulate a transcription factor network under a cell-cycle confounder.

    A factor is active in a share of the cells; its own gene and its targets follow.
    The last quarter of the factors are switched by the cell cycle of 30 % of the cells, which also
    moves 10 % of the genes directly: these associate with cycle factors without being targets.
    Depth varies widely and differs by donor.

    Parameters
    ----------
    n_cells, n_genes, n_tfs, n_targets, n_donors
        Sizes; ``n_targets`` per factor.
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
    counts.check(n_cells=n_cells, n_genes=n_genes, n_donors=n_donors)
    counts.check(n_tfs=n_tfs, n_targets=n_targets)
    if n_genes < n_tfs + n_targets:
        raise InputError(f"{n_genes} genes cannot hold {n_tfs} factors and {n_targets} targets.")
    rng = np.random.default_rng(seed)
    names = counts.genes(n_genes)
    weights = _network(rng, n_tfs, n_genes, n_targets)
    donor, donors = counts.donors(rng, n_cells, n_donors)
    cycle = (rng.random(n_cells) < 0.3).astype(float)
    n_cycle = max(1, n_tfs // 4)
    on = rng.random((n_cells, n_tfs)) < rng.uniform(0.1, 0.5, n_tfs)
    on[:, -n_cycle:] = rng.random((n_cells, n_cycle)) < 0.05 + 0.6 * cycle[:, None]
    activity = on * rng.choice([0.6, 0.8, 1.0], (n_cells, n_tfs))
    moved = np.zeros((1, n_genes))
    moved[0, rng.choice(np.arange(n_tfs, n_genes), n_genes // 10, replace=False)] = 1.0
    base = counts.baseline(rng, n_genes, 1.6)
    base[0, :n_tfs] = base.mean() + rng.uniform(-2.0, 0.5, n_tfs)
    terms = [
        (np.ones((n_cells, 1)), base),
        (np.eye(n_donors)[donor], rng.normal(0, 0.2, (n_donors, n_genes))),
        (activity, np.eye(n_tfs, n_genes) * 2.5 + 1.2 * weights),
        (cycle[:, None], moved),
    ]
    depth = counts.library(rng, n_cells, library, 0.6) * rng.uniform(0.6, 1.4, n_donors)[donor]
    X = counts.draw(depth, rng, *terms)
    condition = counts.pick(["resting", "cycling"], cycle.astype(int))
    obs = {"cell_type": "cell", **donors, "condition": condition}
    tf, target = np.nonzero(weights)
    weight = weights[tf, target]
    edges = pd.DataFrame({"tf": counts.pick(names, tf), "target": counts.pick(names, target)})
    edges = edges.assign(sign=np.sign(weight).astype(int), weight=weight)
    truth = {
        "edges": edges, "activity": pd.DataFrame(activity, columns=names[:n_tfs]),
        "cycle_genes": counts.pick(names, moved[0] > 0),
        "cycle_tfs": counts.pick(names[:n_tfs], np.arange(-n_cycle, 0)),
    }  # fmt: skip
    return counts.pack(X, obs, names, "sim_regulation", seed, truth, tf=np.arange(n_genes) < n_tfs)


_SPLIT = 0.4  # pseudotime at which the trajectory parts


def trajectory(
    *, n_cells: int = 1500, n_genes: int = 1500, n_times: int = 5, n_donors: int = 4, seed: int = 0
) -> ad.AnnData:
    """Simulate a differentiation that splits in two, sampled at real times from several donors.

    Cells of one time point are spread along the path (asynchrony); every donor is sampled at every
    time, so time is not confounded with donor or batch.

    Parameters
    ----------
    n_cells, n_genes, n_times, n_donors
        Sizes.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: time (days: 0, 2, 4, ...), pseudotime (truth, 0 to 1), branch (trunk, A, B),
        cell_type, donor, batch; truth: ``root`` (row of the earliest cell).

    Raises
    ------
    InputError
        If a size is not a positive whole number or fewer than two times are asked for.

    Examples
    --------
    >>> sorted(trajectory(n_cells=60, n_genes=50, n_times=3).obs["time"].unique().tolist())
    [0.0, 2.0, 4.0]
    """
    counts.check(n_cells=n_cells, n_genes=n_genes, n_times=n_times, n_donors=n_donors)
    if n_times < 2:
        raise InputError(f"n_times is {n_times}: give two times or more.")
    rng = np.random.default_rng(seed)
    donor, donors = counts.donors(rng, n_cells, n_donors)
    step = np.empty(n_cells, dtype=int)  # times are spread evenly within every donor
    for code in range(n_donors):
        rows = np.flatnonzero(donor == code)
        step[rows] = rng.permutation(np.arange(len(rows)) % n_times)
    s = np.clip(0.03 + 0.94 * step / (n_times - 1) + rng.normal(0, 0.08, n_cells), 0, 1)
    side = rng.integers(2, size=n_cells)
    # Piecewise linear programs: knots on the trunk, then one set of knots per branch.
    trunk = _ramps(s, np.linspace(0, _SPLIT, 3))
    late = _ramps(s, np.linspace(_SPLIT, 1, 5))
    moving = np.hstack([trunk, late, late * (side == 0)[:, None], late * (side == 1)[:, None]])
    moves = counts.sparse_effects(rng, moving.shape[1], n_genes, share=0.06, scale=1.0)
    base = counts.baseline(rng, n_genes)
    shift = rng.normal(0, 0.15, (2, n_genes))[np.arange(n_donors) % 2]
    terms = [
        (np.ones((n_cells, 1)), base),
        (moving, moves),
        (np.eye(n_donors)[donor], shift + rng.normal(0, 0.1, (n_donors, n_genes))),
    ]
    X = counts.draw(counts.library(rng, n_cells, 4000.0), rng, *terms)
    past = s > _SPLIT
    branch = np.where(past, counts.pick(["A", "B"], side), "trunk").astype(object)
    early = np.where(s < _SPLIT / 2, "progenitor", "primed").astype(object)
    kind = np.where(past, "fate " + branch, early)
    obs = {"time": 2.0 * step, "pseudotime": s, "branch": branch, "cell_type": kind, **donors}
    truth = {"root": int(s.argmin())}
    return counts.pack(X, obs, counts.genes(n_genes), "sim_trajectory", seed, truth)


def _ramps(s: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """How far each cell is between each two knots, 0 to 1, shape (cells, knots - 1)."""
    return np.clip((s[:, None] - knots[:-1]) / (knots[1:] - knots[:-1]), 0, 1)


def perturbation(
    *, n_cells_per: int = 60, n_genes: int = 1500, n_perturbations: int = 20,
    states: tuple[str, ...] = ("rest", "8h", "48h"), null_share: float = 0.25, n_donors: int = 4,
    effect: float = 0.8, seed: int = 0,
) -> ad.AnnData:  # fmt: skip
    """Simulate knock-outs that act through one network in several activation states.

    Factors of one pathway share most of their targets, so their knock-outs look alike.
    Pathways differ in activity between the states: many are silent at rest.
    Each guide has an efficacy; a cell escapes with one minus that probability.
    A share of the perturbations has no effect in any state.

    Parameters
    ----------
    n_cells_per
        Cells per perturbation and state; controls get five times as many.
    n_genes, n_perturbations, n_donors
        Sizes; each perturbation has two guides.
    states
        Names of the states; the first is the resting one.
    null_share
        Share of perturbations without effect.
    effect
        Natural-log fold change of a typical target at full pathway activity.
    seed
        Seed of every random step.

    Returns
    -------
    AnnData
        ``obs``: perturbation (``control`` = non-targeting), condition (state), guide, donor,
        batch, edited (truth: the guide cut); truth: ``effects`` {state: (perturbations, genes)
        natural-log fold changes of an edited cell}, ``null``, ``pathway``.

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
    counts.check(n_cells_per=n_cells_per, n_genes=n_genes, n_perturbations=n_perturbations)
    counts.check(n_donors=n_donors)
    if n_genes < 3 * n_perturbations:
        raise InputError(f"{n_genes} genes for {n_perturbations} perturbations: give three each.")
    rng = np.random.default_rng(seed)
    n_states, n = len(states), n_perturbations
    genes = counts.genes(n_genes)
    pathway, null, fold = _knock_outs(rng, n, n_genes, n_states, null_share, effect)
    guide_rate = np.round(rng.beta(6, 2, (n, 2)), 3)
    size = np.r_[5 * n_cells_per, np.full(n, n_cells_per)]
    target = np.tile(np.repeat(np.arange(-1, n), size), n_states)
    state = np.repeat(np.arange(n_states), size.sum())
    n_cells = len(target)
    guide = rng.integers(2, size=n_cells)
    edited = (target >= 0) & (rng.random(n_cells) < guide_rate[target, guide])
    donor, donors = counts.donors(rng, n_cells, n_donors)
    base = counts.baseline(rng, n_genes)
    base[0, :n] = np.maximum(base[0, :n], 1.0)  # knocked-out genes are expressed
    resting = counts.sparse_effects(rng, n_states, n_genes, share=0.2, scale=0.8)
    resting[0] = 0.0
    hit = np.eye(n_states * n)[state * n + target] * edited[:, None]
    terms = [
        (np.eye(n_states)[state], base + resting),
        (hit, fold.reshape(-1, n_genes)),
        (np.eye(n_donors)[donor], rng.normal(0, 0.15, (n_donors, n_genes))),
    ]
    depth = counts.library(rng, n_cells, 4000.0) * np.where(state == 0, 0.6, 1.0)
    X = counts.draw(depth, rng, *terms)
    hits = genes[:n]
    guides = [f"{name}_g{i + 1}" for name in [*hits, "NT"] for i in range(2)]
    named = counts.pick([*hits, "control"], target)  # index -1 is the control
    guide = counts.pick(guides, (target % (n + 1)) * 2 + guide)
    obs = {"perturbation": named, "condition": counts.pick(states, state), "guide": guide}
    obs |= {**donors, "edited": edited}
    effects = (pd.DataFrame(of_state, index=hits, columns=genes) for of_state in fold)
    truth = {"effects": dict(zip(states, effects, strict=True)), "null": counts.pick(hits, null)}
    truth["pathway"] = pd.DataFrame({"pathway": pathway}, index=hits)
    return counts.pack(X, obs, genes, "sim_perturbation", seed, truth)


def _knock_outs(
    rng, n: int, n_genes: int, n_states: int, null_share: float, effect: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pathway of each knock-out, which have no effect, and log fold changes (states, n, genes)."""
    n_pathways = max(1, n // 4)
    pathway = np.arange(n) % n_pathways
    shared = _network(rng, n_pathways, n_genes, max(1, n_genes // 20))
    own = _network(rng, n, n_genes, max(1, n_genes // 60))
    shared[:, :n] = 0.0
    null = np.zeros(n, dtype=bool)
    null[rng.choice(n, round(null_share * n), replace=False)] = True
    activity = rng.uniform(0.3, 1.0, (n_pathways, n_states))
    activity[:, 0] *= rng.random(n_pathways) < 0.4
    strength = np.where(null, 0.0, rng.uniform(0.6, 1.2, n)) * effect
    pulled = [shared[pathway] * a[pathway, None] + 0.5 * own * a.mean() for a in activity.T]
    fold = -strength[:, None] * np.stack(pulled)  # a knock-out removes activity
    fold[:, np.arange(n), np.arange(n)] = np.where(null, 0.0, -2.0)
    return pathway, null, fold


# The testis of eight mammals ----------------------------------------------------------------------
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
    types = np.eye(len(_TESTIS))[kind], profile
    bias = np.eye(2)[donor], rng.normal(0, 0.1, (2, len(ids)))
    depth = counts.library(rng, n_cells, 3000.0 * _DEPTH[name], 0.4)
    X = counts.draw(depth, rng, types, bias)
    donors = {"donor": f"{name}-" + donors["donor"], "species": name}
    obs = {"cell_type": counts.pick(_TESTIS, kind), **donors}
    truth = {"log_profiles": pd.DataFrame(profile[rows], index=kinds, columns=ids)}
    out = counts.pack(X, obs, ids, "sim_species", seed, truth)
    out.obs_names = [f"{name}-{i}" for i in range(n_cells)]
    out.uns["sclin"]["organism"] = name
    return out
