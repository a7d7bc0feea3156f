"""Pass rates under small changes as a page, as a part of a run's report, and on a screen; all from what ``behave.json`` has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_trainpipe.report.blocks import Block, Folded, Page, Paragraph, Quotes, Section, Table
from hf_trainpipe.utils.tables import cut, facts, table

_TEXT = 100

Found = Mapping[str, Any]
_EXPECTED = {"same": "the same", "changes": "another", "falls": "no surer", "rises": "no less sure"}


def page(found: Found, *, of: str) -> Page:
    """The page.

    Args:
        of: What was asked: a run or a package.
    """
    return Page(
        title=f"Behaviour on {found['of']}",
        badge="changed",
        lead=f"{of}: {_verdict(found)}",
        sections=[Section("Pass rates", blocks(found)), Section("How", [Paragraph(line) for line in _how(found)])],
        foot="Written by hf-trainpipe behave.",
    )


def section(told: Mapping[str, Found], *, mask_texts: bool) -> Section:
    """In a run's report, of each split whose rows were changed."""
    made: list[Block] = []
    for name, found in told.items():
        made += [Paragraph(f"{name}: {_verdict(found)}"), *blocks(found, mask_texts=mask_texts)]
        made += [Paragraph(line) for line in _how(found)]
    return Section("Behaviour under small changes", made)


def blocks(found: Found, *, mask_texts: bool = False) -> list[Block]:
    """The pass rates, and behind each the worst failures."""
    made: list[Block] = [Table(_HEAD, [_row(one) for one in found["perturbations"]])]
    for one in found["perturbations"]:
        quotes = [
            (
                f"{failure['place']}: {failure['answer_before']} became {failure['answer_after']}",
                f"[{len(failure['after']):,} characters]"
                if mask_texts
                else f"{failure['before']} → {failure['after']}",
            )
            for failure in one["worst"]
        ]
        if quotes:
            made.append(
                Folded(f"{one['name']}: the worst of {one['rows'] - one['passed']:,} failures", [Quotes(quotes)])
            )
    return made


def screen(found: Found, *, of: str, further: Sequence[tuple[str, str]] = ()) -> str:
    """The same on one screen, with the worst failure of each."""
    head, *rows = ([row[0], *row[2:]] for row in (_HEAD, *map(_row, found["perturbations"])))
    lines = [f"{of}, {found['of']}: {_verdict(found)}", "", table(head, rows), ""]
    worst = [(one["name"], one["worst"][0]) for one in found["perturbations"] if one["worst"]]
    if worst:
        lines.append("the worst failure of each:")
        lines.append(
            facts(
                (
                    name,
                    f"{failure['place']}: {failure['answer_before']} became {failure['answer_after']}: {cut(failure['after'], _TEXT)}",
                )
                for name, failure in worst
            )
        )
        lines.append("")
    told = [("how" if not at else "", line) for at, line in enumerate(_how(found))]
    told += [("left out", f"{count:,} {reason}") for reason, count in found["left_out"].items()]
    return "\n".join([*lines, facts([*told, *further])])


def _verdict(found: Found) -> str:
    judged = [one for one in found["perturbations"] if one["rate"] is not None]
    if not judged:
        return f"no change could be made in {found['rows']:,} rows."
    least = min(judged, key=lambda one: one["rate"])
    return (
        f"{found['rows']:,} rows changed in {len(judged)} ways; least often as expected with {least['name']}, {least['rate']:.1%} of "
        f"{least['rows']:,}, between {least['low']:.1%} and {least['high']:.1%}."
    )


def _how(found: Found) -> list[str]:
    return [
        f"Compared with the answer to the input as it was: {found['compared']}. Intervals: {100 * found['confidence']:g} % (Wilson); scores "
        f"and numbers may move by {found['tolerance']:.3g}; changes are drawn by seed {found['seed']} and the row's number."
    ]


_HEAD = ["change", "what it does", "expected", "passed", "interval", "rows", "not changed"]


def _row(one: Found) -> list[str]:
    has = one["rate"] is not None
    expected = _EXPECTED[one["expect"]] + (f": {one['label']}" if one["label"] else "")
    return [
        one["name"], one["about"], expected, f"{one['rate']:.1%}" if has else "-",
        f"{one['low']:.1%} to {one['high']:.1%}" if has else "", f"{one['rows']:,}", f"{one['unchanged']:,}",
    ]  # fmt: skip
