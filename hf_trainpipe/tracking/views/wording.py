"""Numbers of a run in few characters, and the lines they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hf_trainpipe.utils.tables import cut, width_of

if TYPE_CHECKING:
    from hf_trainpipe.tracking.views.base import Progress, Work

RATES = {"tokens_per_second": "tok/s", "examples_per_second": "ex/s", "steps_per_second": "steps/s"}
HIDDEN = frozenset({"grad_norm"})
BAR = 20
"""Characters of a bar at most."""


def number(name: str, value: float) -> str:
    """Four decimals, or an exponent where they would tell nothing."""
    if not math.isfinite(value):
        return str(value)
    if name in ("lr", "learning_rate") or (value != 0 and not 1e-3 <= abs(value) < 1e5):
        return f"{value:.1e}" if value else "0"
    return f"{value:.4f}"


def rate(value: float) -> str:
    """Something a second: ``1,530``, ``12.3``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``3:12``, ``1:03:12``, ``2d 4:00:00``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def parts_of(values: Mapping[str, float]) -> list[str]:
    """Names and numbers, rates last; names lose what stands before their last slash."""
    found, rates = [], []
    for name, value in values.items():
        short = name.rsplit("/", 1)[-1]
        if short in RATES:
            rates.append(f"{rate(value)} {RATES[short]}")
        elif short not in HIDDEN:
            found.append(f"{short} {number(short, value)}")
    return found + rates


def place_of(kind: str, step: int, total_steps: int) -> str:
    """``step  9/651``, as wide as the last."""
    return f"{kind} {step:>{len(str(total_steps))}}/{total_steps}"


def step_line(now: Progress) -> str:
    """``step 120/651  epoch 0.55  loss 0.4312  lr 4.2e-05  1,530 tok/s  left 3:12``."""
    parts = [place_of("step", now.step, now.total_steps), f"epoch {now.epoch:.2f}", *parts_of(now.values)]
    if now.seconds_left is not None:
        parts.append(f"left {duration(now.seconds_left)}")
    return "  ".join(parts)


def evaluation_parts(now: Progress, *, with_intervals: bool) -> list[str]:
    """``eval 120/651``, ``accuracy 0.8612 [0.8480, 0.8730]``, ``best``."""
    parts = [place_of("eval", now.scored_step or 0, now.total_steps)]
    for name, value in now.scores.items():
        short = name.rsplit("/", 1)[-1]
        parts.append(f"{short} {number(short, value)}{_interval(now, short) if with_intervals else ''}")
    return [*parts, "best"] if now.is_best else parts


def work_line(work: Work) -> str:
    """``scoring validation: 12,000 of 40,000 rows, 8 s``."""
    of = f" of {work.total:,}" if work.total else ""
    count = "" if work.rows is None else f": {work.rows:,}{of} rows"
    return f"{work.what}{count}, {work.seconds:,.0f} s"


def block(now: Progress, *, width: int, marks: str = "━─") -> list[str]:
    """The lines that redraw: none is wider than ``width`` columns, and no part is torn.

    Args:
        marks: What bars are made of: the part that is done, the rest.
    """
    lines: list[str] = []
    if now.total_steps and now.step:
        share = min(now.step / now.total_steps, 1.0)
        left = [] if now.seconds_left is None else [f"left {duration(now.seconds_left)}"]
        head = place_of("step", now.step, now.total_steps)
        lines += joined([head, f"{_bar(share, marks)} {share:4.0%}", f"epoch {now.epoch:.2f}", *left], width)
        memory = [] if now.memory is None else [f"memory {now.memory / 2**30:.1f} GiB"]
        lines += joined([*parts_of(now.values), *memory], width)
        lines += joined(_scores(now), width)
    for work in now.works:
        bar = f"{_bar(work.rows / work.total, marks)}  " if work.total and work.rows is not None else ""
        lines.append(cut(f"{bar}{work_line(work)}", width))
    return lines


def _scores(now: Progress) -> list[str]:
    """The selected score with its interval, the best one, the newest checkpoint."""
    parts = []
    name = now.best[0] if now.best is not None else next(iter(now.intervals), None)
    if name is not None and name in now.scores:
        parts.append(f"{name} {number(name, now.scores[name])}{_interval(now, name)} at {now.scored_step:,}")
    if now.best is not None and now.best[2] != now.scored_step:
        parts.append(f"best {number(name or '', now.best[1])} at {now.best[2]:,}")
    if now.saved_step is not None:
        parts.append(f"checkpoint at {now.saved_step:,}")
    return parts


def _interval(now: Progress, name: str) -> str:
    """`` [0.8480, 0.8730]``; nothing where it is not known."""
    found = now.intervals.get(name)
    return "" if found is None else f" [{found[0]:.4f}, {found[1]:.4f}]"


def joined(parts: Iterable[str], width: int) -> list[str]:
    """Parts two spaces apart, on as many lines as they need; one that is too wide by itself is cut."""
    lines: list[str] = []
    for part in parts:
        if lines and width_of(lines[-1]) + 2 + width_of(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(_shortened(part, width))
    return lines


def _shortened(part: str, width: int) -> str:
    """A part that is too wide loses the end of its name, not its number."""
    name, space, value = part.partition(" ")
    if width_of(part) <= width or not space or width_of(value) + 2 >= width:
        return cut(part, width)
    return f"{cut(name, width - 1 - width_of(value))} {value}"


def _bar(share: float, marks: str) -> str:
    done = round(BAR * min(max(share, 0.0), 1.0))
    return marks[0] * done + marks[1] * (BAR - done)
