"""All layers of two blocks of scFoundation's shape (12 in the model), random weights, float32.

Simulated cells with 500 to 3,000 genes seen, evenly spread, so that sizes compare.
The reference procedure takes 8 cells a batch in input order, pads them, and makes tokens through
Python lists; its blocks are PyTorch's own. The plain loop is that of a user of transformers: a
BERT of the same shape on padded batches of 16, every hidden state averaged over the tokens.
The limit does as many operations in large products. The checksum is the mean size of the last
layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

SIZES, QUICK = (2, 4, 8, 16), (1, 2)
WIDTH, HEADS, DEPTH, N_GENES = 768, 12, 2, 19_264


def prepare(folder: Path, n_cells: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.linspace(500, 3000, n_cells).astype(int))
    genes = [np.sort(rng.choice(N_GENES, n, replace=False)) for n in lengths]
    counts = (1 + rng.geometric(0.5, lengths.sum())).astype(np.float32)
    ends = np.append(0, np.cumsum(lengths))
    X = sp.csr_matrix((counts, np.concatenate(genes), ends), shape=(n_cells, N_GENES))
    sp.save_npz(folder / "cells.npz", X)
    return {"n_genes": N_GENES, "seen": X.nnz / n_cells}


def flop(lengths: np.ndarray) -> float:
    """Work on real tokens: 24 n d^2 + 4 n^2 d a block, for n tokens and width d."""
    n = lengths.astype(float)
    return DEPTH * float((24 * n * WIDTH**2 + 4 * n**2 * WIDTH).sum())


def opened(folder: Path):
    import torch
    from harness import THREADS

    from sclin.layers.models.scfoundation import ScFoundation

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = ScFoundation.random(width=WIDTH, depth=DEPTH, heads=HEADS).eval()
    return model, sp.load_npz(folder / "cells.npz")


def reference(model, counts: sp.csr_matrix, layers, device: str):
    """Batches of 8 in input order, dense rows, Python lists, padded; each layer copied out."""
    import torch

    dtype = next(model.parameters()).dtype
    out = []
    with torch.inference_mode():
        for first in range(0, counts.shape[0], 8):
            values, places = [], []
            for row in counts[first : first + 8].toarray():
                total = row.sum()
                full = [*np.log1p(row / total * 1e4).tolist(), 4.0, np.log10(total)]
                places.append([i for i, value in enumerate(full) if value > 0])
                values.append([value for value in full if value > 0])
            longest = max(map(len, values))
            pad = torch.tensor([[i >= len(v) for i in range(longest)] for v in values])
            filled = torch.tensor([v + [103.0] * (longest - len(v)) for v in values])
            ids = torch.tensor([p + [103] * (longest - len(p)) for p in places])
            ids, pad = ids.to(device), pad.to(device)
            x = model.token_emb(filled.to(device, dtype).flatten()).view(*ids.shape, -1)
            x = x + model.pos_emb(ids)
            pooled = [x[:, -1].float().cpu()]
            for layer in layers:
                x = layer(x, src_key_padding_mask=pad)
                pooled.append(x[:, -1].float().cpu())
            out.append(torch.stack(pooled))
    return torch.cat(out, 1)


def torch_layers(model, heads: int):
    """PyTorch's encoder layers with the weights of the model."""
    import torch
    from torch import nn

    parameter = next(model.parameters())
    made = nn.ModuleList()
    for block in model.encoder.blocks:
        layer = nn.TransformerEncoderLayer(model.width, heads, 4 * model.width, batch_first=True)
        layer = layer.to(parameter.device, parameter.dtype).eval()
        with torch.no_grad():
            layer.self_attn.in_proj_weight.copy_(block.qkv.weight)
            layer.self_attn.in_proj_bias.copy_(block.qkv.bias)
            for mine, theirs in (
                (layer.self_attn.out_proj, block.out),
                (layer.linear1, block.up),
                (layer.linear2, block.down),
                (layer.norm1, block.norm1),
                (layer.norm2, block.norm2),
            ):
                mine.weight.copy_(theirs.weight)
                mine.bias.copy_(theirs.bias)
        made.append(layer)
    return made


def size_of(last) -> float:
    return float(abs(last).mean())


def by_sclin(folder: Path):
    from sclin.layers.engine import batches, pool_cells
    from sclin.layers.tokens import GeneMatch

    model, counts = opened(folder)
    match = GeneMatch(np.arange(N_GENES), np.arange(N_GENES), 0)

    def work(counts=counts):
        tokens = model.encode(match.restrict(counts), match, None)
        groups = batches(tokens.lengths, tokens=16384)
        return pool_cells(model, tokens, groups, layers=["0", "1", "2"], poolings=["mean"])

    work(counts[:1])
    return work, lambda pooled: size_of(pooled["mean"][-1])


def by_reference(folder: Path):
    model, counts = opened(folder)
    layers = torch_layers(model, HEADS)
    return lambda: reference(model, counts, layers, "cpu"), lambda _: np.nan


def by_transformers(folder: Path):
    import torch
    from transformers import BertConfig, BertModel

    _, counts = opened(folder)
    config = BertConfig(
        vocab_size=N_GENES, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=4096, pad_token_id=0,
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).eval()
    cells = [torch.from_numpy(row.indices.astype(np.int64)) for row in counts]

    def work():
        made = []
        with torch.inference_mode():
            for start in range(0, len(cells), 16):
                ids = torch.nn.utils.rnn.pad_sequence(cells[start : start + 16], batch_first=True)
                mask = (ids > 0).float()
                states = bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states
                weight = (mask / mask.sum(1, keepdim=True))[..., None]
                made.append([(state * weight).sum(1) for state in states])
        return made

    return work, lambda _: np.nan


def by_product(folder: Path):
    """The limit: as many operations in products of 2,000 tokens with a feed-forward matrix."""
    import torch

    _, counts = opened(folder)
    x, w = torch.randn(2000, WIDTH), torch.randn(4 * WIDTH, WIDTH)
    times = flop(np.diff(counts.indptr) + 2) / (2 * 2000 * 4 * WIDTH**2)

    def work():
        with torch.inference_mode():
            for _ in range(round(times)):
                torch.nn.functional.linear(x, w)

    work()
    return work, lambda _: np.nan


WAYS = {
    "sclin": by_sclin,
    "reference procedure": by_reference,
    "plain transformers loop": by_transformers,
    "matrix products": by_product,
}
UP_TO = {"reference procedure": 4, "plain transformers loop": 8}
