"""Hold a challenger against the champion of an alias, and swap them where it is shown to be no worse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.layout import find_package, read_manifest, refuse_changed
from hf_trainpipe.package.verify import verify
from hf_trainpipe.promotion.alias import Kind, Log, Record
from hf_trainpipe.promotion.evidence import answers, fingerprint, pair
from hf_trainpipe.promotion.gate import Decision, Terms, decide
from hf_trainpipe.promotion.labels import read_labels

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.promotion.alias import Alias
    from hf_trainpipe.recipe import Recipe

FRESH = "merge/fresh.jsonl"
"""In a run that ``retrain`` made: new labels that it was not trained on."""
WORN = 20
"""Uses of a test split from which it is said that it wears out."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What decides."""

    test: tuple[Path, ...] = ()
    """Files of frozen test rows; none: the test split of the recipe's data."""
    fresh: tuple[Path, ...] | None = None
    """Files of fresh labels; None: what ``retrain`` held out beside the challenger."""
    reading: ReadOptions = field(default_factory=lambda: AS_FOUND)
    new_test: bool = False
    """Freeze these test rows in place of those before."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a challenger."""

    record: Record
    alias: str
    uses: int
    """Gates that the frozen test rows decided so far, this one included."""
    is_new: bool = True
    """Whether this call decided; else the log had the answer already."""
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the challenger holds the alias."""
        return self.record.kind in ("promoted", "rolled back")

    def to_json(self) -> dict[str, Any]:
        told = self.record.to_json()
        return {
            "alias": self.alias,
            "promoted": self.holds,
            "new": self.is_new,
            "test_uses": self.uses,
            **{name: told[name] for name in ("number", "kind", "package", "over", "told", "time", "decision")},
            "notes": list(self.notes),
        }

    def lines(self) -> str:
        """For the screen."""
        record, name = self.record, self.record.package.source or self.record.package.name
        again = "" if self.is_new else " (decided before; nothing was tested again)"
        if self.holds:
            head = f"promoted    {name} holds {self.alias} as record {record.number}{again}"
        elif record.kind == "raced":
            head = f"not promoted: {self.alias} changed hands while {name} was held against its champion{again}"
        else:
            head = f"refused     {name} does not replace record {record.over} of {self.alias}{again}"
        decision = record.decision
        said = [f"{'tests':<12}{_test_line(one)}" for one in decision.get("tests", ())]
        said += [f"{'floors':<12}{line}" for line in _broken(decision)]
        if decision and not _broken(decision):
            said.append(f"{'floors':<12}none broken: {decision['looked_at']} slices, {_honest(decision)}")
        if self.uses:
            said.append(
                f"{'test rows':<12}used {self.uses:,} time{'s' if self.uses > 1 else ''} to decide{self._worn()}"
            )
        if not decision:
            said.append(f"{'gate':<12}{record.told}")
        if record.kind == "raced":
            said.append(f"{'next':<12}the same command holds it against the new champion")
        return "\n".join([head, *said, *(f"{'note':<12}{note}" for note in self.notes)])

    def _worn(self) -> str:
        return (
            ""
            if self.uses < WORN
            else "; what is chosen on them again and again fits them: gather new ones (--new-test)"
        )


def _test_line(one: dict[str, Any]) -> str:
    word = "no worse" if one["shown"] else "NOT SHOWN to be no worse"
    needed = f"; even equal answers would need {one['needed']:,} rows" if one["needed"] else ""
    return (
        f"{word} by {one['margin']:.4g} in {one['metric']} on {one['what']}: {one['champion']:.4f} to {one['challenger']:.4f}, "
        f"at least {_signed(one['least'])} ({one['rows']:,} rows, p {one['p']:.4f}){needed}"
    )


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}"


def _broken(decision: Any) -> list[str]:
    slices = [
        f"BROKEN: {one['part']} on {one['what']} falls from {one['champion']:.4f} to {one['challenger']:.4f} "
        f"({one['rows']:,} rows, p {one['adjusted']:.4f})"
        for one in decision.get("slices", ())
        if one["broken"]
    ]
    honesty = [
        f"BROKEN: calibration error on {one['what']} {one['champion']:.4f} to {one['challenger']:.4f}, {one['allowed']:.4f} allowed"
        for one in decision.get("honesty", ())
        if one["broken"]
    ]
    return [*slices, *honesty]


def _honest(decision: Any) -> str:
    said = [f"{one['what']} {one['champion']:.4f} to {one['challenger']:.4f}" for one in decision["honesty"]]
    return f"calibration error on {', on '.join(said)}" if said else "no probabilities to calibrate"


def promote(
    challenger: Path,
    alias: Alias,
    recipe: Recipe,
    *,
    terms: Terms | None = None,
    rows: Rows | None = None,
    say: Callable[[str], None] = lambda _: None,
    **worker: Any,
) -> Outcome:
    """Let a challenger take the alias where it is shown to be no worse; the first package takes it untested.

    The same call again gives the recorded answer and uses no test row. Of two calls at once for two challengers one is
    promoted: the other was held against a champion that is none any more, and is told so.

    Args:
        challenger: A package, or a run's.
        recipe: Whose task reads the rows; its test split is the frozen one unless ``rows`` names files.
        worker: ``device``, ``allow_code``, ``backend`` of both packages.

    Raises:
        PackageError: the challenger does not reproduce its recorded predictions.
        DataError: there are no test rows, or others than those that are frozen.
    """
    terms, rows = terms or Terms(), rows or Rows()
    package = find_package(challenger).resolve()
    _check_package(package, say, allow_code=bool(worker.get("allow_code")))
    seen = alias.read()
    champion = seen.champion
    held = alias.take(package, source=str(challenger))
    test = _test_rows(recipe, rows)
    frozen = _frozen(test, recipe, seen, alias, new_test=rows.new_test)
    if champion is None:
        return _first(alias, Record(number=0, kind="promoted", package=held, test=frozen, told="the first champion: nothing was there "
                                    "to hold it against"))  # fmt: skip
    if champion.package.digest == held.digest:
        return Outcome(record=champion, alias=str(alias), uses=len(seen.gates(frozen)), is_new=False)
    fresh = _fresh_rows(package, recipe, rows)
    key = _key(held.digest, champion, frozen, None if fresh is None else fingerprint(fresh, recipe), terms)
    if (before := seen.gate(key)) is not None:
        return Outcome(record=before, alias=str(alias), uses=len(seen.gates(frozen)), is_new=False)
    against = alias.store.fetch(champion.package.reference)
    pairs = []
    for what, dataset in (("test", test), ("fresh", fresh)):
        if dataset is not None:
            say(f"holding {held.name} against record {champion.number} on {len(dataset):,} {what} rows")
            sides = [answers(one, dataset, recipe, what=what, **worker) for one in (against, package)]
            pairs.append(pair(*sides, what=what))
    decision = decide(pairs, recipe, terms, seed=recipe.seed)

    def make(log: Log) -> Record:
        kind: Kind = "refused" if not decision.passed else "promoted" if log.turn == seen.turn else "raced"
        return Record(
            number=0, kind=kind, package=held, over=champion.number, test=frozen, key=key, told=decision.verdict(),
            decision=decision.brief(),
        )  # fmt: skip

    record = alias.append(make)
    uses = len(alias.read().gates(frozen))
    return Outcome(record=record, alias=str(alias), uses=uses, notes=_notes(decision, fresh))


def _first(alias: Alias, record: Record) -> Outcome:
    def make(log: Log) -> Record:
        if log.champion is not None:
            raise DataError(
                f"{alias} got its first champion meanwhile: {log.champion.package.name}.",
                fix="Run the same command again: the challenger is held against it.",
            )
        return record

    return Outcome(record=alias.append(make), alias=str(alias), uses=0)


def _check_package(package: Path, say: Callable[[str], None], *, allow_code: bool) -> None:
    """A package that was changed, or never reproduced its recorded predictions, takes no alias."""
    manifest = read_manifest(package)
    refuse_changed(package, manifest)
    if not (manifest.get("verified") or {}).get("passed"):
        say(f"verifying {package} in a fresh process")
        verify(package, allow_code=allow_code)


def _test_rows(recipe: Recipe, rows: Rows) -> Dataset:
    if rows.test:
        return read_labels(recipe, rows.test, rows.reading)
    splits = recipe.data.splits()
    if "test" not in splits:
        raise DataError(
            f"A challenger is held against the champion on test rows that neither was trained or selected on, and the data has "
            f"{', '.join(splits)} alone.",
            fix="Give the recipe's data a test split, or name labelled rows: --test FILE",
        )
    found: Dataset = splits["test"]
    return found


def _frozen(test: Dataset, recipe: Recipe, seen: Log, alias: Alias, *, new_test: bool) -> str:
    found = fingerprint(test, recipe)
    if seen.test not in (None, found) and not new_test:
        raise DataError(
            f"{alias}: the test rows are frozen ({str(seen.test)[:12]}), and these {len(test):,} are others ({found[:12]}): a champion "
            "chosen on one test cannot be held against scores of another.",
            fix="Name the rows of before (--test FILE, --recipe R), or freeze these from now on: --new-test",
        )
    return found


def _fresh_rows(package: Path, recipe: Recipe, rows: Rows) -> Dataset | None:
    if rows.fresh is not None:
        return read_labels(recipe, rows.fresh, rows.reading) if rows.fresh else None
    beside = package.parent / FRESH
    return read_labels(recipe, (beside,), AS_FOUND, shaped=True) if beside.is_file() and beside.stat().st_size else None


def _key(challenger: str, champion: Record, test: str, fresh: str | None, terms: Terms) -> str:
    told = [challenger, champion.package.digest, champion.number, test, fresh, asdict(terms)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _notes(decision: Decision, fresh: Dataset | None) -> tuple[str, ...]:
    missing = () if fresh is not None else ("no fresh labels: the frozen test alone decided (--fresh FILE)",)
    return (*decision.notes, *missing)


def shown(log: Log, alias: Alias) -> str:
    """Who holds an alias, and what happened to it."""
    lines: Sequence[str] = [
        f"{one.number:>4}  {one.time}  {one.kind:<11}  {one.package.name}  {one.told}" for one in log.records
    ]
    champion = log.champion
    head = (
        "nobody"
        if champion is None
        else f"{champion.package.name} ({champion.package.reference}), record {champion.number}"
    )
    uses = "" if log.test is None else f"\ntest rows {log.test[:12]} used {len(log.gates(log.test)):,} times to decide"
    return "\n".join([f"{alias} is held by {head}{uses}", *lines])
