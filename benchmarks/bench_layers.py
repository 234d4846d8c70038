"""Speed and memory of layer extraction, beside the matrix rate and the reference procedure.

    python benchmarks/bench_layers.py [--device cuda] [--shape scfoundation] [--threads 2]

All of it runs in one process on one machine: the matrix rate, our engine, and the reference
procedure (batches of 8 cells in input order, padded, tokens through Python lists). Weights are
random. Work is counted on real tokens only: 24 n d^2 + 4 n^2 d a block.
"""

from __future__ import annotations

import argparse
import csv
import platform
import resource
import time
from datetime import date
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from sclin.layers.engine import batches, pool_cells
from sclin.layers.models.scfoundation import ScFoundation
from sclin.layers.tokens import Cells

SHAPES = {
    "scfoundation": {"width": 768, "depth": 12, "heads": 12, "cells": 64, "low": 500, "high": 3000},
    "tahoe-1.3b": {"width": 2048, "depth": 24, "heads": 16, "cells": 64, "low": 500, "high": 2047},
    "small": {"width": 256, "depth": 4, "heads": 4, "cells": 16, "low": 200, "high": 800},
}
PRECISION = {"cpu": ("float32", torch.float32), "cuda": ("bfloat16", torch.bfloat16)}
OUT = Path(__file__).parent / "results" / "layers.csv"


def sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def clock(call, device: str, repeats: int) -> float:
    call()
    best = np.inf
    for _ in range(repeats):
        sync(device)
        start = time.perf_counter()
        call()
        sync(device)
        best = min(best, time.perf_counter() - start)
    return best


def matrix_rate(width: int, device: str, dtype: torch.dtype, repeats: int) -> float:
    """FLOP/s of the feed-forward product at 2,000 tokens (16,384 on a GPU)."""
    n = 16384 if device == "cuda" else 2000
    x = torch.randn(n, width, device=device, dtype=dtype)
    w = torch.randn(4 * width, width, device=device, dtype=dtype)
    with torch.inference_mode():
        seconds = clock(lambda: nn.functional.linear(x, w), device, 4 * repeats)
    return 8 * n * width**2 / seconds


def simulated(shape: dict[str, int], n_genes: int, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    rows = []
    for n in rng.integers(shape["low"], shape["high"] + 1, shape["cells"]):
        genes = np.sort(rng.choice(n_genes, n, replace=False))
        rows.append((genes, 1 + rng.geometric(0.5, n)))
    ends = np.cumsum([0, *(len(g) for g, _ in rows)])
    data = np.concatenate([v for _, v in rows]).astype(np.float32)
    return sp.csr_matrix(
        (data, np.concatenate([g for g, _ in rows]), ends), shape=(len(rows), n_genes)
    )


def reference(model: ScFoundation, counts: sp.csr_matrix, layers: nn.ModuleList, device: str):
    """Batches of 8 in input order, dense rows, Python lists, padded; each layer copied out."""
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


def torch_layers(model: ScFoundation, heads: int) -> nn.ModuleList:
    """PyTorch's encoder layers with the weights of the model."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--shape", default="scfoundation", choices=sorted(SHAPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", type=int, help="number of cells, in place of the shape's")
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--skip-reference", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape] | ({"cells": args.cells} if args.cells else {})
    width, depth = shape["width"], shape["depth"]
    precision, dtype = PRECISION[args.device]
    before = matrix_rate(width, args.device, dtype, args.repeats)
    model = ScFoundation.random(width=width, depth=depth, heads=shape["heads"])
    model = model.to(args.device, dtype)
    counts = simulated(shape, 19264)
    from sclin.layers.tokens import GeneMatch

    match = GeneMatch(np.arange(19264), np.arange(19264), 0)

    def ours() -> np.ndarray:
        tokens: Cells = model.encode(match.restrict(counts), match, None)
        groups = batches(tokens.lengths, tokens=args.batch_tokens)
        return pool_cells(model, tokens, groups, layers=model.layers, poolings=["S", "mean"])["S"]

    n = np.diff(counts.indptr) + 2.0
    work = depth * float((24 * n * width**2 + 4 * n**2 * width).sum())
    seconds = clock(ours, args.device, args.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if args.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    after = matrix_rate(width, args.device, dtype, args.repeats)
    rate = (before + after) / 2
    slow = np.nan
    if not args.skip_reference:
        judge = torch_layers(model, shape["heads"])
        slow = clock(lambda: reference(model, counts, judge, args.device), args.device, 1)
    device = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    row = {
        "date": date.today().isoformat(),
        "device": device,
        "threads": args.threads,
        "precision": precision,
        "shape": args.shape,
        "cells": shape["cells"],
        "batch_tokens": args.batch_tokens,
        "tflop": round(work / 1e12, 2),
        "seconds": round(seconds, 2),
        "gflops": round(work / seconds / 1e9, 1),
        "matrix_gflops": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(work / seconds / rate, 3),
        "reference_seconds": round(slow, 2),
        "times_reference": round(slow / seconds, 2),
        "peak_mib": round(peak),
        "torch": torch.__version__,
    }
    OUT.parent.mkdir(exist_ok=True)
    new = not OUT.exists()
    with OUT.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    for key, value in row.items():
        print(f"{key:22s} {value}")


if __name__ == "__main__":
    main()
