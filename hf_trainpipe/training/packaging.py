"""A run's package: its files, the facts on its card, and the code of the recipe that it needs."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.codec import to_json
from hf_trainpipe.data.sources import HubData
from hf_trainpipe.engine.device import IN_WORDS
from hf_trainpipe.package.card import CardFacts, read_curve
from hf_trainpipe.package.write import write
from hf_trainpipe.runtime.tasks.registry import is_built_in, travelling
from hf_trainpipe.runtime.text.preprocessing import BUILT_IN, data_files, steps_to_json
from hf_trainpipe.training.reporting import picture_of
from hf_trainpipe.training.run_files import read_identity
from hf_trainpipe.training.verify_resume import read_proof
from hf_trainpipe.utils.user_file import LOADED
from hf_trainpipe.utils.wording import command_line

if TYPE_CHECKING:
    from hf_trainpipe.model.adapter import Adapter
    from hf_trainpipe.recipe import Data
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import Setup
    from hf_trainpipe.watch.profile import Profile


def _data_info(run: Run) -> dict[str, Any]:
    return {
        "description": run.recipe.data.describe(),
        "revision": _revision(run.recipe.data),
        "fingerprint": run.data.fingerprints["data"],
        "rows": {name: len(split) for name, split in run.data.splits.items()},
        "overflow": {name: dataclasses.asdict(split.features.overflow) for name, split in run.data.splits.items()},
    }


def code_file(setup: Setup) -> Path | None:
    """The recipe file, if the package needs it: its classes preprocess, or are the task."""
    source = setup.options.source
    if source is None or not has_own_code(setup):
        return None
    own = {type(part).__module__ for part in (*setup.recipe.preprocessing, travelling(setup.task))}
    files = {sys.modules[name].__file__ for name in own if name.startswith(LOADED)}
    [file] = files if len(files) == 1 else {str(source.path)}  # of a variant, the file that has the classes
    return Path(str(file))


def has_own_code(setup: Setup) -> bool:
    """Whether the package needs a class of the recipe file."""
    own = [step for step in setup.recipe.preprocessing if type(step).__name__ not in BUILT_IN]
    return bool(own) or not is_built_in(travelling(setup.task))


def write_package(
    run: Run,
    model: Any,
    directory: Path,
    *,
    scores: dict[str, dict[str, dict[str, Any]]],
    seconds: float | None,
    report: Mapping[str, Mapping[str, Any]] | None = None,
    adapter: Adapter | None = None,
    profile: Profile | None = None,
    beside: Mapping[str, Any] | None = None,
    durable: bool = True,
) -> CardFacts:
    """Write the whole package of a model; returns the facts on its card.

    Args:
        beside: What ``baselines.json`` of the run has.
    """
    card = dataclasses.replace(_card_facts(run, seconds=seconds, report=report or {}), baselines=beside or {})
    write(
        directory,
        model=model,
        tokenizer=run.tokenizer,
        task=travelling(run.tuned_task),
        columns=_columns(run.recipe.data.origin()),
        preprocessing_json=steps_to_json(run.recipe.preprocessing),
        data_files=data_files(run.recipe.preprocessing),
        tokens={
            "max_length": run.plan.max_length,
            "overflow": run.recipe.tokens.overflow,
            "stride": run.recipe.tokens.stride,
        },
        scores=scores,
        recipe_json={**to_json(run.recipe), **_from_scratch(run)},
        data_info=_data_info(run),
        code_file=code_file(run),
        resumed=read_proof(run.folder.path),
        card=card,
        name=run.recipe.name,
        adapter=None if adapter is None else adapter.write,
        profile=None if profile is None else profile.save,
        picture=None if report is None else picture_of(run),  # a template for pushes gets none
        durable=durable,
    )
    return card


def _columns(data: Data) -> dict[str, Any]:
    """What the data's own columns became, as far as a file to predict may have them."""
    made = {name: getattr(data, name, None) or {} for name in ("join", "lists")}
    plain = {name: {new: list(parts) for new, parts in found.items()} for name, found in made.items()}
    lists = {"lists": plain["lists"]} if plain["lists"] else {}
    return {"rename": dict(getattr(data, "rename", {})), "join": plain["join"], **lists}


def _from_scratch(run: Run) -> dict[str, Any]:
    """The model of a recipe as it was said, where it began with random weights; else nothing."""
    said = read_identity(run.folder.path)["recipe"]["model"]
    return {"model": said} if said["kind"] == "Scratch" else {}


def _card_facts(run: Run, *, seconds: float | None, report: Mapping[str, Mapping[str, Any]]) -> CardFacts:
    hub, data = run.recipe.hub, run.recipe.data
    origin = data.origin()
    on_hub = origin if isinstance(origin, HubData) else None
    identity = read_identity(run.folder.path)
    asked = run.recipe.evaluation.errors_in_card
    shows_errors = on_hub is not None if asked is None else asked  # their texts are pushed with the package
    return CardFacts(
        language=(hub.language or None) if hub else None,
        license=hub.license if hub else None,
        tags=hub.tags if hub else (),
        intended_use=hub.intended_use if hub else (),
        limits=hub.limits if hub else (),
        base_model=None if _from_scratch(run) else run.recipe.model.name,
        base_revision=run.recipe.model.revision,
        data=data.describe(),
        dataset=on_hub.repo if on_hub else None,
        dataset_config=on_hub.config if on_hub else None,
        dataset_revision=_revision(data),
        train_command=identity.get("command") or command_line(),
        evaluate_command=f"hf-trainpipe evaluate {run.folder.path}",
        seconds=seconds,
        attempts=run.folder.attempt,
        precision=IN_WORDS[run.plan.precision],
        hardware=f"{run.ranks.size} x {run.accelerator.device.type} ({platform.machine()})",
        curve=read_curve(run.folder.path, select=run.recipe.selected_metric),
        trust_remote_code=run.recipe.model.trust_remote_code,
        history=identity.get("history", ()),
        report=report
        if shows_errors
        else {split: {**found, "errors": [], "samples": []} for split, found in report.items()},
    )


def _revision(data: Data) -> str | None:
    origin = data.origin()
    return origin.commit() if isinstance(origin, HubData) else None
