"""A small model of the Geneformer kind that anyone can train in seconds on a CPU.

It reads the most variable genes of a cell in the order of their rank and learns to name the half
that is hidden from the mean of the half that is shown, which is the vector that pooling gives.
It is a teaching model: it has seen only the cells it was given, so it says nothing
about how good large models are. With random weights it is the control for "did training matter?".
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from sklearn.utils.sparsefuncs import mean_variance_axis
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from sclin.errors import InputError, ModelError
from sclin.layers.models.geneformer import Geneformer
from sclin.layers.store import stores_folder
from sclin.layers.tokens import check_values, dataset_id, fingerprints, read_rows, row_sums

__all__ = ["cached", "train"]

_SPECIALS = ("<pad>", "<mask>")
_LEARNING_RATE = 5e-3


def _vocabulary(counts: sp.csr_matrix, genes: pd.Index, n_genes: int) -> tuple[Any, Any]:
    """Take the most variable genes; give token and median dictionaries."""
    total = row_sums(counts)
    scaled = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    scaled.data *= np.repeat(1e4 / np.maximum(total, 1), np.diff(scaled.indptr))
    scaled.eliminate_zeros()
    _, variance = mean_variance_axis(scaled.log1p(), axis=0)
    top = np.sort(np.argsort(-variance, kind="stable")[:n_genes])
    top = top[variance[top] > 0]
    columns = scaled[:, top].tocsc()
    medians = {
        str(genes[gene]): float(np.median(columns.data[a:b]))
        for gene, a, b in zip(top, columns.indptr[:-1], columns.indptr[1:], strict=True)
    }
    tokens = {name: i for i, name in enumerate([*_SPECIALS, *medians])}
    return tokens, medians


def _loss(model: Geneformer, head: nn.Module, ids: torch.Tensor, rng: torch.Generator) -> Any:
    """Cross entropy, in nats a gene, of the hidden half of each cell given the mean of the rest."""
    there, place = ids > 0, torch.arange(ids.shape[1])
    order = torch.rand(ids.shape, generator=rng).masked_fill(~there, 2).argsort(1)
    n_shown = (there.sum(1, keepdim=True) + 1) // 2
    at = order[:, : int(n_shown.max())]
    shown = place[: at.shape[1]] < n_shown
    state = model.norm(model.words(ids.gather(1, at)) + model.positions(at) + model.types.weight)
    for block in model.encoder.blocks:
        state = _through(block, state, shown)
    mean = (state * shown[..., None]).sum(1) / n_shown.clamp(min=1)
    hidden = (place >= n_shown) & there.gather(1, order)
    chance = head(mean).log_softmax(1).gather(1, ids.gather(1, order))
    return -chance[hidden].sum() / hidden.sum().clamp(min=1)


def _through(block: Any, x: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """The same block on a padded batch, in steps that gradients can go back through."""
    q, k, v = block.qkv(x).unflatten(2, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
    # Unmasked attention over pad slots would let the length leak in.
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=shown[:, None, None])
    x = block.norm1(x + block.out(seen.transpose(1, 2).flatten(2)))
    return block.norm2(x + block.down(block.act(block.up(x))))


def train(
    adata: ad.AnnData, *, steps: int = 60, n_genes: int = 300, context: int = 32, depth: int = 4,
    width: int = 32, batch_cells: int = 256, random_weights: bool = False, seed: int = 0,
    layer: str | None = None, folder: str | Path | None = None, progress: bool = True,
) -> Geneformer:  # fmt: skip
    """Train a tiny BERT to name hidden genes.

    Half of the genes of a cell are hidden, and named from the mean of those shown, so that what
    pooling gives is what is trained.
    One cell in ten is held out, to see whether the loss falls on cells that were not trained on.

    Parameters
    ----------
    adata
        Counts or other amounts that are not logs, ``(n_cells, n_genes)``; only their order in a
        cell is used.
    steps
        Batches to train on.
    n_genes
        Vocabulary: the most variable genes.
    context
        Longest sequence, in genes.
    depth, width
        Blocks, and features of a token.
    batch_cells
        Cells a batch.
    random_weights
        Skip the training: the control.
    seed
        Seed of weights, batches and masks.
    layer
        Layer of the AnnData with the counts; ``X`` when ``None``.
    folder
        Save the model here in the Geneformer layout.
    progress
        Show a bar.

    Returns
    -------
    Geneformer
        Named ``tiny`` or ``tiny-random``, with the seed where it is not 0, such as ``tiny-seed3``:
        one training is one draw, and says little alone. Its ``loss_curve`` has columns ``step``,
        ``seconds``, ``training`` and ``held_out``, in nats a hidden gene.

    Raises
    ------
    InputError
        Too few cells or genes, or options that do not fit.
    ModelError
        When the values are logs or negative.
    """
    if adata.n_obs < 20 or adata.n_vars < 20:
        raise InputError(
            f"{adata.n_obs} cells x {adata.n_vars} genes are too few to train on; give 20 of each."
        )
    if min(steps, n_genes, context, depth, batch_cells) < 1 or width % 16:
        raise InputError("Sizes must be at least 1, and width a multiple of 16.")
    check_values(adata, wanted=Geneformer.wanted, layer=layer, model="tiny")
    counts = read_rows(adata, 0, adata.n_obs, layer=layer)
    tokens, medians = _vocabulary(counts, adata.var_names, n_genes)
    sizes = SimpleNamespace(
        vocab_size=len(tokens), hidden_size=width, num_hidden_layers=depth,
        num_attention_heads=width // 16, intermediate_size=4 * width, hidden_act="relu",
        max_position_embeddings=context, pad_token_id=0, type_vocab_size=1, layer_norm_eps=1e-12,
        model_type="bert",
    )  # fmt: skip
    name = "tiny" + "-random" * random_weights + f"-seed{seed}" * bool(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Geneformer(sizes, tokens, medians, name=name)
        head = nn.Linear(width, len(tokens))
        for weights in (w for w in (*model.parameters(), *head.parameters()) if w.ndim > 1):
            nn.init.normal_(weights, std=0.02)
    model.loss_curve = pd.DataFrame(columns=["step", "seconds", "training", "held_out"])
    if not random_weights:
        cells = model.reader(adata, layer=layer, min_matched=0)(0, adata.n_obs)
        share = np.bincount(cells.ids, minlength=len(tokens)) + 0.5
        with torch.no_grad():  # start from the frequencies, so that all steps go beyond them
            head.bias.copy_(torch.from_numpy(np.log(share / share.sum())))
        ids = torch.from_numpy(cells.padded(cells.ids, 0, context))[~cells.empty]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # products are so small that threads would wait, not work
        try:
            model.loss_curve = _fit(model, head, ids, steps, batch_cells, seed, progress)
        finally:
            torch.set_num_threads(threads)
    model.licence, model.checkpoint_sha256 = "your own", _weights_hash(model)
    if folder is not None:
        _save(model, vars(sizes), medians, Path(folder))
    return model.eval()


def _fit(
    model: Geneformer, head: nn.Module, ids: torch.Tensor, steps: int, batch_cells: int, seed: int,
    progress: bool,
) -> pd.DataFrame:  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(ids), generator=rng)
    held_out, trained = ids[order[: len(ids) // 10]], ids[order[len(ids) // 10 :]]
    weights = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=_LEARNING_RATE, weight_decay=0.01)
    warm = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 1 - step / steps)
    )
    every, losses, rows, began = max(steps // 15, 1), [], [], time.perf_counter()
    for step in tqdm(range(1, steps + 1), desc="tiny", unit="batch", disable=not progress):
        batch = trained[torch.randint(len(trained), (batch_cells,), generator=rng)]
        loss = _loss(model, head, batch, rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % every == 0 or step == steps:
            # The same masks each time, so that the curve shows the model and not the masks.
            fixed = torch.Generator().manual_seed(seed + 1)
            with torch.no_grad():
                away = float(_loss(model, head, held_out[:256], fixed))
            rows.append((step, time.perf_counter() - began, float(np.mean(losses)), away))
            losses = []
    return pd.DataFrame(rows, columns=["step", "seconds", "training", "held_out"])


def _weights_hash(model: Geneformer) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _save(model: Geneformer, sizes: Any, medians: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    loss = model.loss_curve.to_dict("list")
    said = {"name": model.name, "sha256": model.checkpoint_sha256, "loss": loss}
    for name, content in {
        "config": sizes,
        "token_dictionary": model.vocabulary,
        "gene_median_dictionary": medians,
        "sclin": said,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def load(folder: str | Path) -> Geneformer:
    """Load a tiny model that `train` saved."""
    path = Path(folder)
    if not (path / "sclin.json").is_file():
        raise ModelError(f"{path} holds no tiny model: train one with layers.tiny.train.")
    said, sizes, tokens, medians = (
        json.loads((path / f"{name}.json").read_text())
        for name in ("sclin", "config", "token_dictionary", "gene_median_dictionary")
    )
    model = Geneformer(SimpleNamespace(**sizes), tokens, medians, name=said["name"])
    model.loss_curve, model.licence = pd.DataFrame(said["loss"]), "your own"
    return model.filled(load_file(path / "model.safetensors"), path, said["sha256"])


def cached(
    adata: ad.AnnData, *, layer: str | None = None, progress: bool = True, **options: Any
) -> Geneformer:
    """Train once for these cells and options; the same call is instant afterwards.

    Parameters
    ----------
    adata, layer, progress, options
        As for `train`. Models lie beside the layer stores.

    Returns
    -------
    Geneformer
        The model.
    """
    said = {"random_weights": False, "seed": 0, **options}
    # This file is part of the key: another way to train is another model.
    recipe = json.dumps({**said, "torch": torch.__version__}, sort_keys=True).encode()
    key = hashlib.sha256(recipe + Path(__file__).read_bytes()).hexdigest()[:12]
    data = dataset_id(adata, fingerprints(adata, layer=layer))
    folder = stores_folder() / "tiny" / f"{data}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "sclin.json").is_file():
            return train(adata, layer=layer, folder=folder, progress=progress, **said)
    return load(folder)
