"""scFoundation: gene identity plus a soft-binned value, expressed genes only, norm last.

Weights are under a non-commercial licence: they are read where the user keeps them and never
converted or shipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sclin import datasets
from sclin.errors import InputError, ModelError, unknown
from sclin.layers.encoder import Encoder, Packing
from sclin.layers.models.base import Model, reading
from sclin.layers.tokens import Cells, GeneMatch, row_sums

__all__ = ["ScFoundation"]

_VALUES = ("counts", "log", "log_with_total")


def _vocabulary(path: str | Path | None) -> dict[str, int]:
    """Read the gene table: a header, then one symbol and its index a line."""
    file = Path(path or datasets.fetch("scfoundation_vocabulary")[0])
    with reading(file, "vocabulary, OS_scRNA_gene_index.19264.tsv"):
        table = pd.read_csv(file, sep="\t", keep_default_na=False)
        index = table["index"].astype(int).tolist()
        return dict(zip(table["gene_name"].astype(str), index, strict=True))


def _read(file: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Flat configuration and weights of one set in the checkpoint."""
    only = "checkpoint: it cannot be read as weights only, without other objects"  # could run
    with reading(file, only):
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, dict) or key not in content:
        found = content if isinstance(content, dict) else ()
        raise unknown(f"set of weights in {file}", key, found, error=ModelError)
    said, weights = content[key]["config"], content[key]["state_dict"]
    config = {**said["model_config"][said["model"]], **said["dataset_config"]["rnaseq"]}
    return config, {name.removeprefix("model."): tensor for name, tensor in weights.items()}


class _ValueEmbedding(nn.Module):
    """A number becomes a softmax mixture of bin vectors."""

    def __init__(self, bins: int, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.mlp = nn.Linear(1, bins)
        self.mlp2 = nn.Linear(bins, bins)
        self.emb = nn.Embedding(bins, width)
        self.emb_mask = nn.Embedding(1, width)
        self.emb_pad = nn.Embedding(1, width)

    def weights(self, values: Tensor) -> Tensor:
        """Weight of each bin, ``(n, bins)``."""
        u = nn.functional.leaky_relu(self.mlp(values[:, None]), 0.1)
        return torch.softmax(self.alpha * u + self.mlp2(u), dim=-1)

    def forward(self, values: Tensor, pad: Tensor | None = None) -> Tensor:
        """Embed values, ``(n,) -> (n, width)``; `pad` marks rows that hold no token."""
        out = self.weights(values) @ self.emb.weight
        if pad is not None:
            out[pad] = self.emb_pad.weight[0]
        return out


class ScFoundation(Model):
    """scFoundation's encoder.

    Parameters
    ----------
    config
        Flat configuration of the checkpoint.
    vocabulary
        Index of each gene symbol.
    name
        Name in stores.
    depth_token
        The target depth T: ``t4`` sets it to 4; ``f2`` to log10 of twice the cell's total;
        ``a1`` to log10 of the total plus 1.
    values
        ``counts``; ``log`` (log1p of counts per 10,000, S from the sum of log values, as the
        official option T); ``log_with_total`` (the same with raw totals in `total`, option A).
    total
        Column of ``obs`` with the raw total over the vocabulary, for ``log_with_total``.
    """

    gene_order = "vocabulary"
    renames: ClassVar = {
        "encoder.transformer_encoder.": "encoder.blocks.",
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj": "out",
        "linear1": "up",
        "linear2": "down",
        "encoder.norm.": "encoder.final_norm.",
    }
    unused = ("decoder", "norm.", "to_final.")  # the decoder's parts

    def __init__(
        self, config: Mapping[str, Any], vocabulary: Mapping[str, int], *,
        name: str = "scfoundation", depth_token: str = "t4", values: str = "counts",
        total: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        encoder = config["encoder"]
        if encoder.get("module_type", "transformer") != "transformer":
            raise ModelError(f"Only transformers can be run, not {encoder['module_type']!r}.")
        if values not in _VALUES:
            raise unknown("kind of values", values, _VALUES)
        if not re.fullmatch(r"[tfa]\d+(\.\d+)?", depth_token):
            raise InputError(
                f"depth_token={depth_token!r}: give t4, f2 or a1 (target, factor, addition)."
            )
        if (values == "log_with_total") != (total is not None):
            raise InputError("values='log_with_total' and total= (a column of obs) go together.")
        self.name, self.vocabulary = name, dict(vocabulary)
        self.width = encoder["hidden_dim"]
        self.n_genes = int(config["seq_len"]) - 2
        if max(self.vocabulary.values()) >= self.n_genes:
            raise ModelError(
                f"The vocabulary goes up to index {max(self.vocabulary.values()):,}, but the "
                f"checkpoint has {self.n_genes:,} genes."
            )
        self.specials = (0, 2)
        self.poolings = ("S", "mean", "T", "max")
        self.depth_token, self.values, self.total = depth_token, values, total
        self.wanted = "counts" if values == "counts" else "log"
        self.padding_value = float(config["pad_token_id"])
        # The official cell path gives pads the value as their position, too.
        self.padding_id = min(int(config["pad_token_id"]), self.n_genes + 2)
        self.licence = "The scFoundation License (non-commercial research only)"
        self.options = {"depth_token": depth_token, "values": values, "total": total}
        bins, alpha = int(config["bin_num"]), float(config["bin_alpha"])
        self.token_emb = _ValueEmbedding(bins, self.width, alpha)
        self.pos_emb = nn.Embedding(self.n_genes + 3, self.width)
        sizes = (encoder["depth"], self.width, 4 * self.width, encoder["heads"])
        first = bool(encoder.get("norm_first"))
        self.encoder = Encoder(*sizes, norm_first=first, act="relu", eps=1e-5)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        vocabulary: str | Path | None = None,
        key: str = "cell",
        **options: Any,
    ) -> ScFoundation:
        """Load ``models.ckpt`` as it is published.

        Parameters
        ----------
        path
            The checkpoint.
        vocabulary
            ``OS_scRNA_gene_index.19264.tsv``; that of the catalogue when ``None``.
        key
            Which of the three sets of weights: ``cell``, ``rde`` or ``gene``.
        options
            See the class.

        Raises
        ------
        ModelError
            Missing or damaged file, unknown key, keys or shapes that do not fit.
        """
        file = Path(path)
        if not file.is_file():
            raise ModelError(
                f"There is no checkpoint {file}. scFoundation's models.ckpt is published by its "
                "authors; download it and give its path as checkpoint=."
            )
        config, weights = _read(file, key)
        genes = _vocabulary(vocabulary)
        with reading(file, "configuration of scFoundation"):
            model = cls(config, genes, **options)
        model.options = {**model.options, "key": key}
        return model.filled(weights, file)

    @classmethod
    def random(
        cls, *, width: int = 768, depth: int = 12, heads: int = 12, n_genes: int = 19264,
        vocabulary: Mapping[str, int] | None = None, seed: int = 0,
    ) -> ScFoundation:  # fmt: skip
        """Build the architecture with random weights, the published size by default."""
        encoder = {"hidden_dim": width, "depth": depth, "heads": heads}
        config = {"seq_len": n_genes + 2, "pad_token_id": 103, "bin_num": 100, "bin_alpha": 1.0}
        genes = vocabulary or {f"GENE{i:05d}": i for i in range(n_genes)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls({"encoder": encoder, **config}, genes, name="scfoundation-random")
        model.checkpoint_sha256 = f"random-{seed}-{width}-{depth}"
        return model.eval()

    # ---- cells to tokens ------------------------------------------------------------------

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """Expressed genes in the order of the vocabulary, then T, then S."""
        n = np.diff(rows.indptr).astype(np.int64)
        values, total = rows.data.astype(np.float64), row_sums(rows)
        if self.values == "counts":
            values = np.log1p(values / np.repeat(total, n) * 1e4)
        elif self.values == "log_with_total":
            total = self._totals(obs)
        s, t = self._depth(np.where(n > 0, total, 1.0))
        after = [(self.n_genes, t), (self.n_genes + 1, s)]
        return Cells.around(match.ids[rows.indices], values, n, n, after=after)

    def _depth(self, total: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
        kind, number = self.depth_token[0], float(self.depth_token[1:])
        logged = np.log10(total)
        target = {"t": number, "f": np.log10(total * number) if number else 0, "a": logged + number}
        return logged, target[kind]

    def _totals(self, obs: pd.DataFrame) -> NDArray[np.float64]:
        if self.total not in obs:
            raise unknown("column of obs, for raw totals,", self.total, obs.columns)
        total = obs[self.total].to_numpy(np.float64)
        if not (total > 0).all():
            raise ModelError(f"obs[{self.total!r}] holds totals that are not above 0.")
        return total

    # ---- tokens to layers -----------------------------------------------------------------

    def embed(self, ids: Tensor, values: Any, packing: Packing) -> Tensor:
        """Value plus gene."""
        pad = None
        if packing.lengths != packing.valid:
            pad = packing.places >= packing.tokens[packing.cells]
        number = values.to(self.pos_emb.weight.dtype)
        return self.token_emb(number, pad).add_(self.pos_emb(ids))

    def pooled_width(self, pooling: str) -> int:
        """Features of a pooling: four times the width for ``official``."""
        return 4 * self.width if pooling == "official" else self.width

    def official(self, x: Tensor, packing: Packing) -> Tensor:
        """S, T, max and mean over genes, side by side."""
        return torch.cat([self.pool(x, packing, p) for p in ("S", "T", "max", "mean")], dim=1)
