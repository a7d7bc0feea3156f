"""Train a challenger: an ordinary run over the recipe's training rows and new labels.

RUN/merge/  added.jsonl  new labels that are trained on      rows.json   which rows of all are: ``train --added --rows``
            fresh.jsonl  those that are held out for the gate  conflicts.csv, merge.json   what was found
RUN         an ordinary run: resumed by the same command, packaged and verified at its end
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.package.layout import find_package
from hf_trainpipe.promotion import merge
from hf_trainpipe.promotion.alias import digest_of, is_alias, open_alias
from hf_trainpipe.promotion.labels import read_labels
from hf_trainpipe.recipe import Scratch
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.utils.atomic import sha256_file, write_json
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.promotion.merge import Conflicts
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

MERGE = "merge"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """New labels, and what is done with them."""

    files: tuple[Path, ...]
    reading: ReadOptions = field(default_factory=lambda: AS_FOUND)
    hold_out: float = 0.2
    """Share that the gate gets."""
    conflicts: Conflicts = "old"
    test: tuple[Path, ...] = ()
    """Files of further frozen test rows."""

    def digest(self) -> str:
        """sha256 of the files' contents, in their order."""
        return hashlib.sha256(
            json.dumps([sha256_file(file) for file in (*self.files, *self.test)]).encode()
        ).hexdigest()


def folder_of(recipe: Recipe, labels: Labels) -> Path:
    """Where a run with these labels lies by default: the same labels, the same folder."""
    return Path("runs") / f"{recipe.name}-{labels.digest()[:8]}"


def retrain(
    recipe: Recipe,
    source: RecipeSource,
    run_dir: Path,
    *,
    labels: Labels,
    begin: str | None = None,
    launch: runs.Launch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Merge new labels with the training rows, and train.

    A call that was killed is continued by the next, inside the training. Nothing is promoted or pushed.

    Args:
        begin: A run, a package or an alias whose weights the run begins with; None: the recipe's model.

    Returns:
        ``{"run", "began", "merge", "result"}``.

    Raises:
        TrainpipeError: the labels cannot be read or nothing is left of them; the run ended otherwise than complete, with its own
            error and exit code.
    """
    fields = ["--hub", "none"] if recipe.hub is not None else []  # a challenger is no model to publish
    began = "the recipe's model"
    settings: dict[str, Any] = {"labels": labels.digest(), "hold_out": labels.hold_out, "conflicts": labels.conflicts}
    if begin is not None:
        package, began = _beginning(recipe, begin, run_dir)
        fields += ["--model.name", str(package)]
        for name in ("revision", "sha256", "tokenizer"):
            if getattr(recipe.model, name) is not None:
                fields += [f"--model.{name}", "none"]
        settings["begin"] = digest_of(package)
    with begun(run_dir / MERGE, "retrain", recipe, settings, elsewhere="--run-dir OTHER"):
        if (ending := runs.read_end(run_dir)) is None:
            with search_folders(source.path.parent):
                new = read_labels(recipe, labels.files, labels.reading)
                frozen = read_labels(recipe, labels.test, labels.reading) if labels.test else None
                found = merge.merge(recipe, new, hold_out=labels.hold_out, conflicts=labels.conflicts, frozen=frozen)
            merge.write(found, run_dir / MERGE)
            for line in merge_lines(found.counts, run_dir):
                say(line)
            say(f"training on {found.counts['training_rows']:,} rows from {began}: {run_dir}")
            data = ["--added", str(run_dir / MERGE / "added.jsonl"), "--rows", str(run_dir / MERGE / "rows.json")]
            ending = runs.run(source, run_dir, fields=fields, options=data, launch=launch)
        if ending.outcome != "complete":
            raise ending.error()
        merged = json.loads((run_dir / MERGE / "merge.json").read_bytes())
        return {"run": str(run_dir), "began": began, "merge": merged, "result": ending.result}


def _beginning(recipe: Recipe, begin: str, run_dir: Path) -> tuple[Path, str]:
    """The package to begin with: of a run that goes on the one that it began with, whoever holds the alias by now."""
    if isinstance(recipe.model, Scratch):
        raise RecipeError(
            f"--from: expected a recipe that begins with a pretrained model, found {type(recipe.model).__name__}.",
            fix="Leave --from out, or name the package in the recipe: model=Pretrained(...).",
        )
    kept = run_dir / MERGE / "began.json"
    if kept.is_file():
        held = json.loads(kept.read_bytes())
        if held["asked"] == begin:
            return Path(held["package"]), held["told"]
    if is_alias(begin):
        number, package = open_alias(begin).current()
        told = f"the champion of {begin} (record {number})"
    else:
        package, told = find_package(begin).resolve(), begin
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {"asked": begin, "package": str(package), "told": told})
    return package, told


def merge_lines(counts: dict[str, Any], run_dir: Path) -> Sequence[str]:
    """What became of the labels, for people."""
    lines = [
        f"{counts['labels']:,} new labels: {counts['trained_on']:,} to train on, {counts['selected_on']:,} for validation, "
        f"{counts['held_out']:,} held out for the gate"
    ]
    lines += [f"left out: {count:,} {why}" for why, count in counts["left_out"].items()]
    if counts["replaced"]:
        lines.append(f"{counts['replaced']:,} training rows are replaced by newer labels")
    if counts["conflicts"]:
        lines.append(
            f"{counts['conflicts']:,} contradict other labels of the same text: {run_dir / MERGE / 'conflicts.csv'}"
        )
    return lines
