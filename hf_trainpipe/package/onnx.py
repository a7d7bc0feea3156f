"""Add ONNX models to a package; a model whose answers differ from the evaluated ones is not kept."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout, onnx_export, probe
from hf_trainpipe.package.imports import name_of, pin_of
from hf_trainpipe.package.own_code import changed_code
from hf_trainpipe.package.replacing import copied, seal
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.handler.user_code import has_consent
from hf_trainpipe.runtime.model.onnx_model import FILES, TOKENIZER, TOKENIZER_FACTS, OnnxModel, OnnxTokenizer
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor

ABSOLUTE, RELATIVE = 1e-4, 1e-3
"""An fp32 logit may differ by the larger of ``ABSOLUTE`` and ``RELATIVE`` times the largest recorded one."""
POINTS = 0.5
"""How much the selected metric may drop in int8: in hundredths, or in percent where less is better."""
_NOT_NEEDED = ("torch", "transformers", "safetensors", "huggingface-hub")
"""Requirements that the ONNX backends do without."""
_INT8_SLACK = 1.5
_RESAMPLES = 1
_HEADING = "## ONNX"


def add(
    package: Path | str,
    *,
    int8: bool = False,
    recipe: Recipe | None = None,
    default: str | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Write ``onnx/`` into a package, or into the package of a run, and verify it in fresh processes.

    The fp32 model must reproduce the recorded predictions of the package's run, else the torch model's outputs for example
    texts. The package is replaced atomically when everything passed, else it stays unchanged.

    Args:
        int8: Write the int8 model too. Its gate reads the validation split of ``recipe.data``.
        recipe: Data and selected metric of the int8 gate.
        default: The handler's default backend; None: unchanged.
        allow_code: Whether code of the recipe that the package carries may run.

    Returns:
        ``{"package", "backends", "verified"}``.

    Raises:
        MissingExtra: the extra ``onnx`` is not installed.
        PackageError: the package is damaged, the architecture cannot be exported, or a gate fails (with figures).
        SchemaError: it carries code without consent.
    """
    from hf_trainpipe.package.verify import read_recorded

    path = layout.find_package(package).resolve()
    manifest, torch_side = open_exportable(path, allow_code=allow_code)
    if int8 and recipe is None:
        raise PackageError("The gate of int8 needs a recipe.", fix="Name it with --recipe.", exit_code=2)
    with recorded_of(path, torch_side) as recorded, copied(path, without="onnx") as stage:
        lines = read_recorded(recorded)
        OnnxTokenizer.save(torch_side.tokenizer, stage)
        export_network(torch_side, stage / FILES["onnx"])
        backends = {"onnx": _gate_fp32(torch_side, stage, lines)}
        if int8 and recipe is not None:
            onnx_export.quantize(stage / FILES["onnx"], stage / FILES["onnx-int8"])
            backends["onnx-int8"] = _gate_int8(torch_side, stage, lines, recipe)
        _add_to_manifest(stage, manifest, backends, default=default)
        verified = verify_added(stage, manifest, recorded, allow_code=allow_code)
    return {"package": str(path), "backends": backends, "verified": verified}


@contextlib.contextmanager
def recorded_of(package: Path, torch_side: Predictor) -> Iterator[Path]:
    """The recorded predictions of a package's run, else those of its torch model for example texts, which go with the block."""
    from hf_trainpipe.package.verify import find_recorded, record

    with tempfile.TemporaryDirectory(prefix="trainpipe-recorded-") as folder:
        examples, made_up = list(torch_side.examples), Path(folder) / layout.RECORDED
        yield find_recorded(package) or record(torch_side.record(examples), examples, made_up)


def verify_added(stage: Path, manifest: Mapping[str, Any], recorded: Path, *, allow_code: bool) -> dict[str, Any]:
    """Verify a package with what was added; runtime and handler are this version's, just copied there."""
    from hf_trainpipe.package.verify import verify

    own = has_consent(allow_code) or not changed_code(stage, manifest)
    return verify(stage, recorded=recorded, allow_code=own)


def open_exportable(path: Path, *, allow_code: bool) -> tuple[dict[str, Any], Predictor]:
    """The manifest of a package that is as it was written, and its torch model on the CPU.

    Raises:
        MissingExtra: the extra ``onnx`` is not installed.
        PackageError: it is damaged, or its network does more than one pass.
        SchemaError: it carries code without consent.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    onnx_export.require()
    manifest = layout.read_manifest(path)
    layout.refuse_changed(path, manifest)
    torch_side = Predictor.load(path, device="cpu", allow_code=allow_code, backend="torch", precision="fp32")
    if not torch_side.task.exportable:
        raise PackageError(
            f"{type(torch_side.task).__name__} does more than one pass that gives logits, so that ONNX Runtime cannot run it.",
            fix="Serve it with torch; the package is as it was.",
            exit_code=2,
        )
    return manifest, torch_side


def export_network(torch_side: Predictor, path: Path) -> None:
    """Write a package's network as ONNX, fp32; see :func:`.onnx_export.export`."""
    from hf_trainpipe.runtime.model.exact import exact_products
    from hf_trainpipe.runtime.model.inference import takes_types

    model = torch_side.model
    with exact_products():  # else the casts of an active autocast would become part of the graph
        onnx_export.export(
            model,
            path,
            takes_types=takes_types(model) and "token_type_ids" in torch_side.tokenizer.model_input_names,
            num_tokens=int(model.get_input_embeddings().num_embeddings),
        )


def _on_onnx(torch_side: Predictor, stage: Path, backend: str) -> Predictor:
    try:
        model = OnnxModel(stage / FILES[backend])
    except SchemaError as error:  # whose fix is that of whoever loads a package
        raise PackageError(
            f"ONNX Runtime cannot run the exported network ({backend}): {one_line(error.message, 300)}",
            fix="The package is unchanged. Serve it with torch.",
            exit_code=2,
        ) from error
    return torch_side.with_model(model, OnnxTokenizer.load(stage), backend=backend)


def _facts(backend: str) -> dict[str, Any]:
    return {"file": FILES[backend], "onnxruntime": metadata.version("onnxruntime")}


def _gate_fp32(torch_side: Predictor, stage: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**_facts("onnx"), **reproduced(_on_onnx(torch_side, stage, "onnx"), lines, what="ONNX model")}


def reproduced(predictor: Predictor, lines: Sequence[Mapping[str, Any]], *, what: str) -> dict[str, Any]:
    """The gate of a network in another library: the recorded logits again, ``{"n", "max_abs_diff", "tolerance"}``.

    Raises:
        PackageError: a logit differs by more than :data:`ABSOLUTE` and :data:`RELATIVE` allow, with the figures.
    """
    gap = max(probe.gaps(predictor, lines))
    largest = max(probe.largest(line["output"]) for line in lines)
    tolerance = max(ABSOLUTE, RELATIVE * largest)
    if not gap <= tolerance:
        raise PackageError(
            f"The {what} does not reproduce the evaluated logits: those of {len(lines)} inputs may differ by "
            f"{tolerance:.3g}, found {gap:.3g} (the largest logit is {largest:.3g}).",
            fix="The package is unchanged. Serve it with torch.",
        )
    return {"n": len(lines), "max_abs_diff": gap, "tolerance": tolerance}


def _gate_int8(
    torch_side: Predictor, stage: Path, lines: Sequence[Mapping[str, Any]], recipe: Recipe
) -> dict[str, Any]:
    from hf_trainpipe import metrics
    from hf_trainpipe.metrics import registry
    from hf_trainpipe.package.scoring import score

    metric = recipe.evaluation.select
    if metric is None or metric == registry.LOSS:
        metric = recipe.task.metric_names[0]
    brief = replace(recipe, evaluation=replace(recipe.evaluation, resamples=_RESAMPLES))
    int8_side = _on_onnx(torch_side, stage, "onnx-int8")
    before, after = (score(side, recipe=brief, split="validation") for side in (torch_side, int8_side))
    reference, value = (float(found["scores"][metric]["value"]) for found in (before, after))
    if metrics.greater_is_better(metric, recipe.task):
        lost = 100.0 * (reference - value)
    else:
        lost = 100.0 * (value - reference) / max(abs(reference), 1e-12)
    if not lost <= POINTS:
        raise PackageError(
            f"int8 loses too much: {metric} on the {before['n']} examples of validation may fall by {POINTS:g} points, "
            f"it is {value:.4f} in int8 and {reference:.4f} in fp32: {lost:.2f} points.",
            fix="The package is unchanged. Without --int8 it gets only the fp32 ONNX model.",
        )
    gap = max(probe.gaps(int8_side, lines))
    return {
        **_facts("onnx-int8"),
        "scheme": onnx_export.INT8_SCHEME,
        "split": "validation",
        "metric": metric,
        "examples": before["n"],
        "reference": reference,
        "value": value,
        "points_lost": lost,
        "points_allowed": POINTS,
        "n": len(lines),
        "max_abs_diff": gap,
        "tolerance": max(1e-3, _INT8_SLACK * gap),  # a product of int8 differs a little between kinds of processors
    }


def _add_to_manifest(
    stage: Path, manifest: dict[str, Any], backends: dict[str, dict[str, Any]], *, default: str | None
) -> None:
    pin = pin_of("onnxruntime")
    path = stage / "requirements.txt"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if name_of(line) != "onnxruntime"]
    path.write_text("".join(f"{line}\n" for line in (*lines, pin)), encoding="utf-8")
    light = [line for line in lines if name_of(line) not in _NOT_NEEDED]
    (stage / "onnx" / "requirements.txt").write_text("".join(f"{x}\n" for x in (*light, pin)), encoding="utf-8")
    readme = stage / "README.md"
    text = layout.with_section(readme.read_text(encoding="utf-8"), _HEADING, _section(backends))
    readme.write_text(text, encoding="utf-8", newline="\n")
    manifest["backends"] = backends
    manifest["backend"] = default or (manifest["backend"] if manifest["backend"] in ("torch", *backends) else "torch")
    manifest["versions"] = {**manifest["versions"], "onnxruntime": metadata.version("onnxruntime")}
    seal(stage, manifest)
    assert {TOKENIZER, TOKENIZER_FACTS, *(item["file"] for item in backends.values())} <= set(manifest["files"])


def _section(backends: Mapping[str, Mapping[str, Any]]) -> str:
    fp32 = backends["onnx"]
    lines = [
        "For ONNX Runtime on CPUs; `pip install -r onnx/requirements.txt` is enough (no torch, no transformers):",
        "",
        "```",
        'EndpointHandler(".", backend="onnx")      # or HF_TRAINPIPE_BACKEND=onnx',
        "```",
        "",
        f"- `onnx`, fp32: logits of {fp32['n']} inputs differ from the evaluated ones by {fp32['max_abs_diff']:.2g} at "
        f"most; {fp32['tolerance']:.2g} is allowed.",
    ]
    if int8 := backends.get("onnx-int8"):
        lines.append(
            f"- `onnx-int8` ({int8['scheme']}): {int8['metric']} on {int8['split']} ({int8['examples']} examples) "
            f"{int8['value']:.4f}, in fp32 {int8['reference']:.4f}; it may lose {int8['points_allowed']:g} points. "
            f"Logits differ by {int8['max_abs_diff']:.2g} at most. Activations are quantized per batch: an answer depends a "
            "little on the other texts in its batch."
        )
    return "\n".join(lines)
