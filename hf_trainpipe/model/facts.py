"""Size and architecture of a model, from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_trainpipe.model.lora import adapt, num_trained
from hf_trainpipe.model.names import load_config, text_config

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task


@dataclass(frozen=True)
class ModelFacts:
    """Size and architecture of a model, without loading weights."""

    parameters: int
    encoder_parameters: int
    """Without the embedding tables: the parameters in matrix products."""
    layers: int
    hidden: int
    architecture: str
    model_type: str = ""
    trained: int | None = None
    """Parameters of the adapters and the head; None: the recipe has no adapters."""
    quantised: int = 0
    """Weights of the base that are held in few bits."""


def model_facts(model: Pretrained, task: Task, *, num_labels: int) -> ModelFacts:
    """Count parameters on the meta device: no weights are read and no memory is taken.

    Raises:
        RecipeError: ``model.lora`` names no layer.
    """
    import torch

    config = load_config(model)
    config.num_labels = max(1, num_labels)
    with torch.device("meta"):
        empty = task.model_class().from_config(config, trust_remote_code=model.trust_remote_code)
    total = sum(parameter.numel() for parameter in empty.parameters())
    tables = {id(one.weight): one.weight.numel() for one in empty.modules() if isinstance(one, torch.nn.Embedding)}
    embeddings = sum(tables.values())  # a table that encoder and decoder share counts once
    text = text_config(config)
    quantised = 0 if model.lora is None else adapt(empty, model.lora)
    return ModelFacts(
        parameters=total,
        encoder_parameters=total - embeddings,
        layers=int(getattr(text, "num_hidden_layers", 0) or 0),
        hidden=int(getattr(text, "hidden_size", 0) or 0),
        architecture=type(empty).__name__,
        model_type=getattr(config, "model_type", ""),
        trained=None if model.lora is None else num_trained(empty),
        quantised=quantised,
    )
