"""Tahoe-x1: gene identity plus binned counts, CLS first, norm first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from sclin.errors import InputError, ModelError
from sclin.layers.encoder import Encoder, Packing, activation
from sclin.layers.models.base import Model, files_in, reading
from sclin.layers.tokens import Cells, GeneMatch

__all__ = ["TahoeX1"]

#: Context of the official prediction script, whatever the size.
_CONTEXT = 2048


def _bin_counts(counts: NDArray[np.float32], n_bins: int, *, right: bool = False) -> NDArray[Any]:
    """Rank bins of one cell's counts.

    Parameters
    ----------
    counts
        Counts of the expressed genes, ``(n,)``.
    n_bins
        Bins, the one of unexpressed genes included; results lie in 1 .. ``n_bins - 1``.
    right
        Whether a count on an edge goes to the bin above.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` float32.

    Examples
    --------
    >>> _bin_counts(np.array([1, 2, 3, 50], dtype=np.float32), 5)
    array([1., 2., 3., 4.], dtype=float32)
    """
    if len(counts) == 0:
        return counts
    numbers = torch.from_numpy(np.ascontiguousarray(counts, dtype=np.float32))
    edges = torch.quantile(numbers, torch.linspace(0, 1, n_bins - 1))
    return (torch.bucketize(numbers, edges, right=right) + 1).numpy().astype(np.float32)


def _seed(cell: str, seed: int) -> int:
    """Seed of one cell: the same for the same name and seed, wherever the cell stands."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{cell}".encode()).digest()[:8], "little")


def _check(config: Mapping[str, Any], max_length: int) -> None:
    """Refuse what cannot be run."""
    flat = {**config, **config.get("expression_encoder", {})}
    for key, wanted in (
        ("norm_scheme", "pre"),
        ("use_glu", False),
        ("cell_emb_style", "cls"),
        ("input_emb_style", "continuous"),
    ):
        if flat.get(key, wanted) != wanted:
            raise ModelError(f"{key}={flat[key]!r} cannot be run; {wanted!r} is needed.")
    if max_length < 3:
        raise InputError(f"max_length={max_length} leaves no room for genes; 3 is the least.")


class TahoeX1(Model):
    """Tahoe-x1 of any size.

    Parameters
    ----------
    config, collator
        Contents of ``model_config.yml`` and ``collator_config.yml``.
    vocabulary
        Index of each Ensembl gene id and special token.
    name
        Name in stores.
    max_length
        Longest sequence, CLS included; longer cells keep a random subset, seeded by cell id.
    official_3b
        Reproduce what the official code does with the 3b model: the first expressed gene keeps
        its raw count and is left out of the bins, as if it were the drug token.
    sample_seed
        Seed of the subsets.
    """

    renames: ClassVar = {
        "transformer_encoder.layers.": "encoder.blocks.",
        "transformer_encoder.norm": "encoder.final_norm",
        "self_attn.Wqkv": "qkv",
        "self_attn.out_proj": "out",
        "up_proj": "up",
        "down_proj": "down",
        "gene_encoder.embedding": "gene_embedding",
        "gene_encoder.enc_norm": "gene_norm",
        "expression_encoder.linear1": "value1",
        "expression_encoder.linear2": "value2",
        "expression_encoder.norm": "value_norm",
    }
    unused = ("flag_encoder.", "expression_decoder.", "mvc_decoder.", "chem_encoder.")

    def __init__(
        self, config: Mapping[str, Any], collator: Mapping[str, Any],
        vocabulary: Mapping[str, int], *, name: str = "tahoe-x1",
        max_length: int = _CONTEXT, official_3b: bool = False, sample_seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        expression = config.get("expression_encoder", {})
        _check(config, max_length)
        self.name, self.vocabulary = name, dict(vocabulary)
        self.width = int(config["d_model"])
        self.padding_value = float(collator.get("pad_value", -2))
        self.padding_id = int(self.vocabulary["<pad>"])
        self.n_bins = int(collator.get("num_bins", 51))
        self.right = bool(collator.get("right_binning", False))
        self.binning = bool(collator.get("do_binning", True))
        self.max_value = float(expression.get("max_value", 512))
        self.max_length, self.official_3b = max_length, official_3b
        self.seed = sample_seed
        self.specials = (1, 0)
        self.poolings = ("CLS", "mean", "max")
        self.licence = "Apache-2.0"
        options = {"max_length": max_length, "official_3b": official_3b}
        self.options = {**options, "sample_seed": sample_seed}
        eps = float(config.get("norm_config", {}).get("eps", 1e-5))
        self.gene_embedding = nn.Embedding(int(config["vocab_size"]), self.width)
        use_norm = config.get("gene_encoder", {}).get("use_norm", True)
        self.gene_norm = nn.LayerNorm(self.width) if use_norm else nn.Identity()
        self.value1 = nn.Linear(1, self.width)
        self.value2 = nn.Linear(self.width, self.width)
        use_norm = expression.get("use_norm", True)
        self.value_norm = nn.LayerNorm(self.width) if use_norm else nn.Identity()
        self.value_act = activation(expression.get("activation", "relu"))
        act = str(config.get("transformer_activation", "relu"))
        hidden = int(config.get("expansion_ratio", 4)) * self.width
        sizes = (self.width, hidden, int(config["n_heads"]))
        self.encoder = Encoder(int(config["n_layers"]), *sizes, norm_first=True, act=act, eps=eps)

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> TahoeX1:
        """Load a folder of the official hub, such as ``70m-model``.

        Parameters
        ----------
        path
            Folder with ``model.safetensors``, ``vocab.json``, ``model_config.yml`` and
            ``collator_config.yml``.
        options
            See the class.

        Raises
        ------
        ModelError
            Missing or damaged files, keys or shapes that do not fit.
        """
        from safetensors.torch import load_file

        folder = Path(path)
        names = ("model_config.yml", "collator_config.yml", "vocab.json", "model.safetensors")
        config, collator, genes, file = files_in(folder, "Tahoe-x1 folder", *names)
        with reading(folder, "Tahoe-x1 folder"):
            said, batches = (yaml.safe_load(each.read_text()) for each in (config, collator))
            model = cls(said, batches, json.loads(genes.read_text()), **options)
            weights = {k.removeprefix("model."): v for k, v in load_file(file).items()}
        return model.filled(weights, file)

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """CLS, then the expressed genes in the order of the columns, counts in rank bins."""
        n = np.diff(rows.indptr).astype(np.int64)
        values = rows.data.astype(np.float32)
        first = int(self.official_3b)
        if self.binning:
            for start, stop in zip(rows.indptr[:-1] + first, rows.indptr[1:], strict=True):
                values[start:stop] = _bin_counts(values[start:stop], self.n_bins, right=self.right)
        room = self.max_length - self.specials[0]
        cut, kept = np.maximum(n - room, 0), np.ones(rows.nnz, bool)
        for i in map(int, np.flatnonzero(cut)):
            rng = np.random.default_rng(_seed(str(obs.index[i]), self.seed))
            begin = rows.indptr[i] + first
            kept[begin : rows.indptr[i + 1]] = False
            kept[begin + rng.choice(n[i] - first, room - first, replace=False)] = True
        start = [(self.vocabulary["<cls>"], self.padding_value)]
        return Cells.around(match.ids[rows.indices[kept]], values[kept], n, n - cut, before=start)

    def embed(self, ids: Tensor, values: Any, packing: Packing) -> Tensor:
        """Gene plus value."""
        number = values.to(self.value1.weight.dtype).clamp(max=self.max_value)[:, None]
        x = self.gene_norm(self.gene_embedding(ids))
        return x + self.value_norm(self.value2(self.value_act(self.value1(number))))

    def official(self, x: Tensor, packing: Packing) -> Tensor:
        """CLS, scaled to length 1."""
        return nn.functional.normalize(self.pool(x, packing, "CLS"), dim=1)
