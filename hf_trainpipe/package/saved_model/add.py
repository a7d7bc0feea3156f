"""Add a SavedModel, and a file for LiteRT, to a package; one whose answers differ from the evaluated ones is not kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout, onnx
from hf_trainpipe.package.further_models import FACTS, LITERT, SAVED_MODEL, TENSORFLOW, TOKENIZER
from hf_trainpipe.package.replacing import copied, seal
from hf_trainpipe.package.saved_model import environment
from hf_trainpipe.package.saved_model.card import HEADING, section
from hf_trainpipe.package.saved_model.environment import Session, TensorFlowProcess
from hf_trainpipe.runtime.model.inference import reads_apart
from hf_trainpipe.runtime.model.onnx_model import OnnxModel
from hf_trainpipe.runtime.tokens.backend import copy_backend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_trainpipe.runtime.handler.predictor import Predictor

LENGTHS = (16, 32, 64, 128, 256, 512)
"""Tokens of the signatures of LiteRT's file, as far as the package takes texts of that length."""
_LONGEST = 512
"""Tokens of the shapes that are compared and of LiteRT's signatures, at most: larger ones take minutes to write."""


class _Written(OnnxModel):
    """The network in TensorFlow's process, run as ONNX Runtime's is."""

    def __init__(self, session: Session, inputs: Sequence[str]) -> None:
        self._session, self._inputs, self._threads = session, frozenset(inputs), 1


def add(package: Path | str, *, litert: bool = False, allow_code: bool = False) -> dict[str, Any]:
    """Write ``tensorflow/`` into a package, or into the package of a run: a SavedModel whose batch and length are open.

    It is made from the package's ONNX graph, loaded by a fresh process without torch, and must reproduce the recorded
    predictions within the tolerance of ONNX, and the torch model at further shapes. Then the package is replaced
    atomically, else it stays unchanged.

    Args:
        litert: Write ``model.tflite`` too, with a signature for each of :data:`LENGTHS`, behind the same gate.
        allow_code: Whether code of the recipe that the package carries may run.

    Returns:
        ``{"package", "tensorflow", "verified"}``.

    Raises:
        MissingExtra: the extra ``onnx``, or the environment of TensorFlow, is not there.
        PackageError: the package is damaged, its graph has operators that are not known (with their names), or an answer
            differs (with figures).
        SchemaError: it carries code without consent.
    """
    from hf_trainpipe.package.verify import read_recorded

    path = layout.find_package(package).resolve()
    manifest, torch_side = onnx.open_exportable(path, allow_code=allow_code)
    if reads_apart(torch_side.model):
        raise PackageError(
            "task.pairs: a SavedModel reads one text, or a pair as one; found a network that reads the sides of a pair apart.",
            fix="Serve it with torch or ONNX Runtime; the package is as it was.",
            exit_code=2,
        )
    python = environment.find()
    with (
        onnx.recorded_of(path, torch_side) as recorded,
        tempfile.TemporaryDirectory(prefix="trainpipe-tensorflow-") as folder,
        copied(path, without=TENSORFLOW) as stage,
    ):
        graph = Path(folder) / "model.onnx"
        onnx.export_network(torch_side, graph)
        lengths = _lengths(torch_side) if litert else []
        facts = _write(python, graph, stage, lengths)
        lines = read_recorded(recorded)
        for name, file in (("saved_model", SAVED_MODEL), *((("litert", LITERT),) if litert else ())):
            with TensorFlowProcess(python, "answer") as process:
                session = Session(process, {name: str(stage / file)})
                there = _Written(session, facts["inputs"])
                what = "SavedModel" if name == "saved_model" else "LiteRT file"
                facts[name] |= onnx.reproduced(
                    torch_side.with_model(there, torch_side.tokenizer, backend=name), lines, what=what
                )
                facts[name] |= _other_shapes(torch_side, there, what=what)
        facts = {**_read_by_people(torch_side), **facts}
        _add_to_manifest(stage, torch_side, manifest, facts)
        verified = onnx.verify_added(stage, manifest, recorded, allow_code=allow_code)
    return {"package": str(path), "tensorflow": facts, "verified": verified}


def _most_tokens(torch_side: Predictor) -> int:
    """Tokens of the longest text that the package takes, or :data:`_LONGEST`."""
    own = int(min(getattr(torch_side.tokenizer, "model_max_length", _LONGEST), _LONGEST))
    return min(torch_side.encoder.max_length or own, _LONGEST)


def _lengths(torch_side: Predictor) -> list[int]:
    most = _most_tokens(torch_side)
    return [*(length for length in LENGTHS if length < most), most]


def _write(python: Path, graph: Path, stage: Path, lengths: list[int]) -> dict[str, Any]:
    request = {
        "onnx": str(graph),
        "saved_model": str(stage / SAVED_MODEL),
        "litert": str(stage / LITERT) if lengths else None,
        "lengths": lengths,
    }
    (stage / TENSORFLOW).mkdir()
    with TensorFlowProcess(python, "write") as process:
        told = process.ask(request)
    kept = "The package is unchanged. Serve it with torch or ONNX Runtime."
    if unknown := told.get("unknown"):
        raise PackageError(
            f"The graph of this model has operators that are not known in TensorFlow here, or not as it uses them: {', '.join(unknown)}.",
            fix=f"{kept} Operators are added in hf_trainpipe/package/saved_model/operators.py.",
            exit_code=2,
        )
    if lengths and told["litert"]["refused"]:
        raise PackageError(
            f"LiteRT's converter refuses this model:\n{told['litert']['refused']}",
            fix=f"{kept} Without --litert it gets the SavedModel alone.",
            exit_code=2,
        )
    facts = {"tensorflow": told["tensorflow"], "inputs": told["inputs"], "operators": told["operators"]}
    facts["saved_model"] = {"folder": SAVED_MODEL}
    if lengths:
        facts["litert"] = {"file": LITERT, "lengths": lengths}
    return facts


def _other_shapes(torch_side: Predictor, there: _Written, *, what: str) -> dict[str, Any]:
    """Random tokens in batches of 1 to 8 at lengths from 1 on, by both; padded rows among them.

    Raises:
        PackageError: a logit differs by more than the tolerance.
    """
    import torch

    from hf_trainpipe.runtime.model.inference import takes_types
    from hf_trainpipe.runtime.model.unpad import padded

    model = torch_side.model
    most, num_tokens = _most_tokens(torch_side), int(model.get_input_embeddings().num_embeddings)
    generator = np.random.default_rng(0)
    largest = gap = 0.0
    shapes = ((1, 1), (8, 1), (2, min(7, most)), (3, most // 2 + 1), (1, most), (8, most))
    for num, length in shapes:
        batch = {
            "input_ids": generator.integers(0, num_tokens, (num, length)),
            "attention_mask": np.ones((num, length), int),
        }
        batch["attention_mask"][num // 2, length // 2 + 1 :] = 0
        with torch.inference_mode(), padded(model):
            given = {name: torch.from_numpy(array) for name, array in batch.items()}
            if takes_types(model):
                given["token_type_ids"] = torch.zeros_like(given["input_ids"])
            expected = model(**given).logits.numpy()
        found = there(batch)
        if expected.ndim == 3:
            is_token = batch["attention_mask"].astype(bool)
            expected, found = expected[is_token], found[is_token]
        largest = max(largest, float(np.abs(expected).max()))
        gap = max(gap, float(np.abs(found - expected).max()))
    tolerance = max(onnx.ABSOLUTE, onnx.RELATIVE * largest)
    if not gap <= tolerance:
        raise PackageError(
            f"The {what} differs from the torch model at other shapes: logits may differ by {tolerance:.3g}, found {gap:.3g}.",
            fix="The package is unchanged. Serve it with torch or ONNX Runtime.",
        )
    return {"shapes": [list(shape) for shape in shapes], "shapes_max_abs_diff": gap}


def _read_by_people(torch_side: Predictor) -> dict[str, Any]:
    """What a loader needs to know besides the network."""
    return {
        "labels": list(torch_side.info.about["labels"]),
        "max_length": _most_tokens(torch_side),
        "pad_token_id": int(torch_side.tokenizer.pad_token_id or 0),
        "preprocessing": torch_side.info.preprocessing,
    }


def _add_to_manifest(stage: Path, torch_side: Predictor, manifest: dict[str, Any], facts: Mapping[str, Any]) -> None:
    (stage / TOKENIZER).write_text(copy_backend(torch_side.tokenizer).to_str(), encoding="utf-8", newline="\n")
    layout.write_json(stage / FACTS, dict(facts))
    readme = stage / "README.md"
    text = layout.with_section(readme.read_text(encoding="utf-8"), HEADING, section(facts))
    readme.write_text(text, encoding="utf-8", newline="\n")
    manifest["versions"] = {**manifest["versions"], "tensorflow": facts["tensorflow"]}
    seal(stage, manifest)
