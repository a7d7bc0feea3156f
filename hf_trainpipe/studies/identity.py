"""What a study's folder belongs to: a second call continues it, and one with another recipe, other data or settings is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_trainpipe.checkpoint.contract import compare
from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.codec import to_json
from hf_trainpipe.errors import ResumeMismatch
from hf_trainpipe.recipe import Recipe
from hf_trainpipe.utils.atomic import read_json_object, write_json
from hf_trainpipe.utils.wording import command_line

NAME = "study.json"


@contextmanager
def begun(
    folder: Path, kind: str, recipe: Recipe, settings: Mapping[str, Any], *, elsewhere: str = "--study-dir OTHER"
) -> Iterator[None]:
    """Hold a study's folder, new or that of the same study.

    Args:
        kind: The verb.
        settings: What besides the recipe decides what its runs are: options, and the sha256 of what was dealt.
        elsewhere: The option that names another folder.

    Raises:
        ResumeMismatch: another study is there.
        RunLocked: another process is at work in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder / "study.lock"):
        file = folder / NAME
        asked = {"recipe": to_json(recipe), "fingerprints": {"study": kind, **json.loads(json.dumps(settings))}}
        if file.exists():
            found = read_json_object(file, needs={"recipe": dict}, fix=f"Name another folder: {elsewhere}")
            if differences := compare(found, asked):
                listed = "\n".join(f"  {str(one).removeprefix('fingerprints.')}" for one in differences)
                raise ResumeMismatch(
                    f"{folder} holds another study:\n{listed}",
                    fix=f"Undo the change, or begin another study: {elsewhere}",
                )
        else:
            write_json(file, {"schema": 1, "command": command_line(), **asked})
        yield
