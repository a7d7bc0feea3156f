"""A vector for each text, by the model of a package itself.

The mean of the encoder's last hidden states over a text's tokens and windows, taken from the pass that answers where there is one.
Of a model with two sides, or one that reads several streams, the mean of its input embeddings: what words there are, at no cost.
ONNX models have none.

Shapes: n examples, F features, B features of a batch, L tokens of the longest, W numbers of a vector.
"""

from __future__ import annotations

import math
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
    if not len(examples) or isinstance(predictor.model, OnnxModel) or not has_one_stream(predictor.model, features):
        return predictor.predictions(features, examples=examples), vectors_of(predictor, features, examples)
    task: Any = WithVectors(predictor.task)
    found = _run(predictor, predictor.model, features, task, features_of(features, examples))
    predictions, vectors = taken_out(task.decode(task.merge(found, features), predictor.encoder))
    return predictions, vectors_of(predictor, features, examples) if vectors is None else vectors


def vectors_of(predictor: Predictor, features: Features, examples: Array) -> Array | None:
    """float32[n, W]; None: the model gives none."""
    if isinstance(predictor.model, OnnxModel):
        return None
    chosen = features_of(features, examples)
    if has_one_stream(predictor.model, features):
        found = _hidden(predictor, features, chosen)
    else:
        found = _embedded(predictor.model, features, chosen)
    return _of_examples(found, features, chosen, examples)


class WithVectors:
    """A task whose predictions have the vector of each feature, and behind ``merge`` of each example, beside them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.outputs = {**task.outputs, _VECTOR: Output()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The task's, with what the encoder gave on the way, [B, L, W] to [B, W]."""
        import torch

        from hf_trainpipe.runtime.model.pooling import pooled

        seen: list[Any] = []
        hook = _encoder(model).register_forward_hook(lambda _module, _inputs, given: seen.append(given))
        try:
            found = dict(self._task.predict(model, inputs))
        finally:
            hook.remove()
        mask = inputs["attention_mask"]
        states = _states(seen[-1]) if seen else None
        if isinstance(states, torch.Tensor) and states.ndim == 3 and states.shape[:2] == mask.shape:
            vector = pooled(states.float(), mask, "mean")
        else:  # no transformer's hidden states: none are known
            vector = mask.new_full((len(mask), 1), math.nan, dtype=torch.float32)
        return {**found, _VECTOR: vector}

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """The task's, with the mean vector over the windows of each example."""
        plain = self._task.merge(_without(outputs), features)
        return _beside(plain, _of_examples(outputs[_VECTOR], features, outputs.items, plain.items))

    def decode(self, outputs: Outputs, encoder: Any) -> Outputs:
        """The task's, with the vectors as they are."""
        return _beside(self._task.decode(_without(outputs), encoder), outputs[_VECTOR])


def taken_out(outputs: Outputs) -> tuple[Outputs, Array | None]:
    """What :class:`WithVectors` gave as the task gives it, and the vectors, float32[n, W]; None: the model has none that are known."""
    vectors = outputs.arrays.get(_VECTOR)
    return _without(outputs), None if vectors is None or np.isnan(vectors).any() else vectors


def has_one_stream(model: Any, features: Features) -> bool:
    """Whether a model reads one text of tokens, so that its hidden states are those of the text."""
    return list(features.streams) == ["input"] and not getattr(
        getattr(model, "config", None), "is_encoder_decoder", False
    )


def _states(given: Any) -> Any:
    """The last hidden states in what an encoder gave, where it gave some."""
    return given[0] if isinstance(given, tuple) else getattr(given, "last_hidden_state", None)


def _without(outputs: Outputs) -> Outputs:
    return Outputs(outputs.items, {k: v for k, v in outputs.arrays.items() if k != _VECTOR}, outputs.starts)


def _beside(outputs: Outputs, vectors: Array) -> Outputs:
    return Outputs(outputs.items, {**outputs.arrays, _VECTOR: vectors}, outputs.starts)


def _encoder(model: Any) -> Any:
    from hf_trainpipe.runtime.model.inference import bare

    model = bare(model)
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
    return _run(predictor, _encoder(predictor.model), plain, SentenceEmbeddings(), chosen)["embedding"]


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
