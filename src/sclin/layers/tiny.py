"""A small model of the Geneformer kind that anyone can train in about a minute on a CPU.

It reads the most variable genes of a cell in the order of their rank and learns to name hidden
ones, once from their places and once from the mean of the genes shown, which is the vector that
pooling gives. It is a teaching model: it has seen only the cells it was given, so it says nothing
about how good large models are. With random weights it is the control for "did training matter?".
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from filelock import FileLock
from torch.nn import functional
from tqdm import tqdm

from sclin.errors import InputError, ModelError
from sclin.layers.models.geneformer import Geneformer
from sclin.layers.store import stores_folder
from sclin.layers.tokens import check_values, dataset_id, fingerprints, read_rows

__all__ = ["cached", "train"]

_SPECIALS = ("<pad>", "<mask>")
_LEARNING_RATE = 3e-3
#: Many hidden genes and large batches: few cells give weak hints, and less drowns them in noise.
_MASKED = 0.4


def _vocabulary(counts: sp.csr_matrix, genes: pd.Index, n_genes: int) -> tuple[Any, Any]:
    """Take the most variable genes; give token and median dictionaries."""
    counts = counts.copy()
    counts.eliminate_zeros()
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    scaled = counts.astype(np.float64).multiply(1e4 / np.maximum(total, 1)[:, None]).tocsr()
    logged = scaled.log1p()
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    top = np.sort(np.argsort(-variance, kind="stable")[:n_genes])
    top = top[variance[top] > 0]
    columns = scaled[:, top].tocsc()
    medians = {
        str(genes[gene]): float(np.median(columns.data[a:b]))
        for gene, a, b in zip(top, columns.indptr[:-1], columns.indptr[1:], strict=True)
    }
    tokens = {name: i for i, name in enumerate([*_SPECIALS, *medians])}
    return tokens, medians


def _losses(bert: Any, ids: torch.Tensor, rng: torch.Generator) -> tuple[Any, Any]:
    """Cross entropy of hidden genes in nats: from their places, and from the mean of the rest."""
    there = ids > 0
    hidden = (torch.rand(ids.shape, generator=rng) < _MASKED) & there
    hidden[0, 0] = True  # a batch without a hidden gene has no loss
    # Unmasked attention over pad slots would let the length leak in.
    state = bert.bert(
        input_ids=ids.masked_fill(hidden, 1), attention_mask=there.long()
    ).last_hidden_state
    shown = (there & ~hidden)[..., None]
    mean = (state * shown).sum(1) / shown.sum(1).clamp(min=1)
    cell = hidden.nonzero()[:, 0]
    return (
        functional.cross_entropy(bert.cls(state[hidden]), ids[hidden]),
        functional.cross_entropy(bert.cls(mean)[cell], ids[hidden]),
    )


def train(
    adata: ad.AnnData,
    *,
    steps: int = 300,
    n_genes: int = 300,
    context: int = 64,
    depth: int = 4,
    width: int = 32,
    batch_cells: int = 128,
    random_weights: bool = False,
    seed: int = 0,
    layer: str | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Geneformer:
    """Train a tiny BERT to name hidden genes.

    Two genes in five are hidden. Each is named from its place, as BERT does it, and from the mean
    of the genes shown, so that pooled layers are trained, too; the two losses are added.
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
        Named ``tiny`` or ``tiny-random``. Its ``loss_curve`` has columns ``step``, ``seconds``,
        ``training`` and ``held_out``, in nats a hidden gene named from its place.

    Raises
    ------
    InputError
        Too few cells or genes, or options that do not fit.
    ModelError
        When the values are logs or negative.
    """
    if adata.n_obs < 20 or adata.n_vars < 20:
        raise InputError(
            f"{adata.n_obs} cells x {adata.n_vars} genes are too few to train on; 20 of each are "
            "the least."
        )
    if min(steps, n_genes, context, depth, batch_cells) < 1 or width % 16:
        raise InputError("Sizes must be at least 1, and width a multiple of 16.")
    check_values(adata, wanted=Geneformer.wanted, layer=layer, model="tiny")
    counts = read_rows(adata, 0, adata.n_obs, layer=layer)
    tokens, medians = _vocabulary(counts, adata.var_names, n_genes)
    bert = _bert(len(tokens), context=context, depth=depth, width=width, seed=seed)

    def model() -> Geneformer:
        name = "tiny-random" if random_weights else "tiny"
        return Geneformer(bert.config, bert.state_dict(), tokens, medians, name=name)

    curve = pd.DataFrame(columns=["step", "seconds", "training", "held_out"], dtype=float)
    if not random_weights:
        cells = model().reader(adata, layer=layer, min_matched=0)(0, adata.n_obs)
        share = np.bincount(cells.ids, minlength=len(tokens)) + 0.5
        with torch.no_grad():  # start from the frequencies, so that all steps go beyond them
            bert.cls.predictions.bias.copy_(torch.from_numpy(np.log(share / share.sum())))
        ids = torch.from_numpy(cells.padded(cells.ids, 0, context))[~cells.empty]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # products are so small that threads would wait, not work
        try:
            curve = _fit(bert, ids, steps, batch_cells, seed, progress)
        finally:
            torch.set_num_threads(threads)
    out = model()
    out.loss_curve, out.licence = curve, "your own"
    out.checkpoint_sha256 = _weights_hash(bert)
    if folder is not None:
        _save(bert, out, medians, Path(folder))
    return out.eval()


def _bert(n_tokens: int, *, context: int, depth: int, width: int, seed: int) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=n_tokens,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 16,
        intermediate_size=4 * width,
        hidden_act="relu",
        max_position_embeddings=context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config).eval()


def _fit(
    bert: Any, ids: torch.Tensor, steps: int, batch_cells: int, seed: int, progress: bool
) -> pd.DataFrame:
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(ids), generator=rng)
    held_out, trained = ids[order[: len(ids) // 10]], ids[order[len(ids) // 10 :]]
    optimiser = torch.optim.AdamW(bert.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    warm = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 1 - step / steps)
    )
    every, losses, rows, began = max(steps // 30, 1), [], [], time.perf_counter()
    for step in tqdm(range(1, steps + 1), desc="tiny", unit="batch", disable=not progress):
        batch = trained[torch.randint(len(trained), (batch_cells,), generator=rng)]
        place, mean = _losses(bert.train(), batch[:, : int((batch > 0).sum(1).max())], rng)
        optimiser.zero_grad(set_to_none=True)
        (place + mean).backward()
        torch.nn.utils.clip_grad_norm_(bert.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(place.item())
        if step % every == 0 or step == steps:
            # The same masks each time, so that the curve shows the model and not the masks.
            fixed = torch.Generator().manual_seed(seed + 1)
            with torch.no_grad():
                away = float(_losses(bert.eval(), held_out[:256], fixed)[0])
            rows.append((step, time.perf_counter() - began, float(np.mean(losses)), away))
            losses = []
    return pd.DataFrame(rows, columns=["step", "seconds", "training", "held_out"])


def _weights_hash(bert: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(bert.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _save(bert: Any, model: Geneformer, medians: Any, folder: Path) -> None:
    from transformers.utils import logging

    folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    bert.save_pretrained(folder)
    logging.enable_progress_bar()
    (folder / "token_dictionary.json").write_text(json.dumps(model.vocabulary, indent=0))
    (folder / "gene_median_dictionary.json").write_text(json.dumps(medians, indent=0))
    loss = model.loss_curve.to_dict("list")
    said = {"name": model.name, "sha256": model.checkpoint_sha256, "loss": loss}
    (folder / "sclin.json").write_text(json.dumps(said))


def load(folder: str | Path) -> Geneformer:
    """Load a tiny model that `train` saved."""
    path = Path(folder)
    if not (path / "sclin.json").is_file():
        raise ModelError(f"{path} holds no tiny model: train one with layers.tiny.train.")
    said = json.loads((path / "sclin.json").read_text())
    model = Geneformer.load(path, name=said["name"])
    model.loss_curve, model.checkpoint_sha256 = pd.DataFrame(said["loss"]), said["sha256"]
    model.licence = "your own"
    return model


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
