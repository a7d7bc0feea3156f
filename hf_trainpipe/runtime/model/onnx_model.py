"""A package's network on ONNX Runtime, and the tokenizer beside it: answers without torch and transformers.

Legend: C outputs, B features of a batch, L the longest of them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingRuntime, SchemaError
from ..tokens.batch import pad_arrays
from ..tokens.features import Features
from .inference import collect
from .outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..tasks.base import Task

BACKENDS = ("torch", "onnx", "onnx-int8")
"""What may run a package's network; the first is in every package."""
FILES = {"onnx": "onnx/model.onnx", "onnx-int8": "onnx/model_int8.onnx"}
TOKENIZER = "onnx/tokenizer.json"
TOKENIZER_FACTS = "onnx/tokenizer_facts.json"
_CALL_TOKENS = 512
"""Tokens of one call a thread. Larger batches fall out of a core's cache: MiniLM in int8 on one core computes 11.9
thousand tokens a second one text at a time, 15.8 in calls of 512 tokens, 11.9 in calls of 2,048."""
_SLOW_FUSIONS = ("BiasGeluFusion", "SkipLayerNormFusion")
"""Left out: on a CPU the fused kernels take longer than their parts. 400 tokens of MiniLM on one core, ms:
SkipLayerNormalization 8.5, Add and LayerNormalization 1.7; BiasGelu 4.2, Add and Gelu 2.4; of 26 in int8 and 67 in fp32
(ONNX Runtime 1.31.1)."""
VARIABLE = "HF_TRAINPIPE_BACKEND"
"""Names the backend where the caller does not."""


def choose_backend(asked: str | None, *, default: str, there: Iterable[str]) -> str:
    """The backend to run: the caller's choice, else ``HF_TRAINPIPE_BACKEND``, else the package's own ``default``.

    Args:
        there: The names that the package holds, besides ``torch``.

    Raises:
        InputError: An unknown name.
        SchemaError: The package does not hold it.
    """
    name = asked or os.environ.get(VARIABLE) or default
    if name not in BACKENDS:
        where = "backend" if asked else VARIABLE
        raise InputError(f"{where}: expected {', '.join(BACKENDS)}, found {name!r}.", fix="Choose one of them.")
    held = {"torch", *there}
    if name not in held:
        option = "--onnx --int8" if name == "onnx-int8" else "--onnx"
        raise SchemaError(
            f"The package has no model for the backend {name!r}, but for {', '.join(sorted(held))}.",
            fix=f"Add it: hf-trainpipe package PACKAGE {option}",
        )
    return name


class OnnxModel:
    """An ONNX Runtime session on the CPU.

    Args:
        path: The ``.onnx`` file.
        threads: Of one batch; None: ``HF_TRAINPIPE_THREADS`` or ``OMP_NUM_THREADS``, else all cores.

    Raises:
        MissingRuntime: onnxruntime is not installed.
        SchemaError: The file cannot be loaded.
    """

    def __init__(self, path: Path | str, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingRuntime(
                "The ONNX backend needs onnxruntime, which is not installed.",
                fix="python -m pip install -r onnx/requirements.txt (of the package)",
            ) from error
        options = onnxruntime.SessionOptions()
        self._threads = options.intra_op_num_threads = _threads() if threads is None else threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Processors without VNNI add products of int8 in 16 bits, which overflow: logits were off by 4.9 instead of 0.5. No effect on others.
        options.add_session_config_entry("session.x64quantprecision", "1")
        # Idle threads sleep: beside a tokenizer and a server they would spin for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(_SLOW_FUSIONS)
            )
        except Exception as error:  # onnxruntime's errors have no common ancestor
            raise SchemaError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {str(error)[:300]}",
                fix="Install the version that onnx/requirements.txt names, or write the model again.",
            ) from error
        self._inputs = frozenset(item.name for item in self._session.get_inputs())

    def __call__(self, batch: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Logits of a padded batch: [B, C], or [B, L, C] of a tagger."""
        feed = {name: array for name, array in batch.items() if name in self._inputs}
        if "token_type_ids" in self._inputs and "token_type_ids" not in feed:
            feed["token_type_ids"] = np.zeros_like(batch["input_ids"])
        [logits] = self._session.run(["logits"], feed)
        values: npt.NDArray[np.float32] = logits
        return values

    def run(self, features: Features, *, task: Task, chosen: npt.NDArray[np.int64], max_tokens: int) -> Outputs:
        """What :func:`.inference.run` computes.

        A call of the session gets at most 512 tokens a thread, however large ``max_tokens`` is.
        """

        return collect(
            features,
            chosen,
            declared=task.outputs,
            max_tokens=min(max_tokens, _CALL_TOKENS * self._threads),
            compute=lambda places: {"logits": self(pad_arrays(features, chosen[places]))},
            joined=lambda parts: np.concatenate(parts).astype(np.float32, copy=False),
        )


def _threads() -> int:
    for name in ("HF_TRAINPIPE_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


@dataclass(frozen=True)
class OnnxTokenizer:
    """What :class:`.encoding.TextEncoder` asks of a tokenizer, read from two files: no transformers needed."""

    _tokenizer: Any
    model_max_length: int
    truncation_side: str
    model_input_names: tuple[str, ...]
    pad_token_id: int
    unk_token_id: int

    @classmethod
    def load(cls, folder: Path) -> OnnxTokenizer:
        """Read what :meth:`save` wrote.

        Raises:
            SchemaError: A file is missing or not as it must be.
        """
        from tokenizers import Tokenizer

        try:
            facts = json.loads((folder / TOKENIZER_FACTS).read_text(encoding="utf-8"))
            backend = Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8"))
            backend.encode_special_tokens = bool(facts.pop("encode_special_tokens"))
            facts["model_input_names"] = tuple(facts["model_input_names"])
            return cls(backend, **facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SchemaError(
                f"{folder}: its tokenizer for ONNX cannot be read: {error}.",
                fix="Write it again: hf-trainpipe package PACKAGE --onnx",
            ) from error

    @staticmethod
    def save(tokenizer: Any, folder: Path) -> None:
        """Write the Rust side of a fast tokenizer, as :class:`.encoding.TextEncoder` uses it, with what it asks."""
        from ..tokens.backend import copy_backend, unknown_id

        backend = copy_backend(tokenizer)
        facts = {
            "model_max_length": int(min(getattr(tokenizer, "model_max_length", 1 << 60), 1 << 60)),
            "truncation_side": getattr(tokenizer, "truncation_side", "right"),
            "model_input_names": list(getattr(tokenizer, "model_input_names", ())),
            "pad_token_id": int(tokenizer.pad_token_id or 0),
            "unk_token_id": unknown_id(tokenizer),
            "encode_special_tokens": bool(backend.encode_special_tokens),
        }
        (folder / TOKENIZER).parent.mkdir(exist_ok=True)
        (folder / TOKENIZER).write_text(backend.to_str(), encoding="utf-8", newline="\n")
        (folder / TOKENIZER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8", newline="\n")
