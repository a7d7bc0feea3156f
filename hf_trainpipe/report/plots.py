"""Pictures of a run, by matplotlib: as SVG inside a page, in the page's own colours and letters, or as files.

Matplotlib and not altair: 0.6 s instead of 4.7 s to import, at the end of every run, and no JavaScript engine to install.
Nothing here imports it before a picture is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hf_trainpipe.metrics.base import Interval
    from hf_trainpipe.metrics.reliability import Reliability

COLOURS = {
    "#1b1f24": "--ink",
    "#5e6875": "--muted",
    "#d5dae1": "--line",
    "#2563b0": "--s1",
    "#c2571a": "--s2",
    "#2a8a57": "--s3",
    "#8a4fa3": "--s4",
    "#a8862a": "--s5",
    "#3a8f9e": "--s6",
    "#f6d9c6": "--mark",
}
"""What pictures are drawn in, and the variables of the page's style that stand for them inside of it."""
INK, MUTED, LINE, *SERIES, MARK = COLOURS
_POINTS = 400
"""Of a line; of more, the means of neighbours."""
_SIZE = (4.7, 2.7)
"""Inches of axes with their margins."""
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.62, 0.2, 0.48, 0.42
"""Inches around axes, as wide as the letters of any run's ticks need: to let matplotlib fit them takes as long as all else that it draws."""
_STYLE = {
    "font.size": 9.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "hf-trainpipe",
}


def missing() -> str | None:
    """How to install what draws, in a line; None: it is installed."""
    return None if find_spec("matplotlib") is not None else "pip install 'hf-trainpipe[report]'"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series of a picture."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: str
    marked: bool = False
    """Whether each point is drawn: few of them, from evaluations."""
    dashed: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawn picture."""

    name: str
    """Of its file, without an ending."""
    about: str
    """What it shows, for people who do not see it."""
    figure: Figure

    def svg(self) -> str:
        """An element for a page: no size of its own, and the colours of the page's style."""
        with style():
            content = BytesIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(content, format="svg", transparent=True, metadata=nothing)
        text = content.getvalue().decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        for size in ("width", "height"):
            text = re.sub(rf'(<svg\b[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", text)  # unique on the page
        for colour, variable in COLOURS.items():
            text = text.replace(colour, f"var({variable})")
        label = self.about.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).rstrip()

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, *, width: int = 1200) -> bytes:
        """The same as pixels on white."""
        with style():
            content = BytesIO()
            self.figure.savefig(
                content,
                format="png",
                dpi=width / self.figure.get_figwidth(),
                facecolor="white",
                metadata={"Software": None},
            )
        return content.getvalue()

    def save(self, folder: Path) -> list[Path]:
        """Write it as SVG and as PNG; returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.name}.svg", folder / f"{self.name}.png"]
        with style():
            self.figure.savefig(files[0], format="svg", facecolor="white", metadata={"Date": None})
        files[1].write_bytes(self.png())
        return files


@contextmanager
def style() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra(f"pictures need matplotlib: {error}.", fix=str(missing())) from None
    with matplotlib.rc_context(_STYLE):
        yield


def frame(*titles: str, fitted: bool = False) -> tuple[Figure, list[Any]]:
    """An empty picture with axes side by side, one a title; inside :func:`style`.

    Args:
        titles: Of the axes.
        fitted: Whether the margins are fitted to what is drawn, which takes 70 ms: labels may be words of any length.
    """
    from matplotlib.figure import Figure

    (width, height), count = _SIZE, len(titles)
    figure = Figure(figsize=(width * count, height), layout="constrained" if fitted else None)
    margins = {"left": _LEFT / (width * count), "right": 1 - _RIGHT / (width * count), "bottom": _BOTTOM / height,
               "top": 1 - _TOP / height, "wspace": (_LEFT + _RIGHT) / (width - _LEFT - _RIGHT)}  # fmt: skip
    found = list(figure.subplots(1, count, squeeze=False, gridspec_kw={} if fitted else margins)[0])
    for title, axes in zip(titles, found, strict=True):
        axes.set_title(title)
        axes.tick_params(length=0)
    return figure, found


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Numbers over steps, as a picture or a part of one."""

    title: str
    lines: Sequence[Line]
    best: int | None = None
    """The step of the best model, marked."""
    shown_from: int | None = None
    """The step from which overfitting is shown; what follows is shaded."""
    begins: Sequence[int] = ()
    """Steps at which the run was resumed, marked."""
    log: bool = False
    """Whether values that spread widely stand on a logarithmic scale."""

    @property
    def drawn(self) -> list[Line]:
        """The lines that have points."""
        return [line for line in self.lines if line.points]

    @property
    def about(self) -> str:
        """What they show, for people who do not see it."""
        ends = [f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in self.drawn]
        shaded = f"; overfitting shown from step {self.shown_from:,}" if self.shown_from is not None else ""
        return f"{self.title}: {', '.join(ends)}{shaded}"

    def draw(self, axes: Any) -> None:
        """Draw them; there is a line with points."""
        for line in self.drawn:
            steps, values = _thinned(line.points)
            marker = {"marker": "o", "markersize": 3.5} if line.marked and len(steps) <= 60 else {}
            axes.plot(steps, values, color=line.colour, linewidth=1.6 if line.marked else 1.1, label=line.name,
                      linestyle="--" if line.dashed else "-", **marker)  # fmt: skip
        known = [value for line in self.drawn for _, value in line.points if value == value]
        if self.log and known and 0 < min(known) < max(known) / 50:
            axes.set_yscale("log")
        begin, end = (pick(step for line in self.drawn for step, _ in line.points) for pick in (min, max))
        if begin == end:
            axes.set_xlim(begin - 1, end + 1)
        if self.shown_from is not None:
            axes.axvspan(self.shown_from, end, color=MARK, linewidth=0, zorder=0, label="overfitting shown")
        for step in self.begins:
            axes.axvline(step, color=MUTED, linewidth=0.7, linestyle=":")
        if self.best is not None:
            axes.axvline(self.best, color=MUTED, linewidth=0.9, linestyle="--", label="best")
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1, nbins=6)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend()


def curves(name: str, *shown: Curves) -> Picture:
    """Curves side by side, those that have points."""
    shown = tuple(one for one in shown if one.drawn)
    with style():
        figure, found = frame(*(one.title for one in shown))
        for one, axes in zip(shown, found, strict=True):
            one.draw(axes)
    return Picture(name, "; ".join(one.about for one in shown), figure)


def diagram(name: str, title: str, found: Reliability) -> Picture:
    """How often answers of each confidence are right, beside the diagonal where both are equal, and what chance makes of it."""
    with style():
        figure, [axes] = frame(title)
        filled = found.count > 0
        band = found.confidence[filled], found.band_low[filled], found.band_high[filled]
        axes.fill_between(*band, color=MARK, linewidth=0, zorder=0, label="exact probabilities, by chance")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle="--")
        sizes = 12 + 120 * found.count[filled] / found.count.max()
        axes.plot(found.confidence[filled], found.right[filled], color=SERIES[0], linewidth=1.4)
        axes.scatter(found.confidence[filled], found.right[filled], s=sizes, color=SERIES[0], zorder=3)
        axes.set(
            xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="probability that the model gives", ylabel="share that is right"
        )
    about = f"{title}: calibration error {found.error:.3f}; exact probabilities would show {found.perfect:.3f}"
    return Picture(name, about, figure)


def parts(name: str, title: str, label: str, found: Mapping[str, Interval]) -> Picture:
    """A score of each part of a split, with its interval."""
    with style():
        figure, [axes] = frame(title)
        values = np.array([one.value for one in found.values()])
        spread = np.array(
            [[one.value - one.low for one in found.values()], [one.high - one.value for one in found.values()]]
        )
        axes.errorbar(range(len(found)), values, yerr=np.maximum(np.nan_to_num(spread), 0), fmt="o", color=SERIES[0],
                      markersize=4.5, elinewidth=1.2)  # fmt: skip
        axes.set_xticks(range(len(found)), list(found))
        axes.set_xlabel(label)
        axes.set_xlim(-0.5, len(found) - 0.5)
    told = ", ".join(f"{part} {one.value:.3f}" for part, one in found.items())
    return Picture(name, f"{title}: {told}", figure)


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    steps, values = np.array([step for step, _ in points], float), np.array([value for _, value in points], float)
    if len(steps) <= _POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), _POINTS)
    return np.array([steps[one].mean() for one in groups]), np.array([values[one].mean() for one in groups])
