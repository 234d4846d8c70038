"""Geneformer V1 and V2: BERT over genes in the order of their rank in the cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sclin.datasets import readers
from sclin.errors import ModelError
from sclin.layers.encoder import Encoder, Packing
from sclin.layers.models.base import Model, files_in, join_qkv, reading
from sclin.layers.tokens import Cells, GeneMatch, first_of, genes_of

__all__ = ["Geneformer"]

_QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))


def dictionary(folder: Path, given: str | Path | None, pattern: str) -> dict[str, Any]:
    """Read a dictionary of names and numbers, named or sought in the folder of the model."""
    if given is None:
        found = sorted(folder.glob(f"*{pattern}*.json")) or sorted(folder.glob(f"*{pattern}*.pkl"))
        if len(found) != 1:
            raise ModelError(
                f"{folder} holds {len(found)} files *{pattern}*: name the one of this model with "
                "token_dictionary= or gene_medians= (--token-dictionary, --gene-medians)."
            )
        given = found[0]
    return readers.read_dictionary(given)


class Geneformer(Model):
    """Geneformer V1 and V2, and models in its layout.

    Parameters
    ----------
    config
        A transformers ``BertConfig``.
    token_dictionary
        Index of each gene id and special token.
    gene_medians
        Median of each gene's normalised counts over the training cells.
    name
        Name in stores.
    ensembl_mapping
        Aliases of gene ids, upper case, to canonical ids.
    """

    wanted = "amounts"  # ranks inside a cell do not change when the cell is scaled
    renames: ClassVar = {
        "embeddings.word_embeddings": "words",
        "embeddings.position_embeddings": "positions",
        "embeddings.token_type_embeddings": "types",
        "embeddings.LayerNorm": "norm",
        "encoder.layer.": "encoder.blocks.",
        "attention.output.dense": "out",
        "attention.output.LayerNorm": "norm1",
        "intermediate.dense": "up",
        "output.dense": "down",
        "output.LayerNorm": "norm2",
    }
    unused = ("cls.", "pooler.", "embeddings.position_ids")

    def __init__(
        self, config: Any, token_dictionary: Mapping[str, int], gene_medians: Mapping[str, float],
        *, name: str = "geneformer", ensembl_mapping: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.vocabulary, self.rename = name, dict(token_dictionary), ensembl_mapping
        self.median = _medians(self.vocabulary, gene_medians, config.vocab_size)
        self.poolings, self.ends = ("mean", "max"), {}
        if "<cls>" in self.vocabulary and "<eos>" in self.vocabulary:
            self.specials, self.poolings = (1, 1), ("CLS", "mean", "max")
            first, last = self.vocabulary["<cls>"], self.vocabulary["<eos>"]
            self.ends = {"before": [(first, 0)], "after": [(last, 0)]}
        self.width, self.context = config.hidden_size, config.max_position_embeddings
        self.padding_id, self.licence = config.pad_token_id or 0, "Apache-2.0"
        self.options = {"context": self.context}
        self.words = nn.Embedding(config.vocab_size, self.width)
        self.positions = nn.Embedding(self.context, self.width)
        self.types = nn.Embedding(config.type_vocab_size, self.width)
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        sizes = (self.width, config.intermediate_size, config.num_attention_heads)
        block: dict[str, Any] = {"act": config.hidden_act, "eps": config.layer_norm_eps}
        self.encoder = Encoder(
            config.num_hidden_layers, *sizes, norm_first=False, final_norm=False, **block
        )
        # The published embedding is the second to last entry of the hidden states.
        self.final_is = str(max(self.depth - 1, 0))

    @classmethod
    def load(
        cls, path: str | Path, *, token_dictionary: str | Path | None = None,
        gene_medians: str | Path | None = None, ensembl_mapping: str | Path | None = None,
        name: str = "geneformer",
    ) -> Geneformer:  # fmt: skip
        """Load a folder with ``config.json`` and ``model.safetensors``.

        Parameters
        ----------
        path
            Folder of the model.
        token_dictionary, gene_medians, ensembl_mapping
            Files (.json or .pkl); the first two are sought in the folder when ``None``.
        name
            Name in stores.
        """
        from safetensors.torch import load_file
        from transformers import BertConfig

        folder, usual = Path(path), "model.safetensors"
        there = [name for name in (usual, "pytorch_model.bin") if (folder / name).is_file()]
        _, file = files_in(folder, "Geneformer folder", "config.json", *(there or [usual])[:1])
        with reading(file, "Geneformer model"):
            config = BertConfig.from_pretrained(folder)
            pickled = partial(torch.load, map_location="cpu", weights_only=True)
            weights = (load_file if file.name == usual else pickled)(file)
        tokens = dictionary(folder, token_dictionary, "token_dictionary")
        medians = dictionary(folder, gene_medians, "gene_median")
        mapping = dictionary(folder, ensembl_mapping, "") if ensembl_mapping else None
        model = cls(config, tokens, medians, name=name, ensembl_mapping=mapping)
        named = {key.removeprefix("bert."): tensor for key, tensor in weights.items()}
        return model.filled(join_qkv(named, _QKV), file)

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """Order the expressed genes of each cell by count over median, highest first."""
        token = match.ids[rows.indices]
        score = rows.data.astype(np.float64) / self.median[token]
        cell = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        # lexsort is stable: equal scores stay in the order of the columns.
        order = np.lexsort((-score, cell))
        n, kept, shown = first_of(rows.indptr, self.context - sum(self.specials))
        return Cells.around(token[order][shown], None, n, kept, **self.ends)

    def embed(self, ids: Tensor, values: Tensor | None, packing: Packing) -> Tensor:
        """Gene plus rank plus type, normed."""
        x = self.words(ids) + self.positions(packing.places)
        return self.norm(x.add_(self.types.weight[0]))


def _medians(
    vocabulary: Mapping[str, int], medians: Mapping[str, float], n_tokens: int
) -> np.ndarray:
    """Median of each token, 1 for special ones, after checking that the files belong together."""
    highest = max(vocabulary.values())
    if highest >= n_tokens or len(vocabulary) < n_tokens - 64:
        raise ModelError(
            f"The token dictionary has {len(vocabulary):,} entries up to {highest:,}, the model "
            f"{n_tokens:,} tokens: they are of different versions of the model."
        )
    genes = genes_of(vocabulary)
    lost = [gene for gene in genes if not medians.get(gene, 0) > 0]
    if lost:
        raise ModelError(
            f"{len(lost):,} of {len(genes):,} genes of the token dictionary have no median above "
            f"0, such as {', '.join(lost[:3])}: the two dictionaries do not belong together."
        )
    out = np.ones(highest + 1)
    out[list(genes.values())] = [medians[gene] for gene in genes]
    return out
