"""A vector for each text, by the model of a package itself.

The mean of the encoder's last hidden states over a text's tokens and windows, taken from the pass that answers where there is one.
Of a model with two sides, or one that reads several streams, the mean of its input embeddings: what words there are, at no cost.
ONNX models have none.

Shapes: n examples, F features, B features of a batch, L tokens of the longest, W numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.runtime.model.onnx_model import OnnxModel
from hf_trainpipe.runtime.model.outputs import Output, Outputs
from hf_trainpipe.runtime.tokens.features import Features, features_of, tokens_of

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task

Array = NDArray[Any]
_TOKENS = 4096
"""Of a batch, padding included."""
_VECTOR = "watched vector"


def predictions_with_vectors(predictor: Predictor, features: Features, examples: Array) -> tuple[Outputs, Array | None]:
    """What a package predicts of examples, windows merged, and their vectors, float32[n, W]."""
    if not len(examples) or isinstance(predictor.model, OnnxModel) or not _has_one_stream(predictor, features):
        return predictor.predictions(features, examples=examples), vectors_of(predictor, features, examples)
    chosen = features_of(features, examples)
    task: Any = _WithVectors(predictor.task, _encoder(predictor))
    found = _run(predictor, predictor.model, features, task, chosen)
    plain = {name: array for name, array in found.arrays.items() if name != _VECTOR}
    merged = predictor.task.merge(Outputs(found.items, plain, found.starts), features)
    return predictor.task.decode(merged, predictor.encoder), _of_examples(found[_VECTOR], features, chosen, examples)


def vectors_of(predictor: Predictor, features: Features, examples: Array) -> Array | None:
    """float32[n, W]; None: the model gives none."""
    if isinstance(predictor.model, OnnxModel):
        return None
    chosen = features_of(features, examples)
    if _has_one_stream(predictor, features):
        found = _hidden(predictor, features, chosen)
    else:
        found = _embedded(predictor.model, features, chosen)
    return _of_examples(found, features, chosen, examples)


class _WithVectors:
    """A task whose predictions have the vector of each feature beside them."""

    def __init__(self, task: Task, encoder: torch.nn.Module) -> None:
        self._task, self._encoder = task, encoder
        self.outputs = {**task.outputs, _VECTOR: Output()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The task's, with what the encoder gave on the way, [B, L, W] to [B, W]."""
        from hf_trainpipe.runtime.model.pooling import pooled

        seen: list[torch.Tensor] = []
        hook = self._encoder.register_forward_hook(lambda _module, _inputs, given: seen.append(given[0]))
        try:
            found = dict(self._task.predict(model, inputs))
        finally:
            hook.remove()
        return {**found, _VECTOR: pooled(seen[-1].float(), inputs["attention_mask"], "mean")}


def _has_one_stream(predictor: Predictor, features: Features) -> bool:
    return list(features.streams) == ["input"] and not getattr(predictor.model.config, "is_encoder_decoder", False)


def _encoder(predictor: Predictor) -> Any:
    from hf_trainpipe.runtime.model.inference import bare

    model: Any = bare(predictor.model)
    return getattr(model, getattr(model, "base_model_prefix", "") or "", model)


def _run(predictor: Predictor, model: Any, features: Features, task: Any, chosen: Array) -> Outputs:
    from hf_trainpipe.runtime.model.inference import run
    from hf_trainpipe.runtime.model.precision import products

    with products(predictor.precision, predictor.device):
        return run(model, features, task=task, chosen=chosen, max_tokens=_TOKENS, device=predictor.device)


def _hidden(predictor: Predictor, features: Features, chosen: Array) -> Array:
    """float32[F, W] by a pass of the encoder alone."""
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings

    if not len(chosen):
        return np.zeros((0, int(predictor.model.config.hidden_size)), dtype=np.float32)
    stream = features.input
    read = {name: column for name, column in stream.columns.items() if name in ("input_ids", "token_type_ids")}
    plain = Features({"input": replace(stream, columns=read)}, features.example, features.num_examples)
    return _run(predictor, _encoder(predictor), plain, SentenceEmbeddings(), chosen)["embedding"]


def _embedded(model: Any, features: Features, chosen: Array) -> Array:
    """float32[F, W]: the mean of the input embeddings, over all streams."""
    import torch

    weights = model.get_input_embeddings().weight
    ids, owner = tokens_of(features, chosen)
    found = np.zeros((len(chosen), weights.shape[1]), dtype=np.float32)
    with torch.inference_mode():
        rows = torch.nn.functional.embedding(torch.from_numpy(ids).to(weights.device), weights).float().cpu().numpy()
    np.add.at(found, owner, rows)
    means: Array = found / np.maximum(np.bincount(owner, minlength=len(chosen)), 1)[:, None].astype(np.float32)
    return means


def _of_examples(found: Array, features: Features, chosen: Array, examples: Array) -> Array:
    """The means over the features of each example."""
    row = np.searchsorted(examples, np.asarray(features.example)[chosen])
    sums = np.zeros((len(examples), found.shape[1]), dtype=np.float32)
    np.add.at(sums, row, found)
    means: Array = sums / np.maximum(np.bincount(row, minlength=len(examples)), 1)[:, None].astype(np.float32)
    return means
