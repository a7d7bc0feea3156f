"""Weak slices as a page, as a part of a run's report, and on a screen; all from what ``slices.json`` has of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_trainpipe.package.in_words import interval, number
from hf_trainpipe.report.blocks import Block, Folded, Page, Paragraph, Quotes, Section, Table
from hf_trainpipe.utils.tables import facts, table

_MOST = 10
"""Slices on the screen that are not shown to be worse."""

Found = Mapping[str, Any]


def page(found: Found, *, of: str) -> Page:
    """The page.

    Args:
        of: What was asked: a run or a package.
    """
    return Page(
        title=f"Slices of {found['of']}",
        badge="looked at",
        lead=f"{of}: {_verdict(found)}.",
        sections=[Section("Slices", blocks(found)), Section("How", [Paragraph(line) for line in _how(found)])],
        foot="Written by hf-trainpipe slices.",
    )


def section(told: Mapping[str, Found], *, mask_texts: bool) -> Section:
    """In a run's report, of each split that was looked at."""
    made: list[Block] = []
    for name, found in told.items():
        made += [Paragraph(f"{name}: {_verdict(found)}."), *blocks(found, mask_texts=mask_texts)]
        made += [Paragraph(line) for line in _how(found)]
    return Section("Slices", made)


def blocks(found: Found, *, mask_texts: bool = False) -> list[Block]:
    """The slices, and rows that are wrong in those that were found."""
    made: list[Block] = []
    for is_found, caption in ((True, "Shown to be worse than the rest"), (False, "Not shown to be worse")):
        listed = [one for one in found["slices"] if one["found"] == is_found]
        if listed:
            made.append(Table(_head(found), [_row(one) for one in listed], caption=caption))
    for one in found["slices"]:
        if one["found"] and one["errors"]:
            quotes = [
                (
                    f"{error['place']}: {error['told']}",
                    f"[{len(error['text']):,} characters]" if mask_texts else error["text"],
                )
                for error in one["errors"]
            ]
            made.append(Folded(f"Errors in: {one['slice']}", [Quotes(quotes)]))
    return made


def screen(found: Found, *, of: str, further: Sequence[tuple[str, str]] = ()) -> str:
    """The same on one screen."""
    lines = [f"{of}, {found['of']}: {_verdict(found)}", ""]
    worse = [one for one in found["slices"] if one["found"]]
    others = [one for one in found["slices"] if not one["found"]][:_MOST]
    if worse:
        lines += [table(_head(found), map(_row, worse)), ""]
    if others:
        lines += ["not shown to be worse than the rest:", "", table(_head(found), map(_row, others)), ""]
    told = [("how", line) if not at else ("", line) for at, line in enumerate(_how(found))]
    told += [("left out", f"{count:,} {reason}") for reason, count in found["left_out"].items()]
    return "\n".join([*lines, facts([*told, *further])])


def _verdict(found: Found) -> str:
    count = sum(one["found"] for one in found["slices"])
    said = "no slice is" if not count else "1 slice is" if count == 1 else f"{count} slices are"
    return f"{found['metric']} {number(found['score'])}; {said} shown to be worse than the rest"


def _how(found: Found) -> list[str]:
    tested = len(found["slices"])
    if found["halved"]:
        rows = f"{found['rows'] - found['tested']:,} rows chose the {tested} worst of {found['looked_at']:,} slices"
        first = f"{rows}; {found['tested']:,} others, all that is shown here, tested them ({found['source']})."
    else:
        first = (
            f"{found['looked_at']:,} slices were looked at and tested in the same {found['rows']:,} rows, too few to be halved "
            f"({found['source']})."
        )
    share = f"{100 * found['level']:g} %"
    return [
        first,
        f"Of all slices that are called worse at most {share} are not, on average (Benjamini and Yekutieli, {100 * found['confidence']:g} % "
        f"intervals that allow for the choice, p for all tests together); a slice has {found['least']:,} rows or more of all.",
    ]


def _head(found: Found) -> list[str]:
    return ["slice", "rows", found["metric"], "interval", "rest", "of errors", "p"]


def _row(one: Found) -> list[str]:
    return [
        one["slice"], f"{one['rows']:,}", number(one["score"]), interval(one), number(one["rest"]),
        f"{one['share_of_errors']:.0%}", _chance(one["adjusted"]),
    ]  # fmt: skip


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
