"""Cut small arrays out of the full fixtures: python tests/conformance/make_data.py FIXTURES.

The weights of the fixtures are random; the arrays come from the official code.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

OUT = Path(__file__).parent / "data"


def scfoundation(folder: Path) -> None:
    """One block and the genes of two cells, in the layout of models.ckpt."""
    content = torch.load(folder / "models.ckpt", weights_only=True)["cell"]
    arrays = np.load(folder / "layers_single.npz")
    cells = ("cell0", "cell1")
    genes = np.unique(np.concatenate([arrays[f"{c}/positions"][:-2] for c in cells]))
    kept = {}
    for key, value in content["state_dict"].items():
        if "token_emb" in key or "transformer_encoder.0." in key or ".encoder.norm" in key:
            kept[key] = value.clone()
    rows = torch.tensor([*genes, 19264, 19265, 19266])
    kept["model.pos_emb.weight"] = content["state_dict"]["model.pos_emb.weight"][rows].clone()
    config = content["config"]
    part = config["model_config"]["mae_autobin"]
    part["encoder"]["depth"] = 1
    config["dataset_config"]["rnaseq"]["seq_len"] = len(genes) + 2
    torch.save({"cell": {"config": config, "state_dict": kept}}, OUT / "scfoundation.ckpt")
    cut = {"genes": genes}
    for cell in cells:
        for name in ("positions", "values", "embed", "block0"):
            cut[f"{cell}/{name}"] = arrays[f"{cell}/{name}"]
    np.savez_compressed(OUT / "scfoundation.npz", **cut)


def tahoe(folder: Path) -> None:
    """The embedding stage and the genes of two cells."""
    weights = load_file(folder / "tinyA-model" / "model.safetensors")
    arrays = np.load(folder / "tinyA_layers_single.npz")
    cells = ("cell0", "cell1")
    genes = np.unique(np.concatenate([arrays[f"{c}/gene_ids"] for c in cells]))
    kept = {k: v for k, v in weights.items() if k.startswith("model.expression_encoder")}
    kept["model.gene_encoder.embedding.weight"] = weights["model.gene_encoder.embedding.weight"][
        torch.from_numpy(genes)
    ].clone()
    for part in ("gene_encoder.enc_norm", "transformer_encoder.norm"):
        for kind in ("weight", "bias"):
            kept[f"model.{part}.{kind}"] = weights[f"model.{part}.{kind}"]
    out = OUT / "tahoe"
    out.mkdir(exist_ok=True)
    vocabulary = json.loads((folder / "tinyA-model" / "vocab.json").read_text())
    name = {index: gene for gene, index in vocabulary.items()}
    tokens = {name[g]: i for i, g in enumerate(genes)}
    tokens["<pad>"] = len(genes)  # only ever masked, so any row will do
    kept_rows = kept["model.gene_encoder.embedding.weight"]
    kept["model.gene_encoder.embedding.weight"] = torch.cat([kept_rows, kept_rows[:1]])
    save_file(kept, out / "model.safetensors")
    (out / "vocab.json").write_text(json.dumps(tokens))
    text = (folder / "tinyA-model" / "model_config.yml").read_text()
    text = text.replace("n_layers: 3", "n_layers: 0").replace(
        "vocab_size: 603", f"vocab_size: {len(tokens)}"
    )
    (out / "model_config.yml").write_text(text)
    (out / "collator_config.yml").write_text(
        (folder / "tinyA-model" / "collator_config.yml").read_text()
    )
    cut = {}
    for cell in cells:
        cut[f"{cell}/genes"] = np.array([name[g] for g in arrays[f"{cell}/gene_ids"]])
        for part in ("values", "raw", "embed"):
            cut[f"{cell}/{part}"] = arrays[f"{cell}/{part}"]
    np.savez_compressed(out / "arrays.npz", **cut)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    scfoundation(Path(sys.argv[1]) / "scfoundation")
    tahoe(Path(sys.argv[1]) / "tahoe")
