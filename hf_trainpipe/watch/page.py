"""A watch as one page that loads nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.report import plots
from hf_trainpipe.report.blocks import Block, Page, Paragraph, Pictures, Quotes, Section, Table
from hf_trainpipe.report.plots import Picture
from hf_trainpipe.watch import told
from hf_trainpipe.watch.signals import SIGNALS

if TYPE_CHECKING:
    from hf_trainpipe.watch.watching import Watched


_SHOWN = 5
"""Texts of a signal."""


def page(found: Watched, *, mask_texts: bool = False) -> Page:
    """The page.

    Args:
        mask_texts: Tell how long texts are instead of what they say.
    """
    windows, facts = found.windows, found.windows.profile.facts
    hint = plots.missing()
    pictures: list[Block] = [Pictures([_evidence(found)])] if hint is None and windows.history else []
    about = facts["about"]
    answers = about.get("answers")
    shares = [[name, f"{share:.1%}"] for name, share in answers.items()] if isinstance(answers, dict) else []
    return Page(
        title=f"Texts of {found.package.parent.name if found.package.name == 'package' else found.package.name}",
        badge="drifted" if found.drifted else "no drift shown",
        lead=f"{told.verdict(found)}.",
        notes=[Paragraph(f"{line[0].upper()}{line[1:]}.", "note") for line in found.notes],
        sections=[
            Section(
                "Signals",
                [
                    Paragraph(f"{told.promise(found)}."),
                    *pictures,
                    Table(
                        ("signal", "compares", "evidence", "would be seen within three windows"),
                        [[name, SIGNALS[name].about, *rest] for name, *rest in told.signal_rows(found)],
                    ),
                ],
            ),
            Section("Texts that moved it", _texts(found, mask_texts=mask_texts)),
            Section(
                "The reference",
                [
                    Paragraph(
                        f"{facts['texts']:,} texts ({facts['source']}), of {about['tokens']:.0f} tokens in the mean"
                        + (
                            f", answered with a confidence of {about['confidence']:.2f}"
                            if "confidence" in about
                            else ""
                        )
                        + f". {facts['anchors']:,} of them say how texts are read, the others are what new texts are ranked among."
                    ),
                    *([Table(("answer", "share"), shares)] if shares else []),
                ],
            ),
            Section("Read", [Paragraph(f"{told.read_line(found)}."), *_left_out(found)]),
        ],
        foot="Written by hf-trainpipe watch. Evidence is the money of bets that new texts are not like the others; it begins with 1.",
    )


def _texts(found: Watched, *, mask_texts: bool) -> list[Block]:
    quotes = []
    shown = Counter[str]()
    for one in found.moved:
        shown[one.mover.signal] += 1
        if shown[one.mover.signal] > _SHOWN:
            continue
        text = "not kept" if one.text is None else f"({len(one.text):,} characters)" if mask_texts else one.text
        quotes.append((told.about_text(one), text))
    if not quotes:
        return []
    intro = "Those of the window that raised the alarm." if found.drifted else (
        "There is no alarm; these lie furthest out in the last window, by the signal with the most evidence.")  # fmt: skip
    return [Paragraph(intro), Quotes(quotes)]


def _left_out(found: Watched) -> list[Block]:
    rows = [[reason, f"{count:,}"] for reason, count in found.left_out.items()]
    return [Table(("left out", "rows"), rows)] if rows else []


def _evidence(found: Watched) -> Picture:
    """The evidence of each signal over the windows, beside what an alarm needs."""
    windows = found.windows
    numbers = np.array(windows.of_year)
    needed = np.log10(windows.needed)
    highest = needed
    with plots.style():
        figure, [axes] = plots.frame("Evidence, window by window")
        for name, colour in zip(windows.profile.signals, plots.SERIES, strict=False):
            money = np.array([one["log_money"][name] for one in windows.history]) / np.log(10)
            highest = max(highest, money.max())
            axes.plot(numbers, np.maximum(money, -2.0), color=colour, linewidth=1.3, label=name,
                      **({"marker": "o", "markersize": 3.0} if len(numbers) <= 40 else {}))  # fmt: skip
        axes.axhline(needed, color=plots.INK, linewidth=0.9, linestyle="--", label=f"an alarm: {windows.needed:,.0f}")
        if windows.alarm is not None and windows.alarm["window"] in windows.of_year:
            axes.axvline(windows.alarm["window"], color=plots.MUTED, linewidth=0.9, linestyle=":")
        axes.set(xlabel="window", ylabel="evidence, powers of ten", ylim=(-2.2, highest * 1.08 + 0.2))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.legend(ncols=2)
    last = windows.history[-1]["log_money"]
    ends = ", ".join(f"{name} {np.exp(min(value, 700.0)):.3g}" for name, value in last.items())
    return Picture(
        "evidence", f"Evidence after {windows.windows} windows: {ends}; an alarm needs {windows.needed:g}", figure
    )
