"""Export a transformers model to ONNX: fp32 by transformers' exporter, int8 by ONNX Runtime's quantizer."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import MissingExtra, PackageError
from hf_trainpipe.utils.brief import one_line

INT8_SCHEME = "weights int8 per output channel, activations uint8 quantized as they come, all products"
_LARGEST_FILE = 1_900_000_000
"""Bytes of weights that fit one protobuf file; larger models get a .data file."""
_SEED_IDS = 2


def require() -> None:
    """Refuse early where the extra is not installed.

    Raises:
        MissingExtra: with the command.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript", "transformers.exporters"):
            importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"Writing ONNX needs onnx, onnxscript, onnxruntime and transformers 5.23 or newer: {error}.",
            fix="python -m pip install -c constraints.txt '.[onnx]'",
        ) from error


def export(model: Any, path: Path, *, takes_types: bool, num_tokens: int) -> None:
    """Write ``model`` with dynamic batch and length: ``input_ids``, ``attention_mask`` (and types, and those of the
    second text where two are read apart) to ``logits``.

    Args:
        model: A sequence or token classification model of transformers, in evaluation mode, on the CPU.
        path: The ``.onnx`` file; its folder exists.
        takes_types: Whether the model takes ``token_type_ids``.
        num_tokens: Size of the vocabulary.

    Raises:
        MissingExtra: the extra is not installed.
        PackageError: the architecture cannot be exported.
    """
    require()
    import onnx_ir
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter

    from hf_trainpipe.runtime.model.inference import reads_apart
    from hf_trainpipe.runtime.model.unpad import padded

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, num_tokens, (_SEED_IDS, 11), generator=generator)
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    sample["attention_mask"][1, 7:] = 0
    if takes_types:
        sample["token_type_ids"] = torch.zeros_like(ids)
    if reads_apart(model):
        sample |= {f"pair_{name}": sample[name][:, :9] for name in ("input_ids", "attention_mask")}
    attention = model.config._attn_implementation
    try:
        with _silence(), padded(model):
            # Eager attention: the graph of sdpa also handles fully masked rows, which no text has.
            model.set_attn_implementation("eager")
            exported = OnnxExporter().export(model, sample, config=OnnxConfig(dynamic=True))
            program: Any = exported.program
            size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
            external = f"{path.name}.data" if size > _LARGEST_FILE else None
            onnx_ir.save(program, str(path), external_data=external)
    except Exception as error:  # any stage of the exporter may fail, each in its own way
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise PackageError(
            f"{type(model).__name__} ({kind}) cannot be exported to ONNX: {one_line(error, 300, named=True)}",
            fix="Serve it with torch; the package is unchanged.",
            exit_code=2,
        ) from error
    finally:
        model.set_attn_implementation(attention)


def quantize(source: Path, target: Path) -> None:
    """Write ``source`` with its matrix products in int8 (:data:`INT8_SCHEME`).

    Raises:
        PackageError: the quantizer refuses it.
    """
    require()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silence():
        model = onnx.load(str(source), load_external_data=False)
        weights = {item.name for item in model.graph.initializer}
        stale = [info for info in model.graph.value_info if info.name in weights]
        for info in stale:  # shapes of weights that the quantizer transposes
            model.graph.value_info.remove(info)
        plain = target.with_name(f"plain-{target.name}")
        onnx.save(model, str(plain))
        try:
            quantize_dynamic(
                str(plain),
                str(target),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=False,
                weight_type=QuantType.QInt8,
                use_external_data_format=source.with_name(f"{source.name}.data").exists(),
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        except Exception as error:  # of any kind: it works on graphs that nobody has foreseen
            raise PackageError(
                f"ONNX Runtime's quantizer refuses this model: {one_line(error, 300, named=True)}",
                fix="The package is unchanged. Without --int8 it gets only the fp32 ONNX model.",
                exit_code=2,
            ) from error
        finally:
            plain.unlink(missing_ok=True)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence progress lines and warnings of the exporters: the gate checks their output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
