"""Resolve the name of a model: a folder, a folder in an installed package, or a commit of a Hub repository."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.brief import first_line
from hf_trainpipe.utils.cache import COMMIT, pin, pinned
from hf_trainpipe.utils.hub_errors import FINAL, is_hub_error, pickled, reason_of
from hf_trainpipe.utils.resources import is_local, require_weights, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_trainpipe.recipe import Pretrained

HUB_TIMEOUT_S = 5.0


def local_folder(name: str) -> str | None:
    """The folder of a model name, or None for a Hub id."""
    return str(resolve(name)) if is_local(name) else None


def _refuse(name: str, error: BaseException, *, revision: str | None = None, field: str = "model.name") -> RecipeError:
    """A RecipeError for an error of the Hub, the cache or a library."""
    reason = reason_of(error, repo=name, revision=revision)
    at = f" at revision {revision!r}" if revision and not COMMIT.fullmatch(revision) else ""
    return RecipeError(
        f"{field}: {name!r}{at} is no folder here and cannot be loaded from the Hub: {reason.said}.",
        fix=reason.fix,
        reason=reason.kind,
    )


def pin_model(model: Pretrained) -> Pretrained:
    """The model with its revision resolved to a commit: pinned before, or from the Hub, or cached.

    Folders are returned unchanged if they contain weights.

    Raises:
        RecipeError: the Hub knows no such model, or cannot be reached with nothing cached.
    """
    if local_folder(model.name) is not None:
        require_weights(resolve(model.name))
        return model
    if model.revision and COMMIT.fullmatch(model.revision):
        return model
    key = f"models/{model.name}@{model.revision or 'main'}"
    commit = pinned(key)
    if commit is None:
        commit = _ask_hub(model)
        pin(key, commit)
    _refuse_pickled(model.name, _cached_files(model.name, commit))
    return replace(model, revision=commit)


def _ask_hub(model: Pretrained) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        info = HfApi().model_info(model.name, revision=model.revision, timeout=HUB_TIMEOUT_S)
    except HFValidationError:
        raise RecipeError(
            f"model.name: expected a Hub id (user/name), a folder or package:NAME/folder, found {model.name!r}.",
            fix="Correct the name; a folder must exist.",
        ) from None
    except Exception as error:
        if not is_hub_error(error):
            raise
        refused = _refuse(model.name, error, revision=model.revision)
        if refused.data["reason"] in FINAL:
            raise refused from None
        try:
            cached = snapshot_download(model.name, revision=model.revision, local_files_only=True)
        except Exception:
            raise refused from None
        return os.path.basename(cached)
    _refuse_pickled(model.name, [sibling.rfilename for sibling in info.siblings or ()])
    assert info.sha is not None
    return info.sha


def _cached_files(name: str, commit: str) -> list[str]:
    """Names of the cached files of a commit."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshots = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots"
    folder = snapshots / commit
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")] if folder.is_dir() else []


def _refuse_pickled(name: str, files: Sequence[str]) -> None:
    """Refuse a repository whose weights are pickled, before anything is downloaded or encoded."""
    is_pickled = any(file.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in files)
    if is_pickled and not any(file.endswith((".safetensors", ".safetensors.index.json")) for file in files):
        reason = pickled(name)
        raise RecipeError(f"model.name: {name!r} cannot be used: {reason.said}.", fix=reason.fix, reason=reason.kind)


def from_pretrained(loader: Any, name: str, *, what: str, field: str = "model.name", **options: Any) -> Any:
    """Call ``loader.from_pretrained`` with a folder or Hub id, and turn any error into a RecipeError."""
    folder = local_folder(name)
    try:
        if folder is None:
            return loader.from_pretrained(name, **options)
        options.pop("revision", None)
        return loader.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # each library raises errors of its own
        if folder is None:
            raise _refuse(name, error, revision=options.get("revision"), field=field) from error
        reason = reason_of(error, repo=name)
        said, fix = reason.said, reason.fix
        if reason.kind not in ("code", "unknown-kind"):
            said = first_line(error)[:300]
            fix = "Point model.name to a folder made by save_pretrained, or set model.tokenizer."
        raise RecipeError(
            f"{field}: the folder {name!r} holds no usable {what}: {said}", fix=fix, reason=reason.kind
        ) from error


def load_options(model: Pretrained) -> dict[str, Any]:
    """Arguments of every ``from_pretrained`` call for the model."""
    return {"revision": model.revision, "trust_remote_code": model.trust_remote_code}


def load_config(model: Pretrained) -> Any:
    """The configuration of a model, without its weights."""
    from transformers import AutoConfig

    return from_pretrained(AutoConfig, model.name, what="configuration", **load_options(model))


def text_config(config: Any) -> Any:
    """The text part of a configuration, for models with other inputs too."""
    find = getattr(config, "get_text_config", None)
    return config if find is None else find()
