"""Any Hugging Face encoder, given a function that turns a cell into tokens."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from sclin.disk import sha256_of
from sclin.errors import ModelError
from sclin.layers.encoder import Packing
from sclin.layers.models.base import Model, files_in, reading
from sclin.layers.models.geneformer import dictionary
from sclin.layers.tokens import Cells, GeneMatch

__all__ = ["HuggingFaceEncoder"]

#: ``(vocabulary index of the expressed genes, their counts) -> token ids of the cell``.
Tokenizer = Callable[[np.ndarray, np.ndarray], np.ndarray]


class HuggingFaceEncoder(Model):
    """A transformers encoder that takes ``input_ids`` and ``attention_mask``.

    Its layers are its ``hidden_states``, of one batch of padded cells at a time; where an encoder
    ends with a norm, the last of them is after it.

    Parameters
    ----------
    module
        The transformers model.
    vocabulary
        Token of each gene id, and special tokens as ``<name>``.
    tokenizer
        ``(tokens of the expressed genes, their counts) -> token ids``, special tokens included.
    specials
        Special tokens that the tokenizer puts before and after the genes.
    name
        Name in stores.
    """

    def __init__(
        self, module: Any, *, vocabulary: Mapping[str, int], tokenizer: Tokenizer,
        specials: tuple[int, int] = (0, 0), name: str = "huggingface",
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.vocabulary, self.tokenizer = name, dict(vocabulary), tokenizer
        self.module = getattr(module, "base_model", module)
        self.width = module.config.hidden_size
        self.specials = specials
        self.padding_id = module.config.pad_token_id or 0
        self.poolings = ("CLS", "mean", "max") if specials[0] else ("mean", "max")
        self.final_is = str(self.depth)
        reads = getattr(tokenizer, "__qualname__", type(tokenizer).__name__)
        self.options = {"tokenizer": reads, "specials": list(specials)}

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> HuggingFaceEncoder:
        """Load a folder in the transformers layout (safetensors only); options as of the class.

        The vocabulary may be a file (.json or .pkl), and the tokenizer ``MODULE:FUNCTION``.
        """
        from transformers import AutoModel

        folder = Path(path)
        if isinstance(file := options["vocabulary"], str | Path):
            options["vocabulary"] = dictionary(folder, file, "")
        if isinstance(where := options["tokenizer"], str):
            try:
                options["tokenizer"] = pkgutil.resolve_name(where)
            except (AttributeError, ImportError, ValueError) as error:
                raise ModelError(
                    f"tokenizer={where!r} is no MODULE:FUNCTION that can be imported: {error}."
                ) from error
        (weights,) = files_in(folder, "transformers folder", "model.safetensors")
        with reading(folder, "transformers folder"):
            module = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        model = cls(module, **options)
        model.checkpoint_sha256 = sha256_of(weights)
        return model.eval()

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return int(self.module.config.num_hidden_layers)

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """Call the tokenizer cell by cell."""
        parts = []
        for start, stop in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
            made = self.tokenizer(match.ids[rows.indices[start:stop]], rows.data[start:stop])
            parts.append(np.asarray(made, np.int64))
        lengths = np.array([len(part) for part in parts], np.int64)
        n = np.diff(rows.indptr).astype(np.int64)
        cut = np.maximum(n + sum(self.specials) - lengths, 0)
        return Cells(np.concatenate(parts), lengths, None, n == 0, cut)

    def states(
        self, cells: Cells, *, padded: bool = False, depth: int | None = None
    ) -> Iterator[tuple[str, Tensor, Packing]]:
        """Run a padded batch; each block's output is kept until it is pooled."""
        device = next(self.parameters()).device
        packing = Packing.of(cells.lengths.tolist(), device, padded=True)
        ids = torch.from_numpy(cells.padded(cells.ids, self.padding_id)).to(device)
        there = torch.arange(ids.shape[1]) < torch.from_numpy(cells.lengths)[:, None]
        asked = {"attention_mask": there.long().to(device), "output_hidden_states": True}
        for i, state in enumerate(self.module(input_ids=ids, **asked).hidden_states):
            yield str(i), state.reshape(-1, self.width), packing
