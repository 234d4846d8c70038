"""Models of the real size, from download to pages: a rehearsal with random weights.

    python benchmarks/real_size.py [--cells 300] [--chapters FOLDER]

Files of the shapes and names of Geneformer V1 10M and Tahoe-x1 70M are made with random weights,
served by a hub on the loopback address, fetched, loaded, and run on real pancreas cells. Tahoe-x1
reads 1,024 tokens of a cell, the context that its 70M model was trained with. With a folder,
chapters 12 to 14 are run there on public data with both models. The time is that of the real
models; the numbers in the layers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import yaml
from anndata import AnnData
from safetensors.torch import save
from transformers import BertConfig, BertForMaskedLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from loopback import serve  # noqa: E402

from sclin import datasets, layers, notebooks  # noqa: E402
from sclin.layers.models.tahoe import TahoeX1  # noqa: E402

NAMES = {"geneformer-v1-10m": {}, "tahoe-x1-70m": {"max_length": 1024}}
CHAPTERS = ("12_layers_trajectory", "13_layers_perturbation", "14_choosing_a_layer")
DICTIONARIES = {
    "token_dictionary_gc30M.pkl": "geneformer_tokens_v1",
    "gene_median_dictionary_gc30M.pkl": "geneformer_medians_v1",
    "ensembl_mapping_dict_gc30M.pkl": "geneformer_mapping_v1",
}


def geneformer_v1() -> dict[str, bytes]:
    """Files of Geneformer V1 10M under their names on the hub."""
    tokens = datasets.resource("geneformer_tokens_v1")
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=512, hidden_act="relu", max_position_embeddings=2048,
        layer_norm_eps=1e-12, pad_token_id=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        BertForMaskedLM(config).save_pretrained(folder)
        found = {
            f"Geneformer-V1-10M/{name}": (Path(folder) / name).read_bytes()
            for name in ("model.safetensors", "config.json")
        }
    for file, name in DICTIONARIES.items():
        found[f"geneformer/gene_dictionaries_30m/{file}"] = pickle.dumps(datasets.resource(name))
    return found


def tahoe_70m() -> dict[str, bytes]:
    """Files of Tahoe-x1 70M under their names on the hub."""
    ids = datasets.resource("gencode_v44")["ensembl"][:62720]
    vocabulary = {name: i for i, name in enumerate(["<pad>", "<cls>", "<eoc>", *ids])}
    config = {"d_model": 512, "n_layers": 12, "n_heads": 8, "vocab_size": len(vocabulary)}
    weights = {}
    for key, value in TahoeX1(config, {}, vocabulary).state_dict().items():
        for ours, theirs in {
            "encoder.blocks.": "transformer_encoder.layers.",
            "encoder.final_norm": "transformer_encoder.norm",
            ".qkv.": ".self_attn.Wqkv.",
            ".out.": ".self_attn.out_proj.",
            ".up.": ".up_proj.",
            ".down.": ".down_proj.",
            "gene_embedding.": "gene_encoder.embedding.",
            "gene_norm.": "gene_encoder.enc_norm.",
            "value1.": "expression_encoder.linear1.",
            "value2.": "expression_encoder.linear2.",
            "value_norm.": "expression_encoder.norm.",
        }.items():
            key = key.replace(ours, theirs)
        weights[f"model.{key}"] = value.contiguous()
    return {
        "70m-model/model.safetensors": save(weights),
        "70m-model/vocab.json": json.dumps(vocabulary).encode(),
        "70m-model/model_config.yml": yaml.safe_dump(config).encode(),
        "70m-model/collator_config.yml": yaml.safe_dump({"num_bins": 51}).encode(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--chapters", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cells = datasets.load("baron_human")
    cells = cells[:: cells.n_obs // args.cells][: args.cells].copy()
    made = {"ctheodoris/Geneformer": geneformer_v1(), "tahoebio/Tahoe-x1": tahoe_70m()}
    with serve() as site, tempfile.TemporaryDirectory() as scratch:
        there = os.environ.get("SCLIN_DATA", "")
        os.environ |= {"HF_ENDPOINT": site.url, "SCLIN_LAYERS": f"{scratch}/layers"}
        os.environ["SCLIN_DATA"] = f"{scratch}/data{os.pathsep}{there}"
        for repo, files in made.items():
            site.hub(repo, files)
        table = pd.DataFrame([layers_of(name, cells) for name in NAMES])
        (HERE / "results").mkdir(exist_ok=True)
        table.to_csv(HERE / "results" / "real_size.csv", index=False)
        print(table.to_string(index=False))
        for chapter in CHAPTERS if args.chapters else ():
            pages(chapter, args.chapters, args.cells)


def layers_of(name: str, cells: AnnData) -> dict[str, object]:
    """Fetch and load a model, extract all its layers, and say what both took."""
    start = time.perf_counter()
    model = layers.load_model(name, **NAMES[name])
    loaded, busy = time.perf_counter(), time.process_time()
    store = layers.extract(model, cells)
    done = time.perf_counter()
    return {
        "model": name, "parameters": sum(p.numel() for p in model.parameters()),
        "cells": cells.n_obs, "median_tokens": float(store.obs["n_tokens"].median()),
        "fetch_and_load_s": round(loaded - start, 1), "extract_s": round(done - loaded, 1),
        "s_a_cell": round((done - loaded) / cells.n_obs, 3),
        "cpu_s_a_cell": round((time.process_time() - busy) / cells.n_obs, 3),
        "threads": torch.get_num_threads(), "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def pages(chapter: str, folder: Path, n_cells: int) -> None:
    """Run a chapter on public data with the models in place of the small one's controls."""
    models = ["tiny", "tiny-random", "geneformer-v1-10m", "geneformer-v1-10m-random"]
    models += ["tahoe-x1-70m"] * (chapter != "14_choosing_a_layer")
    few = {"n_cells": n_cells} if "n_cells" in notebooks.parameters(chapter) else {}
    done = notebooks.run(
        chapter, values={"models": models, **few}, profile="public", force=True,
        output=folder / f"{chapter}.ipynb", results=folder / "results", roles=True,
    )  # fmt: skip
    print(f"{chapter}: {done.seconds:.0f} s, {len(done.table):,} rows")


if __name__ == "__main__":
    main()
