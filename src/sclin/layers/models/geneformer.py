"""Geneformer V1 and V2: BERT over genes in the order of their rank in the cell.

Weights and configuration are read by transformers (``BertForMaskedLM``); the blocks then run in
the packed encoder of this package.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sclin.errors import ModelError
from sclin.layers.encoder import Encoder, Packing
from sclin.layers.models.base import Model, file_sha256
from sclin.layers.tokens import Cells, GeneMatch, with_specials

__all__ = ["Geneformer", "read_dictionary"]


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, strings and numbers; any other object in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ModelError(
            f"The pickle asks for {module}.{name}; a dictionary of names and numbers needs no "
            "such object, so the file was not read."
        )


def read_dictionary(path: str | Path) -> dict[str, Any]:
    """Read a dictionary from json, or from a pickle without running any code in it.

    Raises
    ------
    ModelError
        When the file is missing, is not a dictionary, or holds other objects.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no dictionary {file}.")
    try:
        if file.suffix == ".json":
            content = json.loads(file.read_text())
        else:
            content = _PlainUnpickler(io.BytesIO(file.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{file} cannot be read as a dictionary: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds a {type(content).__name__}, not a dictionary.")
    return content


def _find(folder: Path, given: str | Path | None, pattern: str, what: str) -> dict[str, Any]:
    if given is not None:
        return read_dictionary(given)
    found = sorted(folder.glob(f"*{pattern}*.json")) or sorted(folder.glob(f"*{pattern}*.pkl"))
    if len(found) != 1:
        raise ModelError(
            f"{folder} holds {len(found)} files *{pattern}*: name the {what} of this model."
        )
    return read_dictionary(found[0])


class Geneformer(Model):
    """Geneformer V1 and V2, and models in its layout.

    Parameters
    ----------
    bert
        A transformers ``BertForMaskedLM``.
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

    def __init__(
        self,
        bert: Any,
        token_dictionary: Mapping[str, int],
        gene_medians: Mapping[str, float],
        *,
        name: str = "geneformer",
        ensembl_mapping: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        config = bert.config
        self.name = name
        self.vocabulary = dict(token_dictionary)
        self._rename = ensembl_mapping
        self.width = config.hidden_size
        if max(self.vocabulary.values()) >= config.vocab_size:
            raise ModelError(
                f"The token dictionary goes up to {max(self.vocabulary.values()):,}, but the model "
                f"has {config.vocab_size:,} tokens: they are of different versions of the model."
            )
        genes = sum(not gene.startswith("<") for gene in self.vocabulary)
        lost = [g for g in self.vocabulary if not g.startswith("<") and g not in gene_medians]
        if lost:
            raise ModelError(
                f"{len(lost):,} of {genes:,} genes of the token dictionary have no median, such as "
                f"{', '.join(lost[:3])}: the two dictionaries do not belong together."
            )
        if len(self.vocabulary) < config.vocab_size - 64:
            raise ModelError(
                f"The token dictionary has {len(self.vocabulary):,} entries, the model "
                f"{config.vocab_size:,} tokens: they are of different versions of the model."
            )
        wrong = [g for g in self.vocabulary if g in gene_medians and not gene_medians[g] > 0]
        if wrong:
            raise ModelError(
                f"{len(wrong):,} gene medians are not above 0, such as that of {wrong[0]}: the "
                "dictionary is damaged."
            )
        self.median = np.ones(max(self.vocabulary.values()) + 1)
        for gene, token in self.vocabulary.items():
            if not gene.startswith("<"):
                self.median[token] = gene_medians[gene]
        self.cls_eos = "<cls>" in self.vocabulary and "<eos>" in self.vocabulary
        self.specials = (1, 1) if self.cls_eos else (0, 0)
        self.poolings = ("CLS", "mean", "max") if self.cls_eos else ("mean", "max")
        self.context = config.max_position_embeddings
        self.padding_id = config.pad_token_id or 0
        self.licence = "Apache-2.0"
        source = bert.bert if hasattr(bert, "bert") else bert
        self.words = source.embeddings.word_embeddings
        self.positions = source.embeddings.position_embeddings
        self.types = source.embeddings.token_type_embeddings
        self.norm = source.embeddings.LayerNorm
        self.encoder = Encoder(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            norm_first=False,
            act=config.hidden_act,
            eps=config.layer_norm_eps,
            final_norm=False,
        )
        for own, block in zip(self.encoder.blocks, source.encoder.layer, strict=True):
            _copy_block(own, block)
        # The published embedding is the second to last entry of the hidden states.
        self.final_is = str(max(self.depth - 1, 0))
        self.options = {"context": self.context}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        token_dictionary: str | Path | None = None,
        gene_medians: str | Path | None = None,
        ensembl_mapping: str | Path | None = None,
        name: str = "geneformer",
    ) -> Geneformer:
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
        from transformers import BertConfig, BertForMaskedLM
        from transformers.utils import logging

        folder = Path(path)
        weights = [
            f for f in (folder / "model.safetensors", folder / "pytorch_model.bin") if f.is_file()
        ]
        if not (folder / "config.json").is_file() or not weights:
            raise ModelError(
                f"{folder} holds no Geneformer model: config.json and model.safetensors are needed."
            )
        try:
            config = BertConfig.from_pretrained(folder)
            logging.disable_progress_bar()
            loaded: Any = BertForMaskedLM.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
            bert, info = loaded
        except Exception as error:
            raise ModelError(
                f"{weights[0]} cannot be read ({type(error).__name__}: {error}): the file is "
                "damaged or does not belong to config.json. Download it again."
            ) from error
        finally:
            logging.enable_progress_bar()
        lost = [k for k in info["missing_keys"] if not k.startswith("cls.")]
        unknown = [k for k in info["unexpected_keys"] if ".pooler." not in k]
        if lost or unknown:
            raise ModelError(
                f"{weights[0]} does not hold this model: {len(lost)} keys are missing "
                f"{sorted(lost)[:3]} and {len(unknown)} are unknown {sorted(unknown)[:3]}."
            )
        model = cls(
            bert,
            _find(folder, token_dictionary, "token_dictionary", "token dictionary"),
            _find(folder, gene_medians, "gene_median", "dictionary of gene medians"),
            name=name,
            ensembl_mapping=None if ensembl_mapping is None else read_dictionary(ensembl_mapping),
        )
        model.checkpoint_sha256 = file_sha256(weights[0])
        return model.eval()

    @property
    def rename(self) -> Mapping[str, str] | None:
        """Aliases of gene ids."""
        return self._rename

    def encode(
        self, rows: sp.csr_matrix, match: GeneMatch, raw: sp.csr_matrix, obs: pd.DataFrame
    ) -> Cells:
        """Order the expressed genes of each cell by count over median, highest first."""
        token = match.ids[rows.indices]
        score = rows.data.astype(np.float64) / self.median[token]
        cell = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        # lexsort is stable: equal scores stay in the order of the columns.
        order = np.lexsort((-score, cell))
        n = np.diff(rows.indptr).astype(np.int64)
        kept = np.minimum(n, self.context - sum(self.specials))
        rank = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], n)
        ids, lengths = token[order][rank < np.repeat(kept, n)], kept
        if self.cls_eos:
            ends = {"before": [(self.vocabulary["<cls>"], 0)]}
            ends["after"] = [(self.vocabulary["<eos>"], 0)]
            ids, lengths, _ = with_specials(ids, kept, None, **ends)
        return Cells(ids, lengths, None, n == 0, n - kept)

    def embed(self, ids: Tensor, values: Tensor | None, packing: Packing) -> Tensor:
        """Gene plus rank plus type, normed."""
        rank = torch.cat([torch.arange(n) for n in packing.lengths]).to(ids.device)
        x = self.words(ids) + self.positions(rank)
        return self.norm(x.add_(self.types.weight[0]))


def _copy_block(own: Any, block: nn.Module) -> None:
    """Copy one BERT layer; query, key and value become one matrix."""
    attention: Any = block.attention  # type: ignore[assignment]
    parts = (attention.self.query, attention.self.key, attention.self.value)
    pairs: list[tuple[Any, Any]] = [
        (own.out, attention.output.dense),
        (own.norm1, attention.output.LayerNorm),
        (own.up, block.intermediate.dense),  # type: ignore[union-attr]
        (own.down, block.output.dense),  # type: ignore[union-attr]
        (own.norm2, block.output.LayerNorm),  # type: ignore[union-attr]
    ]
    with torch.no_grad():
        own.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        own.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        for mine, theirs in pairs:
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
