"""TranscriptFormer: protein embeddings of the genes, their counts as a bias of causal attention."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sclin.disk import sha256_of
from sclin.errors import ModelError
from sclin.layers.encoder import Encoder, Packing
from sclin.layers.models.base import Model, files_in, join_qkv, reading
from sclin.layers.tokens import Cells, GeneMatch, first_of, match_genes, read_rows

__all__ = ["TranscriptFormer"]

_QKV = tuple(f"self_attn.linears.{i}" for i in range(3))


class TranscriptFormer(Model):
    """TranscriptFormer of any size.

    Layer 0 is the input of the encoder, layer i the output of block i; there is no last norm.
    The pooling ``mean`` goes over the start token and the genes; ``official`` is their sum over
    the context length, so its norm grows with the number of genes that a cell expresses.

    Parameters
    ----------
    config
        The entry ``model`` of ``config.json``.
    vocabulary
        Index of each special token and gene id.
    features
        Length of a gene's protein embedding.
    assays
        Index of each assay, where the model has the auxiliary token.
    name
        Name in stores.
    assay
        Column of ``obs`` that holds the assay; the one that the configuration names when ``None``.
        Cells without it, or with an assay that the model does not know, are of assay ``unknown``.
    """

    renames: ClassVar = {
        "gene_embeddings.embedding": "genes",
        "gene_embeddings.mlp.layers": "mlp",
        "transformer_encoder.encoder_layers": "encoder.blocks",
        "self_attn.linears.3": "out",
        "linear1": "up",
        "linear2": "down",
    }
    unused = ("mu.", "gene_id_head.")
    licence = "MIT"

    def __init__(
        self, config: Mapping[str, Any], vocabulary: Mapping[str, int], features: int,
        assays: Mapping[str, int] | None = None, *, name: str = "transcriptformer",
        assay: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes, data = config["model_config"], config["data_config"]
        self.name, self.vocabulary, self.assays = name, dict(vocabulary), assays
        self.width, self.context = int(sizes["embed_dim"]), int(sizes["seq_len"])
        self.clip, self.eps = float(data["clip_counts"]), float(sizes["log_counts_eps"])
        column = data.get("aux_cols") or "assay"
        self.assay = assay or (column if isinstance(column, str) else column[0])
        self.specials, self.poolings = (0 if assays is None else 1, 0), ("mean", "max")
        self.options = {"context": self.context, "clip_counts": self.clip, "assay": self.assay}
        self.genes = nn.Embedding(len(self.vocabulary), features)
        self.mlp = nn.Sequential(
            nn.Linear(features, self.width),
            nn.ReLU(),
            nn.LayerNorm(self.width),
            nn.Identity(),
            nn.Linear(self.width, self.width),
        )
        self.aux = None if assays is None else nn.Embedding(len(assays), self.width)
        self.encoder = Encoder(
            int(sizes["num_layers"]), self.width, int(sizes["model_dim"]), int(sizes["num_heads"]),
            norm_first=True, act=sizes["activation"], eps=1e-5, final_norm=False, normed=True,
            causal=True, softcap=float(sizes.get("softcap") or 0),
            biases=(bool(sizes["attn_bias"]), bool(sizes["fw_bias"])),
        )  # fmt: skip
        self.final_is = str(self.depth)

    @classmethod
    def load(
        cls, path: str | Path, *, species: str | Path | None = None, **options: Any
    ) -> TranscriptFormer:
        """Load the official folder or archive.

        Parameters
        ----------
        path
            Folder with ``config.json``, ``model_weights.pt`` and ``vocabs/``, or a ``.tar.gz``
            that holds it, which is unpacked beside itself.
        species
            A ``*_gene.h5`` of another species, whose protein embeddings take the place of the
            genes of the model: how it reads species that it never saw.
        options
            ``name`` and ``assay``; see the class.

        Raises
        ------
        ModelError
            Missing or damaged files, keys or shapes that do not fit.
        """
        folder = _folder(Path(path))
        with reading(folder, "TranscriptFormer folder"):
            config = json.loads((folder / "config.json").read_text())["model"]
            data, vocabs = config["data_config"], folder / "vocabs"
            names = list(data["special_tokens"])
            n_special = len(names)
            for file in data["esm2_mappings"]:
                names += _names(vocabs / file)
            names = list(dict.fromkeys(names))
            weights = torch.load(folder / "model_weights.pt", map_location="cpu", weights_only=True)
            assays = None
            if config["model_config"].get("use_aux"):
                assays = json.loads((vocabs / "assay_vocab.json").read_text())
                assays = assays.get("assay", assays)
            table = weights["gene_embeddings.embedding.weight"]
        if len(names) != len(table):
            raise ModelError(
                f"{folder} names {len(names):,} tokens in vocabs/, and its weights hold "
                f"{len(table):,}: they do not belong together. Download the folder again."
            )
        digest = sha256_of(folder / "model_weights.pt")
        if species is not None:
            genes, table = _exchanged(Path(species), table, n_special)
            names, digest = [*names[:n_special], *genes], f"{digest}-{sha256_of(species)[:16]}"
        weights = {**weights, "gene_embeddings.embedding.weight": table}
        for key in [key for key in weights if key.startswith("aux_embeddings.")]:
            weights["aux.weight"] = weights.pop(key)
        with reading(folder / "config.json", "TranscriptFormer configuration"):
            index = {name: i for i, name in enumerate(names)}
            model = cls(config, index, table.shape[1], assays, **options)
        return model.filled(join_qkv(weights, _QKV), folder, digest)

    def encode(self, rows: sp.csr_matrix, match: GeneMatch, obs: pd.DataFrame) -> Cells:
        """Assay and start, then the expressed genes in the order of the columns."""
        n, kept, shown = first_of(rows.indptr, self.context - 1)
        counts = np.minimum(rows.data[shown], self.clip)
        before: list[tuple[Any, Any]] = [(self.vocabulary["[START]"], 1)]
        if self.assays is not None:
            unknown = self.assays["unknown"]
            named = obs[self.assay] if self.assay in obs else pd.Series(index=obs.index, dtype=str)
            code = named.astype(str).map(self.assays).fillna(unknown).to_numpy(np.int64)
            # An unknown assay is no key of the attention; a count below 0 says so.
            before.insert(0, (len(self.vocabulary) + code, np.where(code == unknown, -1, 1)))
        return Cells.around(match.ids[rows.indices[shown]], counts, n, kept, before=before)

    def embed(self, ids: Tensor, values: Any, packing: Packing) -> Tensor:
        """Protein embedding through two layers; the assay has a table of its own."""
        n_tokens = len(self.vocabulary)
        x: Tensor = self.mlp(self.genes(ids.clamp(max=n_tokens - 1)))
        if self.aux is not None:
            x[packing.starts] = self.aux(ids[packing.starts] - n_tokens)
        return x

    def key_bias(self, values: Tensor) -> Tensor:
        """Logarithm of the count, which the attention adds to the score of each gene."""
        return torch.where(values < 0, -torch.inf, torch.log1p(values.float() + self.eps))

    def official(self, x: Tensor, packing: Packing) -> Tensor:
        """Sum over start and genes, over the context length rather than over their number."""
        share = (packing.tokens - self.specials[0]) / self.context
        return self.pool(x, packing, "mean") * share[:, None]

    def input_mean(
        self, adata: ad.AnnData, *, layer: str | None = None, genes: str | None = None
    ) -> NDArray[np.float32]:
        """Mean protein embedding of the expressed genes: a control without a network.

        Parameters
        ----------
        adata
            Cells.
        layer, genes
            See `sclin.layers.extract`.

        Returns
        -------
        numpy.ndarray
            ``(n_cells, features)``; NaN for a cell without a gene of the vocabulary.
        """
        match = match_genes(adata, self.vocabulary, genes=genes, model=self.name)
        seen = match.restrict(read_rows(adata, 0, adata.n_obs, layer=layer)) > 0
        n = seen.getnnz(1)[:, None].astype(np.float32)
        total = seen.astype(np.float32) @ self.genes.weight.detach()[match.ids].numpy()
        return np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)


def _folder(path: Path) -> Path:
    """The folder that holds ``config.json``, unpacked where an archive was given."""
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        target = path.parent / path.name.split(".tar")[0].removesuffix(".tgz")
        if not target.is_dir():
            with reading(path, "TranscriptFormer archive"), tarfile.open(path) as archive:
                archive.extractall(target, filter="data")  # nothing lands outside the folder
        path = target
    inside = sorted(file.parent for file in path.glob("*/config.json"))
    folder = path if (path / "config.json").is_file() or not inside else inside[0]
    files_in(folder, "TranscriptFormer folder", "config.json", "model_weights.pt", "vocabs")
    return folder


def _names(file: Path) -> list[str]:
    with h5py.File(file) as h5:
        return [key.decode() for key in h5["keys"][:]]


def _exchanged(file: Path, table: Tensor, n_special: int) -> tuple[Sequence[str], Tensor]:
    """Gene ids of a file and the embedding table with their rows in place of the genes."""
    with reading(file, "file of protein embeddings"), h5py.File(file) as h5:
        genes = _names(file)
        rows = torch.from_numpy(np.stack([h5["arrays"][gene][:] for gene in genes]))
    if rows.shape[1] != table.shape[1]:
        raise ModelError(
            f"{file} holds embeddings of {rows.shape[1]:,} numbers; the model reads "
            f"{table.shape[1]:,}. Use the file of the same protein language model."
        )
    return genes, torch.cat([table[:n_special], rows.to(table.dtype)])
