"""The teacher of a recipe with ``distil``: what it is, whether it fits the task, and what it makes of texts.

It is told by its trainpipe.json or config.json alone, before the data are read; its weights are loaded once there are rows that it
was not asked about before. A package answers by its own preprocessing and tokenizer, through the installed runtime.

Legend: N examples, C labels of the teacher.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.encode import tokenizer_digest
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.facts import ModelFacts, model_facts
from hf_trainpipe.model.head import label_names
from hf_trainpipe.model.limits import model_limits
from hf_trainpipe.model.lora import base_fingerprint
from hf_trainpipe.model.names import from_pretrained, load_config, load_options, pin_model
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.package.layout import MANIFEST, find_package
from hf_trainpipe.recipe import Pretrained
from hf_trainpipe.runtime.handler.predictor import BATCH_TOKENS, BATCH_TOKENS_GPU, Predictor, quiet
from hf_trainpipe.runtime.handler.user_code import has_consent
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.inference import run as outputs_of
from hf_trainpipe.runtime.model.unpad import unpad
from hf_trainpipe.runtime.safety import schema
from hf_trainpipe.runtime.safety.files import DOCUMENT
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.cache import COMMIT
from hf_trainpipe.utils.hub_errors import is_hub_error, reason_of
from hf_trainpipe.utils.resources import is_local, resolve

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.recipe import Distil
    from hf_trainpipe.runtime.tasks.base import Task

_OTHER = (
    "onnx/",
    "tensorflow/",
    "adapter/",
    "trainpipe_runtime/",
    "code/",
    "handler.py",
    "profile.",
    "requirements.txt",
)
"""Files of a package, or their beginnings, that its logits do not follow from."""

_PLAIN = " as transformers"
"""Behind the commit of a teacher that is no package: offline, a cache may have a package without its trainpipe.json."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher, told from its manifest or its configuration. :func:`find_teacher` makes one."""

    said: Distil
    model: Pretrained
    """Where its configuration and its weights are, pinned."""
    package: schema.PackageInfo | None
    """None: a model as transformers reads it."""
    labels: tuple[str, ...] | None
    """In the order of its outputs; None: it names none."""
    identity: str
    """What its logits follow from, beside the texts: a commit on the Hub, or a hash of its files."""

    def check(self, task: Task, labels: Sequence[str]) -> None:
        """Refuse a teacher of another task, or one that lacks a label.

        Args:
            task: The student's.
            labels: Its labels, as far as they are known.

        Raises:
            RecipeError: as said.
        """
        wanted, found = _kind(task.schema().answers, [list(form) for form in task.schema().inputs]), self._kind(task)
        if found != wanted:
            raise RecipeError(
                f"distil.teacher: expected a teacher for {wanted}, as the task is; found {self.said.teacher!r} for {found}.",
                fix="Name a package of the same task, or leave distil out.",
            )
        if lacking := [name for name in labels if self._place_of(name) is None]:
            has = "none by name" if self.labels is None else listed(self.labels, 8, quoted=True)
            raise RecipeError(
                f"distil.teacher: expected a teacher that knows the labels {listed(labels, 8, quoted=True)}; "
                f"{self.said.teacher!r} has {has} and lacks {listed(lacking, 8, quoted=True)}.",
                fix="Spell the labels as the teacher does; or say what its outputs mean, in their order: distil.names=(...).",
            )

    def _kind(self, task: Task) -> str:
        if self.package is not None:
            return _kind(self.package.about["answers"], self.package.about["forms"])
        config, wanted = load_config(self.model), task.model_options()
        said = getattr(config, "problem_type", None) or wanted.get("problem_type")
        if said != wanted.get("problem_type") or (wanted.get("num_labels") == 1 != config.num_labels):
            return f"{said}, of {config.num_labels} outputs"
        return _kind(task.schema().answers, [list(form) for form in task.schema().inputs])

    def _place_of(self, label: str) -> int | None:
        """The output of one of the task's labels: by its name, else ignoring case."""
        names = self.labels or ()
        for spell in (str, str.casefold):
            if [spell(name) for name in names].count(spell(label)) == 1:
                return [spell(name) for name in names].index(spell(label))
        return None

    def outputs(self, task: Task) -> list[int]:
        """Its outputs in the order of the task's labels; of a number the one that there is."""
        places = [self._place_of(name) for name in task.label_names]
        return [place for place in places if place is not None] or [0]

    def facts(self, task: Task) -> ModelFacts:
        """The size of its model, from its configuration."""
        with _of_teacher():
            return model_facts(self.model, _with_own_head(task), num_labels=len(self.labels or "1"))

    def loaded(self, task: Task, *, device: torch.device) -> Asked:
        """Its weights, ready to answer.

        Raises:
            SchemaError: the package is not as it was written.
            RecipeError: a weight is missing: its answers would be made up.
        """
        if self.package is not None:
            predictor = Predictor.load(
                _folder_of(self.model),
                device=device,
                allow_code=self.said.allow_code,
                backend="torch",
                precision="fp32",
            )
            # A text that the teacher's training left out as too long has an answer too.
            encoder = (
                predictor.encoder.but(overflow="truncate")
                if predictor.encoder.overflow == "drop"
                else predictor.encoder
            )
            return Asked(predictor.task, predictor.model, encoder, device)
        with _of_teacher():
            return _from_transformers(self.model, _with_own_head(task), device=device)


@dataclass(frozen=True)
class Asked:
    """A teacher with its weights on a device."""

    task: Task
    model: torch.nn.Module
    encoder: Encoder
    device: torch.device

    def logits(self, inputs: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """float32[N, C] of texts by role, in fp32: those of windows merged as the teacher's task merges them."""
        features = self.task.encode(inputs, self.encoder)
        tokens = BATCH_TOKENS if self.device.type == "cpu" else BATCH_TOKENS_GPU
        with exact_products():
            found = outputs_of(
                self.model,
                features,
                task=self.task,
                chosen=np.arange(features.num_features),
                max_tokens=tokens,
                device=self.device,
            )
        return np.asarray(self.task.merge(found, features)["logits"], dtype=np.float32)


def find_teacher(distil: Distil, *, recorded: str | None = None) -> Teacher:
    """The teacher that a recipe names. No weights are loaded, and of the Hub only what it says about itself.

    Args:
        recorded: Its identity in the run that is there: a commit of the Hub stays the one that the run began with.

    Raises:
        RecipeError: there is no such model, or it would run code that nobody agreed to.
        SchemaError: its trainpipe.json cannot be read.
    """
    commit = (recorded or "").removesuffix(_PLAIN)
    revision = commit if COMMIT.fullmatch(commit) else distil.revision
    with _of_teacher():
        model, info = _located(
            Pretrained(distil.teacher, revision=revision, trust_remote_code=has_consent(distil.allow_code))
        )
    if info is not None and (info.code or info.model_code) and not model.trust_remote_code:
        brought = info.code["file"] if info.code else listed(info.model_code, 3)
        raise RecipeError(
            f"distil.teacher: {distil.teacher!r} brings code of its own ({brought}), which was not run.",
            fix="Read it; if you trust it, set distil.allow_code=True (--distil.allow-code).",
        )
    with _of_teacher():
        labels = label_names(load_config(model)) if info is None else tuple(info.about["labels"])
        outputs = load_config(model).num_labels if info is None else len(labels or "1")
        identity = _identity(model, info)
    if distil.names is not None and len(distil.names) != outputs:
        raise RecipeError(
            f"distil.names: expected a name for each of the teacher's {outputs} outputs, found {len(distil.names)}.",
            fix="Name all of them, in the order of its outputs.",
        )
    return Teacher(said=distil, model=model, package=info, labels=distil.names or labels, identity=identity)


def _located(model: Pretrained) -> tuple[Pretrained, schema.PackageInfo | None]:
    """The teacher pinned, with the manifest of a package; of the folder of a run that of its package."""
    if is_local(model.name):
        folder = resolve(model.name)
        if not any((place / MANIFEST).is_file() for place in (folder, folder / "package")):
            return pin_model(model), None
        folder = find_package(folder)
        return replace(model, name=str(folder.resolve())), schema.read(folder)
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    model = pin_model(model)
    try:
        found = hf_hub_download(model.name, MANIFEST, revision=model.revision)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError) and not constants.HF_HUB_OFFLINE:
            raise _refused(model, error) from error  # who could not ask does not know whether it is a package
        return model, None
    return model, schema.read(Path(found).parent)


def _folder_of(model: Pretrained) -> Path:
    """The folder of a package, downloaded where it is on the Hub."""
    if is_local(model.name):
        return Path(model.name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.name, revision=model.revision))
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise _refused(model, error) from error


def _refused(model: Pretrained, error: Exception) -> RecipeError:
    reason = reason_of(error, repo=model.name, revision=model.revision)
    return RecipeError(f"distil.teacher: {model.name!r} cannot be loaded from the Hub: {reason.said}.", fix=reason.fix)


def _identity(model: Pretrained, info: schema.PackageInfo | None) -> str:
    if not is_local(model.name):
        return str(model.revision) if info is not None else f"{model.revision}{_PLAIN}"
    if info is None:
        tokenizer = load_tokenizer(model)
        read = [tokenizer_digest(tokenizer), tokenizer.model_max_length]
        said: Any = {"weights": base_fingerprint(model), "tokenizer": read}
    else:
        files = {
            name: one["sha256"]
            for name, one in info.files.items()
            if not (name.startswith(_OTHER) or DOCUMENT.fullmatch(name))
        }
        said = {"files": files, "task": info.task, "tokens": info.tokens, "preprocessing": info.preprocessing}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _from_transformers(model: Pretrained, task: Task, *, device: torch.device) -> Asked:
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a missing head is told below
    try:
        with quiet():
            loaded, found = from_pretrained(
                task.model_class(),
                model.name,
                what="safetensors weights",
                use_safetensors=True,
                dtype="float32",
                output_loading_info=True,
                **load_options(model),
            )
    finally:
        logging.set_verbosity(level)
    if missing := sorted(found["missing_keys"]):
        raise RecipeError(
            f"distil.teacher: {model.name!r} has no trained head for the task: its files lack {listed(missing, 3)}.",
            fix="Fine-tune it first, and name the package of that run.",
        )
    loaded.eval().requires_grad_(False).to(device)
    unpad(loaded)
    tokenizer = load_tokenizer(model)
    limit = model_limits(model, task, tokenizer).limit
    return Asked(task, loaded, Encoder(tokenizer, max_length=limit), device)


def _with_own_head(task: Task) -> Task:
    """The task by a model's own head, as plain transformers loads it."""
    return task.changed({"pooling": None}) if task.fields().get("pooling") is not None else task


def _kind(answers: str, forms: Sequence[Sequence[str]]) -> str:
    """What a task reads and gives, in words: ``single_label of text``."""
    return f"{answers} of {' or '.join(' + '.join(form) for form in forms)}"


@contextmanager
def _of_teacher() -> Iterator[None]:
    """Errors of finding and loading a model speak of the teacher's fields."""
    fields = {
        "model.name": "distil.teacher",
        "model.trust_remote_code": "distil.allow_code",
        "model.revision": "distil.revision",
    }
    try:
        yield
    except RecipeError as error:
        message, fix = error.message, error.fix
        for name, ours in fields.items():
            message, fix = message.replace(name, ours), fix.replace(name, ours)
        if not message.startswith("distil."):
            message = f"distil.teacher: {message}"
        raise RecipeError(message, fix=fix) from error
