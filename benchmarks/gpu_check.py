"""What `gpu_check.sh` runs: conformance, speed, a profile and memory of layer extraction on a GPU.

Weights of the large models are random, of the published shapes; cells are real (their lengths
decide the time). Work is counted on real tokens only; a share is that work over the rate that one
large matrix product reaches on the same card in the same precision.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

#: Without a GPU all parts run on a few cells: a rehearsal, whose figures mean nothing.
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pack(folder: Path) -> None:
    """Leave real counts and the vocabulary of scFoundation in the folder."""
    from sclin import datasets

    cells = datasets.load("baron_human")
    seen = np.flatnonzero(cells.X.getnnz(0))
    counts = sp.csr_matrix(cells.X[:, seen])
    np.savez_compressed(
        folder / "cells.npz",
        data=counts.data.astype(np.uint16),
        indices=counts.indices.astype(np.uint16),
        indptr=counts.indptr,
        genes=np.array(cells.var_names[seen], dtype="U"),
    )
    genes = datasets.resource("scfoundation_vocabulary")
    lines = [f"{gene}\t{i}\n" for i, gene in enumerate(genes)]
    (folder / "vocabulary.tsv").write_text("gene_name\tindex\n" + "".join(lines))


def real_cells(folder: Path) -> ad.AnnData:
    """The 2,142 pancreas cells that `pack` left."""
    part = np.load(folder / "cells.npz")
    shape = (len(part["indptr"]) - 1, len(part["genes"]))
    triple = part["data"].astype(np.float32), part["indices"].astype(np.int64), part["indptr"]
    cells = ad.AnnData(sp.csr_matrix(triple, shape=shape))
    cells.obs_names, cells.var_names = cells.obs_names.astype(str), part["genes"]
    return cells if CUDA else cells[:2, ::40].copy()


# ---- models of the published shapes ------------------------------------------------------------


def scfoundation(genes: list[str]):
    from sclin.layers.models.scfoundation import ScFoundation

    vocabulary = {gene: i for i, gene in enumerate(genes)}
    return ScFoundation.random(vocabulary=vocabulary, n_genes=19264)


def tahoe(genes: list[str]):
    from sclin.layers.models.tahoe import TahoeX1

    vocabulary = {name: i for i, name in enumerate(["<pad>", "<cls>", *genes])}
    config = {
        "d_model": 2048,
        "n_layers": 24 if CUDA else 1,
        "n_heads": 16,
        "vocab_size": len(vocabulary),
    }
    return TahoeX1(config, {}, vocabulary, name="tahoe-x1-1.3b").eval()


def bert_config(n_tokens: int):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=n_tokens, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, hidden_act="relu", max_position_embeddings=4096,
        layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip


def geneformer(genes: list[str]):
    from sclin.layers.models.geneformer import Geneformer

    tokens = {name: i for i, name in enumerate(["<pad>", "<mask>", "<cls>", "<eos>", *genes])}
    medians = dict.fromkeys(genes, 1.0)
    config = bert_config(len(tokens))
    return Geneformer(config, tokens, medians, name="geneformer-v2-104m").eval()


def transcriptformer(genes: list[str]):
    from sclin.layers.models.transcriptformer import TranscriptFormer

    special = ["unknown", "[START]", "[END]", "[RD]", "[CELL]", "[PAD]", "[MASK]"]
    sizes = {
        "embed_dim": 2048, "model_dim": 2048, "num_heads": 16, "num_layers": 12, "seq_len": 2047,
        "activation": "gelu", "softcap": 10, "attn_bias": False, "fw_bias": False,
        "log_counts_eps": 1e-6,
    }  # fmt: skip
    vocabulary = {name: i for i, name in enumerate([*special, *genes])}
    config = {"model_config": sizes, "data_config": {"clip_counts": 30}}
    assays = {"unknown": 0, "10x": 1}
    return TranscriptFormer(config, vocabulary, 2560, assays, name="tf-sapiens").eval()


#: Model, cells, and work of a block in FLOP from tokens n and width d.
SHAPES = {
    "scfoundation": (scfoundation, 2142, lambda n, d: 24 * n * d**2 + 4 * n**2 * d),
    "geneformer-v2-104m": (geneformer, 2142, lambda n, d: 24 * n * d**2 + 4 * n**2 * d),
    "tahoe-x1-1.3b": (tahoe, 384, lambda n, d: 24 * n * d**2 + 4 * n**2 * d),
    "tf-sapiens": (transcriptformer, 256, lambda n, d: 12 * n * d**2 + 2 * n**2 * d),
}


@cache
def built(name: str, genes: tuple[str, ...]):
    """A model of the published shape whose vocabulary holds the genes."""
    return SHAPES[name][0](list(genes))


# ---- conformance -------------------------------------------------------------------------------


def conformance(folder: Path) -> pd.DataFrame:
    """Largest error of every layer against the arrays of the official code, by precision."""
    from sclin import layers

    def named(number: int) -> str:
        return "embed" if number == 0 else f"block{number - 1}"

    fixtures = folder / "fixtures"
    cases = [
        (
            lambda: layers.load_model(
                "scfoundation",
                checkpoint=fixtures / "scfoundation/models.ckpt",
                vocabulary=folder / "vocabulary.tsv",
            ),
            "scfoundation/counts.h5ad", "scfoundation/layers_pooled.npz", "S",
            lambda arrays, number: arrays[f"{named(number)}/S"],
        ),
        (
            lambda: layers.load_model("tahoe-x1", fixtures / "tahoe/tinyA-model"),
            "tahoe/tinyA_counts.h5ad", "tahoe/tinyA_layers_pooled.npz", "CLS",
            lambda arrays, number: arrays[f"{named(number)}/CLS"],
        ),
        (
            lambda: layers.load_model(
                "geneformer",
                fixtures / "geneformer/v1_tiny",
                token_dictionary=fixtures / "geneformer/v1_tiny_token_dictionary.json",
                gene_medians=fixtures / "geneformer/v1_tiny_gene_median_dictionary.json",
            ),
            "geneformer/v1_tiny_counts.h5ad", "geneformer/v1_tiny_pooled.npz", "mean",
            lambda arrays, number: arrays[f"layer{number}/cell_mean"],
        ),
        (
            lambda: layers.load_model("transcriptformer", fixtures / "transcriptformer/a"),
            "transcriptformer/a/cells.h5ad", "transcriptformer/a/arrays.npz", "mean",
            lambda arrays, number: arrays["mean"][number],
        ),
    ]  # fmt: skip
    rows = []
    for load, counts, arrays, pooling, truth in cases:
        model, wanted = load(), np.load(fixtures / arrays)
        cells = ad.read_h5ad(fixtures / counts)
        for precision in PRECISIONS:
            for padded in (False, True):
                if not CUDA and precision == "float16":
                    continue
                store = layers.extract(
                    model, cells, tempfile.mkdtemp() + "/store", pooling=pooling, device=DEVICE,
                    precision=precision, padded=padded, progress=False,
                )  # fmt: skip
                worst = 0.0
                for number in range(model.depth + 1):
                    error = np.abs(store.read(number, pooling) - truth(wanted, number))
                    worst = max(worst, float(error.max()))
                rows.append(
                    {"model": model.name, "precision": precision, "padded": padded, "error": worst}
                )
    return pd.DataFrame(rows)


# ---- speed -------------------------------------------------------------------------------------


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


def numbered(model) -> list[str]:
    """The embedding and the output of every block."""
    return [str(number) for number in range(model.depth + 1)]


def clock(call, repeats: int = 1) -> float:
    """Best seconds of a call, after the device is done."""
    best = np.inf
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def matrix_rate(dtype: torch.dtype, n: int = 8192 if CUDA else 512) -> float:
    """FLOP/s of one product of two square matrices."""
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    torch.matmul(a, b)
    return 2 * n**3 / clock(lambda: [torch.matmul(a, b) for _ in range(5)], 3) * 5


def speed(folder: Path, rates: dict[str, float]) -> pd.DataFrame:
    """Cells a second of each shape and precision: passes alone, and from counts to the store."""
    from sclin import layers
    from sclin.layers.engine import _copy, batches, pool_cells

    every, rows = real_cells(folder), []
    for name, (_, n_cells, work) in SHAPES.items():
        n_cells = min(n_cells, every.n_obs)
        cells = every[:n_cells].copy()
        model = built(name, tuple(every.var_names))
        read = model.reader(cells, min_matched=0)
        tokenising = time.perf_counter()
        tokens = read(0, n_cells)
        tokenising = time.perf_counter() - tokenising
        for precision, dtype in PRECISIONS.items():
            few = precision == "float32"
            part = tokens.take(np.arange(0, n_cells, 8 if few else 1))
            placed = _copy(model, torch.device(DEVICE), dtype)

            def passes(part=part, placed=placed):
                groups = batches(part.lengths, tokens=32768)
                pool_cells(placed, part, groups, layers=numbered(placed), poolings=["mean"])

            groups = list(batches(part.lengths, tokens=32768))
            pool_cells(placed, part, groups[-1:], layers=numbered(placed), poolings=["mean"])
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
            seconds = clock(passes)
            n = part.lengths.astype(float)
            flop = model.depth * float(work(n, model.width).sum())
            row = {
                "model": name, "precision": precision, "cells": len(n),
                "median_tokens": float(np.median(n)), "tokenising_seconds": round(tokenising, 2),
                "seconds": round(seconds, 3), "cells_per_second": round(len(n) / seconds, 1),
                "tflops": round(flop / seconds / 1e12, 1),
                "share_of_matrix_rate": round(flop / seconds / rates[precision], 3),
                "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if CUDA else 0,
            }  # fmt: skip
            if precision == "bfloat16":
                whole = clock(
                    lambda model=model, cells=cells: layers.extract(
                        model,
                        cells,
                        tempfile.mkdtemp() + "/s",
                        device=DEVICE,
                        pooling="mean",
                        batch_tokens=32768,
                        min_matched=0,
                        progress=False,
                    )
                )
                row["from_counts_to_store_seconds"] = round(whole, 3)
            rows.append(row)
            print(row)
            del placed
            if CUDA:
                torch.cuda.empty_cache()
    return pd.DataFrame(rows)


def peers(folder: Path) -> pd.DataFrame:
    """The reference procedure of scFoundation and a plain transformers loop, on the same cells."""
    from bench_layers import reference, torch_layers
    from transformers import BertModel

    cells = real_cells(folder)
    model = scfoundation(list(cells.var_names)).to(DEVICE, torch.float16)
    n = min(128, cells.n_obs)
    counts = sp.csr_matrix((n, 19264), dtype=np.float32)
    counts = sp.hstack([cells.X[:n], counts[:, cells.n_vars :]], format="csr")
    layers = torch_layers(model, 12)
    reference(model, counts[:8], layers, DEVICE)
    slow = clock(lambda: reference(model, counts, layers, DEVICE))
    rows = [{"peer": "scfoundation, reference procedure, float16", "cells": n, "seconds": slow}]
    own = geneformer(list(cells.var_names))
    tokens = own.reader(cells, min_matched=0)(0, min(256, cells.n_obs))
    config = bert_config(len(own.vocabulary))
    bert = BertModel(config, add_pooling_layer=False)
    bert = bert.to(DEVICE, torch.bfloat16).eval()

    def loop(n: int):
        with torch.inference_mode():
            for start in range(0, n, 16):
                batch = tokens.take(np.arange(start, min(start + 16, n)))
                ids = torch.from_numpy(batch.padded(batch.ids, 0)).to(DEVICE)
                mask = (torch.arange(ids.shape[1]) < torch.tensor(batch.lengths)[:, None]).to(
                    DEVICE
                )
                out = bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states
                weight = mask[..., None] / mask.sum(1)[:, None, None]
                [(state * weight).sum(1).float().cpu() for state in out]

    loop(min(16, len(tokens)))
    slow = clock(lambda: loop(len(tokens)))
    rows.append(
        {"peer": "geneformer, plain transformers, bfloat16", "cells": len(tokens), "seconds": slow}
    )
    table = pd.DataFrame(rows)
    return table.assign(cells_per_second=(table["cells"] / table["seconds"]).round(1))


def profile(folder: Path) -> pd.DataFrame:
    """Largest costs of one pass, on the device and on the host."""
    from sclin.layers.engine import _copy, batches, pool_cells

    every, tables = real_cells(folder), []
    for name in ("scfoundation", "tahoe-x1-1.3b", "tf-sapiens"):
        n_cells = min(256 if name == "scfoundation" else 64, every.n_obs)
        model = built(name, tuple(every.var_names))
        tokens = model.reader(every, min_matched=0)(0, n_cells)
        model = _copy(model, torch.device(DEVICE), torch.bfloat16)
        groups = list(batches(tokens.lengths, tokens=32768))
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]

        def passes(model=model, tokens=tokens, groups=groups):
            pool_cells(model, tokens, groups, layers=numbered(model), poolings=["mean"])

        passes()
        wall = clock(passes)
        with torch.profiler.profile(activities=kinds) as seen:
            passes()
            synchronize()
        events = [e for e in seen.key_averages() if e.self_device_time_total > 0]
        on_device = [e for e in events if DEVICE in str(e.device_type).lower()]
        busy = sum(e.self_device_time_total for e in on_device) / 1e6
        largest = sorted(on_device, key=lambda e: -e.self_device_time_total)[:10]
        for e in largest:
            seconds = e.self_device_time_total / 1e6
            cost = {"calls": e.count, "seconds": round(seconds, 4), "share": seconds / busy}
            tables.append({"model": name, "kernel": e.key[:90], **cost})
        print(f"{name}: wall {wall:.3f} s, device busy {busy:.3f} s ({busy / wall:.0%})")
        host = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)[:8]
        for e in host:
            print(f"  host {e.key[:60]:60s} {e.count:6d} calls {e.self_cpu_time_total / 1e6:.3f} s")
    return pd.DataFrame(tables)


def run(folder: Path) -> None:
    """All parts; one that fails says so and the others go on."""
    out = Path(os.environ["OUT"])
    began = time.perf_counter()
    card = torch.cuda.get_device_name() if CUDA else "no GPU: a rehearsal"
    print(torch.__version__, card, torch.version.cuda)
    rates = {name: matrix_rate(dtype) for name, dtype in PRECISIONS.items()}
    size = 2**31 if CUDA else 2**20
    copied = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    moved = 2 * size / clock(lambda: copied.clone(), 3)
    said = {"device": card, "torch": torch.__version__,
            "copy_tb_per_s": round(moved / 1e12, 2),
            **{f"{k}_tflops": round(v / 1e12, 1) for k, v in rates.items()}}  # fmt: skip
    failed = []
    parts = {
        "conformance": lambda: conformance(folder),
        "speed": lambda: speed(folder, rates),
        "peers": lambda: peers(folder),
        "profile": lambda: profile(folder),
    }
    for name, part in parts.items():
        start = time.perf_counter()
        try:
            table = part()
        except Exception as error:  # the machine is lent for minutes: the rest must run
            failed.append(name)
            import traceback

            traceback.print_exc()
            print(f"{name} FAILED: {error}")
        else:
            table.to_csv(out / f"gpu_{name}.csv", index=False)
            print(f"\n## {name} ({time.perf_counter() - start:.0f} s)")
            with pd.option_context("display.width", 220, "display.max_columns", 30):
                print(table.to_string(index=False))
    said |= {"seconds": round(time.perf_counter() - began), "failed": failed}
    (out / "gpu_machine.json").write_text(json.dumps(said, indent=1))
    print(json.dumps(said))
    sys.exit(bool(failed))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with contextlib.suppress(KeyError):
        {"pack": pack, "run": run}[sys.argv[1]](Path(sys.argv[2]))
