"""What every model offers to the extraction engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sclin import errors
from sclin.disk import sha256_of
from sclin.errors import ModelError
from sclin.layers.encoder import Encoder, Packing, to_device
from sclin.layers.tokens import Cells, GeneMatch, check_values, match_genes, read_rows

#: `sclin.errors.reading` for the files of a model.
reading = partial(
    errors.reading,
    remedy="It is damaged, or does not belong to this model: download it again.",
    error=ModelError,
)


def files_in(folder: Path, what: str, *names: str) -> list[Path]:
    """Paths of the files that a folder must hold to be a model."""
    if lost := [name for name in names if not (folder / name).exists()]:
        raise ModelError(
            f"{folder} is no {what}: it lacks {', '.join(lost)} of {', '.join(names)}."
        )
    return [folder / name for name in names]


def join_qkv(weights: Mapping[str, Tensor], parts: Sequence[str]) -> dict[str, Tensor]:
    """Make one tensor ``qkv`` of query, key and value, whose names hold `parts` in this order."""
    out = dict(weights)
    for key in weights:
        three = [key.replace(parts[0], part) for part in parts]
        if parts[0] in key and all(name in out for name in three):
            out[key.replace(parts[0], "qkv")] = torch.cat([out.pop(name) for name in three])
    return out


class Model(nn.Module):
    """A single-cell foundation model, ready to give every layer.

    Subclasses set the attributes and write `encode` (rows to tokens), `embed` (tokens to
    layer 0) and, where the published pooling differs, `official`.

    Attributes
    ----------
    name
        Name in stores and in ``layer:NAME/i``.
    vocabulary
        Index of each gene id and special token.
    wanted
        Values it reads: ``counts``, ``amounts`` (any that are not logs) or ``log``.
    depth
        Number of blocks, L.
    width
        Features of a token.
    specials
        Special tokens before and after the genes of a cell.
    poolings
        What `pool` can give; the first two are extracted by default.
    final_is
        Layer that the model publishes, when it is one of ``"0"`` .. ``"L"``; else the output
        after the last norm is ``"final"``.
    checkpoint_sha256
        Hash of the weights.
    options
        How tokens are made; part of a store's identity.
    licence
        Licence of the weights.
    rename
        Aliases of gene ids, upper case, or ``None``.
    fits
        Most rows of a batch; lowered where the memory of the device has run out.
    loss_curve
        Training losses of a tiny model, a DataFrame; else ``None``.
    """

    name: str
    vocabulary: dict[str, int]
    encoder: Encoder
    width: int
    poolings: tuple[str, ...]
    options: dict[str, Any]
    wanted = "counts"
    gene_order = "data"
    padding_id = 0
    padding_value = 0.0
    specials = (0, 0)
    final_is: str | None = None
    checkpoint_sha256 = ""
    licence = "see the model's page"
    loss_curve: Any = None
    rename: Mapping[str, str] | None = None
    fits: float = math.inf

    # ---- weights --------------------------------------------------------------------------

    #: Part of a checkpoint's key -> what stands in its place here, applied in this order; and
    #: prefixes of keys that embeddings do not need.
    renames: ClassVar[Mapping[str, str]] = {}
    unused: tuple[str, ...] = ()

    def filled(self, weights: Mapping[str, Tensor], where: Path | str, sha256: str = "") -> Self:
        """Take a checkpoint's tensors, every name and shape checked.

        Parameters
        ----------
        weights
            The checkpoint.
        where
            Its file.
        sha256
            Its hash; that of the file when it is not given.

        Raises
        ------
        ModelError
            Missing, unknown or misshapen keys.
        """
        kept = {}
        for key, tensor in weights.items():
            if not key.startswith(self.unused):
                for theirs, ours in self.renames.items():
                    key = key.replace(theirs, ours)
                kept[key] = tensor
        try:
            self.load_state_dict(kept)
        except RuntimeError as error:
            found = " ".join(line.strip() for line in str(error).splitlines()[1:])
            raise ModelError(
                f"{where} does not hold this model: {found[:400]}\n"
                "Check that the file belongs to this model and size."
            ) from error
        tables = [m.num_embeddings for m in self.modules() if isinstance(m, nn.Embedding)]
        if tables and (last := max(self.vocabulary.values())) >= max(tables):
            raise ModelError(
                f"The vocabulary reaches to {last:,}, the genes of {where} to {max(tables) - 1:,}. "
                "Give the vocabulary that belongs to this model."
            )
        self.checkpoint_sha256 = sha256 or sha256_of(where)
        return self.eval()

    # ---- shape ----------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.encoder.blocks)

    @property
    def layers(self) -> list[str]:
        """``"0"``, ``"1"`` .. ``"L"`` and ``"final"``."""
        return [*map(str, range(self.depth + 1)), "final"]

    @property
    def all_poolings(self) -> tuple[str, ...]:
        """Every pooling that can be asked for."""
        return (*self.poolings, "mean_all", "max_all", "official", "last_column")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}: {self.depth} blocks, width {self.width}, "
            f"{sum(p.numel() for p in self.parameters()):,} parameters, "
            f"{len(self.vocabulary):,} tokens)"
        )

    # ---- cells to tokens ------------------------------------------------------------------

    def reader(
        self, adata: ad.AnnData, *, layer: str | None = None, **matching: Any
    ) -> Callable[[int, int], Cells]:
        """Check the cells against the model and return a function that makes tokens.

        Parameters
        ----------
        adata
            Cells, in memory or backed.
        layer, **matching
            ``layer``, ``genes`` and ``min_matched`` of `sclin.layers.extract`.

        Returns
        -------
        callable
            ``(first cell, end) -> Cells``.
        """
        check_values(adata, wanted=self.wanted, layer=layer, model=self.name)
        matching |= {"order": self.gene_order, "rename": self.rename, "model": self.name}
        match = match_genes(adata, self.vocabulary, **matching)

        def read(start: int, stop: int) -> Cells:
            raw = read_rows(adata, start, stop, layer=layer)
            bad = ~np.isfinite(raw.data) | (raw.data < 0)
            if bad.any():
                row = int(np.searchsorted(raw.indptr, np.flatnonzero(bad)[0], side="right")) - 1
                raise ModelError(
                    f"Cell {adata.obs_names[start + row]} holds negative or non-finite values: "
                    "clean the matrix, or drop the cell."
                )
            return self.encode(match.restrict(raw), match, adata.obs.iloc[start:stop])

        return read

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """Make tokens.

        Parameters
        ----------
        rows
            Expressed genes of the vocabulary, ``(n_cells, n_slots)``.
        match
            Gives the vocabulary index of each slot.
        obs
            Their annotation; the index holds the cell ids.
        """
        raise NotImplementedError

    # ---- tokens to layers -----------------------------------------------------------------

    def embed(self, ids: Tensor, values: Tensor | None, packing: Packing) -> Tensor:
        """Return layer 0, ``(n_rows, width)``; values are there when `encode` gives them."""
        raise NotImplementedError

    def key_bias(self, values: Tensor) -> Tensor | None:
        """What the attention adds to the score of each token as a key, ``(n_rows,)``, if any."""
        return None

    def states(
        self, cells: Cells, *, padded: bool = False, depth: int | None = None
    ) -> Iterator[tuple[str, Tensor, Packing]]:
        """Run the model on a batch and yield every layer.

        Parameters
        ----------
        cells
            The batch.
        padded
            Fill every cell up to the longest with pad tokens, as the reference code does.
        depth
            Stop after this many blocks.

        Yields
        ------
        tuple
            Layer name, ``(n_rows, width)`` tensor valid until the next step, and where the
            cells lie in it.
        """
        device = next(self.parameters()).device
        ids, values = cells.ids, cells.values  # noqa: PD011
        if padded:
            ids = cells.padded(ids, self.padding_id).ravel()
            if values is not None:
                values = cells.padded(values, self.padding_value).ravel()
        numbers = None if values is None else to_device(torch.from_numpy(values), device)
        bias = None if numbers is None else self.key_bias(numbers)
        packing = Packing.of(cells.lengths.tolist(), device, padded=padded, bias=bias)
        x = self.embed(to_device(torch.from_numpy(ids), device), numbers, packing)
        for name, state in zip(
            self.layers, self.encoder.run(x, packing, depth=depth), strict=False
        ):
            yield name, state, packing

    # ---- layers to cells ------------------------------------------------------------------

    def pooled_width(self, pooling: str) -> int:
        """Features of a pooling."""
        return self.width

    def pool(self, x: Tensor, packing: Packing, pooling: str) -> Tensor:
        """Pool a layer to one float32 vector a cell, ``(n_cells, pooled_width)``.

        ``mean`` and ``max`` go over genes only, ``mean_all`` and ``max_all`` over all tokens.
        ``last_column`` reads the last row of each padded cell, which for all but the longest
        cell of a batch is a pad slot.
        """
        stop = packing.starts + packing.tokens
        row = {"CLS": packing.starts, "S": stop - 1, "T": stop - 2, "last_column": packing.ends - 1}
        if pooling in row:
            return x[row[pooling]].float()
        if pooling == "official":
            return self.official(x, packing)
        before, after = self.specials if pooling in ("mean", "max") else (0, 0)
        return _reduce(x, packing, before, after, pooling.removesuffix("_all"))

    def official(self, x: Tensor, packing: Packing) -> Tensor:
        """Pool as the model's own code does."""
        return self.pool(x, packing, self.poolings[0])


def _reduce(x: Tensor, packing: Packing, before: int, after: int, how: str) -> Tensor:
    if x.is_cuda:
        first, last = packing.starts + before, packing.starts + packing.tokens - after
        row = torch.arange(len(x), device=x.device)
        mine = (row >= first[:, None]) & (row < last[:, None])
        if how == "mean":  # a product with ones adds in float32, and is quicker than by segment
            return torch.mm(mine.to(x.dtype), x, out_dtype=torch.float32) / (last - first)[:, None]
        hidden = x.float().masked_fill(~mine.any(0)[:, None], -torch.inf)
        return torch.segment_reduce(hidden, how, lengths=packing.ends - packing.starts, unsafe=True)
    out = torch.full((len(packing.valid), x.shape[1]), float("nan"))
    for i, (cell, valid) in enumerate(zip(x.split(packing.lengths), packing.valid, strict=True)):
        part = cell[before : valid - after].float()
        if len(part):
            out[i] = part.mean(0) if how == "mean" else part.amax(0)
    return out
