"""What a watch found, in words, for the screen and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.watch.signals import SIGNALS

if TYPE_CHECKING:
    from hf_trainpipe.watch.watching import Moved, Watched


def verdict(found: Watched) -> str:
    """One sentence."""
    windows = found.windows
    size, alarm = windows.promise.window, windows.alarm
    if alarm is None:
        if not windows.windows:
            return f"No window yet: {found.pending:,} of {size:,} texts are there"
        return f"No drift shown in {windows.windows:,} {_windows(windows.windows)} of {size:,} texts"
    named = " and ".join(alarm["signals"])
    first = min(alarm["signals"], key=lambda name: alarm["since"][name])
    return (
        f"Drifted: {named}, shown in window {alarm['window']:,}, begun about window {alarm['since'][first]:,} "
        f"(from {alarm['from'][first]} on)"
    )


def promise(found: Watched) -> str:
    """What the verdict is worth."""
    kept = found.windows.promise
    return (
        f"Without a drift there is an alarm in at most {kept.false_alarms:.0%} of such sequences of {kept.horizon:,} windows: "
        f"one signal's evidence would have to reach {found.windows.needed:,.0f}"
    )


def signal_rows(found: Watched) -> list[list[str]]:
    """Of each signal: name, evidence, what would be seen."""
    return [
        [name, _number(evidence.money), str(found.smallest[name])] for name, evidence in found.windows.evidence.items()
    ]


def about_text(one: Moved) -> str:
    """A line about a text."""
    is_high = SIGNALS[one.mover.signal].high == one.mover.why
    share = one.mover.rank if is_high else 1 - one.mover.rank
    beyond = "all" if share > 0.9995 else f"{share:.1%}"
    among = "of its window" if SIGNALS[one.mover.signal].directed else "before it"
    return f"{one.mover.place}: {one.mover.why} ({one.mover.signal}: further out than {beyond} of the texts {among})"


def read_line(found: Watched) -> str:
    """What was read."""
    known = f", {found.known:,} known already" if found.known else ""
    waits = f"; {found.pending:,} texts wait for the next window" if found.pending else ""
    return f"{found.rows:,} rows read{known}, {found.new:,} new {_windows(found.new)}{waits}"


def _windows(count: int) -> str:
    return "window" if count == 1 else "windows"


def _number(money: float) -> str:
    if money >= 1e6:
        return f"{money:.1e}"
    return f"{money:,.0f}" if money >= 10 else f"{money:.2f}"
