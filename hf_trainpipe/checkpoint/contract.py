"""What must be the same for a run to continue, and what may change.

Compared are the recipe, field by field, and the fingerprints of data, tokenizer and labels. Library versions
and the git commit only give warnings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hf_trainpipe.errors import RecipeError, ResumeMismatch, closest

FREE: Mapping[str, str] = {
    "trackers": "a tracker reads the ledger and changes no number",
    "hub": "pushes read checkpoints and change no number",
    "budget.log_every": "the ledger's spacing changes no weight",
    "budget.keep_checkpoints": "rotation changes no weight",
    "budget.keep_when_done": "rotation changes no weight",
    "evaluation.errors": "what is listed changes no weight",
    "evaluation.errors_in_card": "what is listed changes no weight",
    "evaluation.profile": "what a package holds beside the model changes no weight",
    "task.calibration": "it is chosen on final predictions and changes no weight",
    "task.lost_spans": "a limit changes no weight",
    "data.rows_file": "a file of rows may move; its sha256 stays",
    "data.added_file": "a file of further rows may move; its sha256 stays",
    "data.source.added_file": "a file of further rows may move; its sha256 stays",
    "model.lora.save_adapter": "what a package holds beside the model changes no weight",
}
"""Fields (with all below them) that may change without ``--allow-change``, and why."""

OLDER_DEFAULTS: Mapping[str, Any] = {"optim.compile": False}
"""What a field was by default before None meant that the plan decides."""

EXTENDABLE = (
    "budget.epochs",
    "budget.max_steps",
    "budget.evaluate_every",
    "budget.save_every",
    "budget.patience",
    "budget.stop_on_overfitting",
)
"""What ``--extend`` may change: how long the run trains, and when it evaluates and saves."""

FINGERPRINTS = "fingerprints"
_SHOWN_CHARACTERS = 60


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


class Difference(NamedTuple):
    """A field that differs from the interrupted run. ``str`` gives ``optim.peak_lr: 2e-05 -> 1e-05``."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shorten(self.old)} -> {_shorten(self.new)}"


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], *, allow: Collection[str] = frozenset()
) -> list[Difference]:
    """The fields that differ and may not, in the order of the recipe.

    Args:
        old: ``run.json`` of the interrupted run: ``{"recipe": {...}, "fingerprints": {...}}``.
        new: The same for the run that is about to continue it.
        allow: Fields that may differ, with all below them: ``optim.peak_lr``, ``optim``,
            ``fingerprints.data``. ``data`` stands for the recipe's part and the fingerprint; ``tokenizer``
            and ``labels`` likewise.
    """
    permitted = [*FREE, *(_normal(name) for name in allow)]
    return [
        difference
        for difference in _walk("", _compared(old), _compared(new))
        if not any(_covers(name, difference.field) for name in permitted)
    ]


def check_resume(old: Mapping[str, Any], new: Mapping[str, Any], *, allow: Collection[str] = frozenset()) -> None:
    """Refuse to continue a run whose recipe or data changed; arguments as those of :func:`compare`.

    Raises:
        ResumeMismatch: the fields that differ, and what to do; ``differences`` holds them.
        RecipeError: ``allow`` names a field that neither run has.
    """
    known = {*_fields("", _compared(old)), *_fields("", _compared(new))} - {""}
    for name in allow:
        if not any(_covers(_normal(name), field) for field in known):
            raise RecipeError(
                f"--allow-change {name}: there is no such field.{closest(_normal(name), known)}",
                fix="Name a field as the refusal shows it, such as optim.peak_lr.",
            )
    if differences := compare(old, new, allow=allow):
        flags = " ".join(f"--allow-change {difference.field}" for difference in differences)
        raise ResumeMismatch(
            f"This run differs from the interrupted one in its directory:\n{_listed(differences)}",
            fix=f"Undo the change; or continue with it: {flags}\nor start another run: --run-dir OTHER",
        )


def check_finished(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to change a run that is complete: its weights were made by what its run.json says.

    Raises:
        ResumeMismatch: the fields that differ, and the ways to go on.
    """
    if differences := compare(old, new):
        raise ResumeMismatch(
            f"This run is complete, and other settings made its weights:\n{_listed(differences)}",
            fix="A finished run does not change. Start another one: --run-dir OTHER\n"
            "or train this one longer, by its budget alone: --extend --budget.epochs MORE\n"
            "or begin anew and keep what is here in old-1: --resume never",
        )


def check_extension(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse an extension that changes more than :data:`EXTENDABLE`.

    Raises:
        ResumeMismatch: other fields differ too.
    """
    if differences := compare(old, new, allow=EXTENDABLE):
        raise ResumeMismatch(
            f"--extend trains the same run longer, and changes nothing else. These fields differ:\n{_listed(differences)}",
            fix=f"Undo these changes (it may change {', '.join(EXTENDABLE)}); or start another run: --run-dir OTHER",
        )


def remember(
    history: Sequence[Mapping[str, Any]],
    differences: Sequence[Difference],
    *,
    from_step: int,
    attempt: int,
    extended: bool,
    command: str,
) -> list[dict[str, Any]]:
    """The history of a run with one more change: ``from_step`` is the last step that the old settings made.

    A change that made no step before the next one came is joined with it.
    """
    past, changes = [dict(entry) for entry in history], {d.field: [_json(d.old), _json(d.new)] for d in differences}
    if past and past[-1]["from_step"] == from_step:
        before = {field: [old, new] for field, old, new in past.pop()["changes"]}
        joined = {field: [before.get(field, pair)[0], pair[1]] for field, pair in {**before, **changes}.items()}
        changes = {field: pair for field, pair in joined.items() if pair[0] != pair[1]}
    if not changes:
        return past
    listed = [[field, old, new] for field, (old, new) in changes.items()]
    entry = {"from_step": from_step, "attempt": attempt, "extended": extended, "command": command, "changes": listed}
    return [*past, entry]


def compare_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Warnings for ``versions`` (name -> version) and ``git_commit`` that differ; results may, slightly."""
    before, now = old.get("versions") or {}, new.get("versions") or {}
    changed = [("version of " + name, before.get(name), now.get(name)) for name in sorted({*before, *now})]
    changed.append(("git commit", old.get("git_commit"), new.get("git_commit")))
    return [
        f"{what} changed since the last attempt: {first or '(none)'} -> {second or '(none)'}"
        for what, first, second in changed
        if first != second
    ]


def _compared(run: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run.json that must stay."""
    return {**(run.get("recipe") or {}), FINGERPRINTS: run.get(FINGERPRINTS) or {}}


def _walk(where: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            below = f"{where}.{key}" if where else str(key)
            yield from _walk(below, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        for position, (before, now) in enumerate(zip(old, new, strict=True)):
            yield from _walk(f"{where}[{position}]", before, now)
    elif not _same(old, new) and not (new is None and old in (_ABSENT, OLDER_DEFAULTS.get(where, _ABSENT))):
        # Not a setting that the version of the interrupted run did not have, or had another default for, and that is not used.
        yield Difference(where, old, new)


def _fields(where: str, value: Any) -> Iterator[str]:
    """The name of a value, and of all below it."""
    yield where
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(f"{where}.{key}" if where else str(key), item)
    elif _is_list(value):
        for position, item in enumerate(value):
            yield from _fields(f"{where}[{position}]", item)


def _covers(name: str, field: str) -> bool:
    candidates = (field, field.removeprefix(f"{FINGERPRINTS}."))
    return any(re.match(rf"{re.escape(name)}($|[.\[])", candidate) for candidate in candidates)


def _normal(name: str) -> str:
    return name.strip().removeprefix("--").replace("-", "_")


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) is not isinstance(new, bool):
        return False
    if isinstance(old, float) and isinstance(new, float) and old != old and new != new:
        return True
    return bool(list(old) == list(new)) if _is_list(old) and _is_list(new) else bool(old == new)


def _listed(differences: Sequence[Difference]) -> str:
    return "\n".join(f"  {difference}" for difference in differences)


def _json(value: Any) -> Any:
    return None if value is _ABSENT else value


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 4]} ..."
