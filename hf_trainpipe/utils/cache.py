"""The machine's cache folder, and the commits that Hub repositories are pinned to at first use."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from hf_trainpipe.utils.atomic import write_json

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit hash; such a revision needs no pin."""


def cache_root() -> Path:
    """The folder of caches: ``HF_TRAINPIPE_CACHE``, else ``~/.cache/hf_trainpipe``."""
    return Path(os.environ.get("HF_TRAINPIPE_CACHE") or Path.home() / ".cache" / "hf_trainpipe")


def _pins_file() -> Path:
    return cache_root() / "hub-pins.json"


def _read() -> dict[str, str]:
    try:
        pins = json.loads(_pins_file().read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return pins if isinstance(pins, dict) else {}


def pinned(key: str) -> str | None:
    """The commit that ``key`` (``user/name@revision``) was pinned to on this machine, if it was."""
    return _read().get(key)


def pin(key: str, commit: str) -> None:
    """Remember the commit of ``key``, so that later runs use it too, with or without a network."""
    from filelock import FileLock

    path = _pins_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        write_json(path, {**_read(), key: commit})
