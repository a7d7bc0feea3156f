"""Write a package: weights, tokenizer, handler and SageMaker's entry point, the runtime, trainpipe.json, requirements and model card."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout
from hf_trainpipe.package.card import CardFacts, render
from hf_trainpipe.package.imports import SERVED_WITH, distribution_of, name_of, pin_of, requirements_of
from hf_trainpipe.package.replacing import beside, copy_runtime, remove_unfinished
from hf_trainpipe.runtime.handler.predictor import quiet
from hf_trainpipe.runtime.safety.schema import SCHEMA
from hf_trainpipe.runtime.tasks.about import about
from hf_trainpipe.runtime.text.preprocessing import BUILT_IN

if TYPE_CHECKING:
    from hf_trainpipe.runtime.tasks.base import Task

_HOME = re.compile(r"(?<![\w.~-])(?:/home|/Users)/[^/\s\"'\\<>|:]+(?=[/\"'\s]|$)")


def write(
    directory: Path | str,
    *,
    model: Any,
    tokenizer: Any,
    task: Task,
    columns: Mapping[str, Any] | None = None,
    preprocessing_json: Sequence[Mapping[str, Any]] = (),
    data_files: Mapping[str, bytes] | None = None,
    tokens: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    recipe_json: Mapping[str, Any] | None = None,
    data_info: Mapping[str, Any] | None = None,
    code_file: Path | None = None,
    resumed: Mapping[str, Any] | None = None,
    card: CardFacts | None = None,
    name: str | None = None,
    adapter: Callable[[Path], None] | None = None,
    profile: Callable[[Path], None] | None = None,
    picture: bytes | None = None,
    durable: bool = True,
) -> Path:
    """Write the package ``directory``; an earlier one is replaced atomically when the new one is complete.

    Paths below a home folder in the recipe, the data description and the card are written with ``~``.

    Args:
        model: A transformers model (not wrapped for training), on any device.
        tokenizer: Its fast tokenizer.
        task: As it was fitted.
        columns: ``{"rename", "join", "lists"}`` of the recipe's data.
        preprocessing_json: The steps as ``runtime.preprocessing.steps_to_json`` gives them.
        data_files: What the steps read beside their code, by name (:meth:`.Preprocessor.data_files`).
        tokens: ``{"max_length", "overflow", "stride"}``.
        scores: ``{split: {metric: {"value", "low", "high", "confidence", "n"}}}``.
        recipe_json: The recipe, as run.json holds it.
        data_info: Facts about the training data: description, revisions, fingerprints, numbers of rows.
        code_file: A recipe file whose classes the package needs; copied under its own name.
        resumed: The result of verify-resume.
        card: Further facts for the model card.
        name: Name of the package; None: the recipe's.
        adapter: Writes the folder ``adapter/``, which does not exist yet; None: there is none.
        profile: Writes ``profile.json`` and ``profile.safetensors`` into the package; None: it has none.
        picture: Of the training curve, as PNG; None: there is none.
        durable: Whether to fsync it; not needed for a trial.

    Returns:
        ``directory`` as a path.

    Raises:
        PackageError: a spaCy pipeline cannot be pinned, the code file's name is taken, or the model's
            outputs do not match the labels.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(directory)
    with beside(directory, durable=durable) as temporary:
        _save_model(temporary, model, tokenizer, labels=tuple(task.label_names))
        texts = {file: text.encode() for file, text in task.package_files(model, tokens).items()}
        for file, content in {**texts, **(data_files or {})}.items():
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            (temporary / file).write_bytes(content)
        model_code = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*.py"))
        copy_runtime(temporary)
        if adapter is not None:
            adapter(temporary / layout.ADAPTER)
        if profile is not None:
            profile(temporary)
        code = _copy_code(temporary, code_file)
        lines = requirements(preprocessing_json, pipelines=task.pipelines)
        named = {name_of(line) for line in lines}
        lines += [pin for pin in (requirements_of(code_file) if code_file else ()) if name_of(pin) not in named]
        for folder in (temporary, temporary / "code"):  # SageMaker installs the one next to its entry point
            text = "".join(f"{line}\n" for line in lines)
            (folder / "requirements.txt").write_text(text, encoding="utf-8")
        manifest = {
            "schema": SCHEMA,
            "name": name or (recipe_json or {}).get("name") or directory.resolve().parent.name,
            "task": task.to_json(),
            "about": about(task),
            "columns": dict(columns or {}),
            "preprocessing": [dict(step) for step in preprocessing_json],
            "tokens": dict(tokens),
            "scores": layout.finite(scores or {}),
            "recipe": without_home(layout.finite(recipe_json or {})),
            "data": without_home(layout.finite(data_info or {})),
            "versions": versions(lines),
            "files": {},
            "code": code,
            "model_code": model_code,
            "verified": None,
            "resumed": dict(resumed) if resumed is not None else None,
        }
        if picture is not None:
            (temporary / layout.PICTURE).write_bytes(picture)
        readme = without_home(render(manifest, replace(card or CardFacts(), picture=picture is not None)))
        (temporary / "README.md").write_text(readme, encoding="utf-8", newline="\n")
        if others := layout.list_files(temporary)[1]:
            raise PackageError(
                f"The model or tokenizer saved files that are not allowed in a package: {', '.join(others)}.",
                fix="Use a model with safetensors weights and a fast tokenizer.",
            )
        manifest["files"] = layout.hash_files(temporary)
        layout.write_json(temporary / layout.MANIFEST, manifest)
        layout.read_manifest(temporary)
    return directory


def requirements(preprocessing_json: Sequence[Mapping[str, Any]] = (), *, pipelines: Collection[str] = ()) -> list[str]:
    """Pins of what the package imports, at the installed versions; spaCy and NLTK only where a step uses them.

    Raises:
        PackageError: if a spaCy pipeline is not an installed package.
    """
    pins = [pin_of(name) for name in SERVED_WITH]
    named = {*pipelines, *(str(step["pipeline"]) for step in preprocessing_json if step.get("pipeline"))}
    kinds = [BUILT_IN[step["kind"]] for step in preprocessing_json if step.get("kind") in BUILT_IN]
    pins += map(pin_of, sorted({name for kind in kinds for name in kind.needs} | ({"spacy"} if named else set())))
    pins += [_pin_pipeline(name) for name in sorted(named) if not name.startswith("blank:")]
    return pins


def _pin_pipeline(name: str) -> str:
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise PackageError(
            f"The spaCy pipeline {name!r} is not an installed Python package, so requirements.txt cannot pin it.",
            fix=f"Install it (`python -m spacy download {name}`), or use `blank:LANGUAGE`.",
        ) from None
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    if url.startswith("https://") and "@" not in url.split("/")[2]:
        return f"{distribution.metadata['Name']} @ {url}"
    return f"{distribution.metadata['Name']}=={distribution.version}"


def versions(pins: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python and of the packages that ``pins`` names; local version suffixes included."""
    import platform

    found = {"python": platform.python_version()}
    for pin in pins:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[distribution_of(pin)] = metadata.version(distribution_of(pin))
    return found


def _save_model(directory: Path, model: Any, tokenizer: Any, *, labels: tuple[str, ...]) -> None:
    outputs = int(model.config.num_labels)
    if labels and outputs != len(labels):
        raise PackageError(
            f"The model has {outputs} outputs, the task {len(labels)} labels.",
            fix="Build the model with the task's model_options().",
        )
    with quiet():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    named = {
        "id2label": {str(position): label for position, label in enumerate(labels)},
        "label2id": {label: position for position, label in enumerate(labels)},
    }
    for name, origin, told in (
        ("config.json", "_name_or_path", named if labels else {}),
        ("tokenizer_config.json", "name_or_path", {}),
    ):
        if (path := directory / name).is_file():
            config = {**json.loads(path.read_text(encoding="utf-8")), **told}
            config.pop(origin, None)
            layout.write_json(path, _own_classes(config, directory))


def _own_classes(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """A configuration with only those classes in ``auto_map`` whose files are in the package: others would be downloaded."""

    def is_included(value: Any) -> bool:
        names = [name for name in (value if isinstance(value, list) else [value]) if name is not None]
        return all((directory / f"{str(name).rpartition('.')[0]}.py").is_file() for name in names)

    classes = config.pop("auto_map", None)
    kept = {name: value for name, value in classes.items() if is_included(value)} if isinstance(classes, dict) else {}
    return {**config, "auto_map": kept} if kept else config


def _copy_code(directory: Path, code_file: Path | None) -> dict[str, str] | None:
    if code_file is None:
        return None
    target = directory / code_file.name
    if target.exists() or not layout.is_package_file(target.name):
        raise PackageError(
            f"{code_file.name} cannot be copied into the package: its name is taken or is not a module name.",
            fix="Rename the recipe file; letters, digits and '_' are fine, and `handler.py` is taken.",
        )
    shutil.copyfile(code_file, target)
    return {"file": target.name, "sha256": layout.hash_file(target)}


def without_home(value: Any) -> Any:
    """``value`` with home folders in its strings written as ``~``."""
    if isinstance(value, Mapping):
        return {name: without_home(child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_home(child) for child in value]
    if isinstance(value, str):
        home = str(Path.home())
        if len(home) > 3:
            value = re.sub(rf"(?<![\w.~-]){re.escape(home)}(?=[/\\\"'\s`]|$)", "~", value)
        return _HOME.sub("~", value)
    return value
