"""One adapter a model; `load_model` picks it by name."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sclin.errors import ModelError, unknown

if TYPE_CHECKING:
    from sclin.layers.models.base import Model

__all__ = ["MODELS", "load_model"]

#: Families of models, and what each needs; ``option=`` is ``--option`` on the command line.
MODELS = {
    "scfoundation": "checkpoint= (models.ckpt); vocabulary= (.tsv) where the cache lacks it",
    "tahoe-x1": "path=, a folder with model.safetensors, vocab.json and two .yml files",
    "geneformer": "path=, a folder with config.json and model.safetensors; where it lacks them, "
    "token_dictionary= and gene_medians=",
    "transcriptformer": "path=, the official folder or .tar.gz",
    "huggingface": "path=, a folder of any transformers encoder, vocabulary= and tokenizer=",
    "tiny": "path=, a folder written by layers.tiny.train",
}


def family_of(name: str) -> str:
    """Return the family of a model; an unknown name is an error."""
    family = next((f for f in MODELS if name == f or name.startswith(f + "-")), None)
    if family is None:
        raise unknown("model", name, MODELS, error=ModelError)
    return family


def load_model(name: str, path: str | Path | None = None, **options: Any) -> Model:
    """Load a model from its official files.

    Parameters
    ----------
    name
        A family (``scfoundation``, ``tahoe-x1``, ``geneformer``, ``transcriptformer``,
        ``huggingface``, ``tiny``) or a model of the catalogue, such as ``tahoe-x1-70m``, which is
        fetched from its hub. The licence of the weights is shown before anything is fetched.
    path
        Folder of the model, where it has one.
    options
        What the family takes: ``checkpoint``, ``vocabulary``, ``key``, ``depth_token``,
        ``values`` (scFoundation); ``drug``, ``official_3b``, ``max_length`` (Tahoe-x1);
        ``token_dictionary``, ``gene_medians``, ``ensembl_mapping`` (Geneformer); ``species``,
        ``assay`` (TranscriptFormer); ``tokenizer`` (any encoder). ``random_weights=True`` with
        ``seed`` keeps the architecture and draws new weights; ``shuffled_genes=True`` keeps the
        weights and gives each gene the embedding of another. Both are controls.

    Returns
    -------
    Model
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    ModelError
        Unknown name or option, missing or damaged files, keys that do not fit.
    """
    family = family_of(name)
    controls = [name for name in _CONTROLS if options.pop(name, False)]
    seed = int(options.pop("seed", 0))
    if path is None and "checkpoint" not in options:
        if name in MODELS:
            from sclin.datasets import catalogue

            about = catalogue().models.get(name)
            licence = f" Weights under {about.licence}: {about.page}." if about else ""
            needs = f"{name} needs {MODELS[name]} (option= is --option in the shell)."
            raise ModelError(needs + licence)
        from sclin.layers.models.hub import fetch_model

        path, found = fetch_model(name)
        options = {**found, **options}
    model = _load(family, name, path, options)
    for control in controls:
        _CONTROLS[control](model, seed)
    return model


def _load(family: str, name: str, path: Any, options: dict[str, Any]) -> Model:
    if family == "tiny":
        from sclin.layers import tiny

        return tiny.load(path, **options)
    module = import_module(f"{__name__}.{family.partition('-')[0]}")
    kind = getattr(module, *module.__all__)  # the one name that an adapter hands on
    if family == "scfoundation":
        path = options.pop("checkpoint", None) or path
    signatures = [inspect.signature(function).parameters for function in (kind, kind.load)]
    every = {**signatures[0], **signatures[1]}
    takes = {o: p.default for o, p in every.items() if p.kind is p.KEYWORD_ONLY and o != "name"}
    for option in options.keys() - takes:
        raise unknown(f"option of {family}", option, sorted(takes), error=ModelError)
    needed = [option for option, default in takes.items() if default is inspect.Parameter.empty]
    if not set(needed) <= set(options):
        flags = ", ".join(f"--{option}" for option in needed)
        raise ModelError(f"{family} needs {' and '.join(f'{o}=' for o in needed)} ({flags}).")
    model: Model = kind.load(path, name=name, **options)
    return model


def draw_weights(model: Model, seed: int) -> None:
    """Draw new weights of the same spread for every matrix; norms and biases start afresh."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
    _name_control(model, "random", seed)


def shuffle_genes(model: Model, seed: int) -> None:
    """Give each gene the embedding of another; special tokens keep theirs."""
    import torch

    from sclin.layers.tokens import genes_of

    tables = (module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    table = max(tables, key=lambda each: each.num_embeddings).weight
    genes = list(genes_of(model.vocabulary).values())
    order = torch.randperm(len(genes), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        table[genes] = table[genes][order]
    _name_control(model, "shuffled", seed)


def _name_control(model: Model, control: str, seed: int) -> None:
    name, dash, training = model.name.partition("-seed")
    model.name = f"{name}-{control}{dash}{training}"
    model.checkpoint_sha256 = f"{control}-{seed}-{model.checkpoint_sha256}"


_CONTROLS = {"random_weights": draw_weights, "shuffled_genes": shuffle_genes}
