"""A pipeline as a picture: an SVG that needs nothing, follows light and dark, and says in words what it shows.

Stages stand in layers below what they need; arrows over several layers pass between the boxes. Places within a layer come from the
usual heuristic for layered graphs: the mean place of a box's neighbours, sweep after sweep (Sugiyama et al., 1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from hf_trainpipe.pipelines.ancestors import ancestors
from hf_trainpipe.pipelines.lowered import DONE, codes_in_words
from hf_trainpipe.pipelines.standing import Seen

HEIGHT, GAP, LAYER_GAP, MARGIN = 52.0, 28.0, 54.0, 24.0
_SWEEPS = 12
_STYLE = """
:root { color-scheme: light dark }
text { font: 13px system-ui, sans-serif; fill: #1c2733 } .name { font-weight: 600 } .about { font-size: 11.5px; fill: #55636f }
rect { fill: #f4f6f8; stroke: #9aa7b2; stroke-width: 1.2 } path { fill: none; stroke: #7b8894; stroke-width: 1.4 }
.done rect { fill: #e5f3ea; stroke: #3c8f5d } .changed rect { fill: #fdf3da; stroke: #b98413 } .atwork rect { fill: #e4eefb; stroke: #2f6fb5 }
.interrupted rect { fill: #fdf3da; stroke: #b98413; stroke-dasharray: 5 3 } .leftout { opacity: .55 } .leftout rect { stroke-dasharray: 2 3 }
.label { font-size: 11.5px; fill: #8a4b08 } .tip { fill: #7b8894; stroke: none }
.halo { stroke: #fff; stroke-width: 4; paint-order: stroke }
@media (prefers-color-scheme: dark) {
 text { fill: #e6ebf0 } .about { fill: #9fabb6 } rect { fill: #222b34; stroke: #5f6d79 } path { stroke: #8896a3 } .tip { fill: #8896a3 }
 .done rect { fill: #1b3626; stroke: #58b07c } .changed rect, .interrupted rect { fill: #3a2f14; stroke: #d6a53a }
 .atwork rect { fill: #1a2e47; stroke: #6aa5e6 } .label { fill: #f0b36a } .halo { stroke: #10161c }
}
"""


@dataclass
class _Box:
    """A stage, or where an arrow passes a layer."""

    name: str
    layer: int
    width: float
    x: float = 0.0
    """Of its middle."""
    seen: Seen | None = None
    above: list[_Box] = field(default_factory=list)
    below: list[_Box] = field(default_factory=list)


def svg(title: str, seen: Sequence[Seen]) -> str:
    """The picture, as a file that any browser shows."""
    boxes, arrows = _boxes(seen)
    layers = [[box for box in boxes if box.layer == number] for number in range(max(box.layer for box in boxes) + 1)]
    _place(layers)
    left = min(box.x - box.width / 2 for box in boxes)
    for box in boxes:
        box.x += MARGIN - left
    width = max(box.x + box.width / 2 for box in boxes) + MARGIN
    height = len(layers) * (HEIGHT + LAYER_GAP) - LAYER_GAP + 2 * MARGIN
    told = "; ".join(f"{one.step.name} after {', '.join(one.step.needs) or 'nothing'}: {one.state}" for one in seen)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        'role="img" aria-labelledby="title told">',
        f'<title id="title">{escape(title)}</title><desc id="told">{escape(told)}</desc><style>{_STYLE}</style>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M0 0.5 8 4 0 7.5z"/></marker></defs>',
        *(_arrow(way) for way, _ in arrows),
        *(_drawn(box, box.seen) for box in boxes if box.seen is not None),
        *(_label(way, text) for way, text in arrows if text),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _boxes(seen: Sequence[Seen]) -> tuple[list[_Box], list[tuple[list[_Box], str]]]:
    """Boxes of stages and of passing arrows, and each arrow as the boxes that it joins, with its label."""
    stages: dict[str, _Box] = {}
    for one in seen:
        layer = max((stages[need].layer + 1 for need in one.step.needs), default=0)
        width = 26 + max(7.6 * len(one.step.name), 6.3 * len(_about(one)))
        stages[one.step.name] = _Box(one.step.name, layer, width, seen=one)
    boxes, arrows = list(stages.values()), []
    before = ancestors({one.step.name: one.step.needs for one in seen})
    for one in seen:
        for need in one.step.needs:
            codes = one.step.runs_if[need]
            if codes == DONE and any(need in before[other] for other in one.step.needs):  # it is implied
                continue
            way, end = [stages[need]], stages[one.step.name]
            for layer in range(stages[need].layer + 1, end.layer):
                way.append(_Box("", layer, 10.0))
                boxes.append(way[-1])
            way.append(end)
            for upper, lower in pairwise(way):
                upper.below.append(lower)
                lower.above.append(upper)
            arrows.append((way, "" if codes == DONE else codes_in_words(codes)))
    return boxes, arrows


def _place(layers: Sequence[list[_Box]]) -> None:
    for layer in layers:
        _spread(layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            wanted = []
            for box in layer:
                near = (box.above if downwards else box.below) or (box.below if downwards else box.above)
                wanted.append(sum(other.x for other in near) / len(near) if near else box.x)
            order = sorted(range(len(layer)), key=lambda number: wanted[number])
            layer[:] = [layer[number] for number in order]
            _spread(layer, [wanted[number] for number in order])


def _spread(layer: list[_Box], wanted: Sequence[float]) -> None:
    """Put boxes as near to where they want to be as their widths allow, in the order that they have."""
    groups: list[tuple[list[_Box], float]] = []  # boxes side by side, and the middle that the whole of them wants
    for box, place in zip(layer, wanted, strict=True):
        group, middle = [box], place
        while groups and groups[-1][1] + _width(groups[-1][0]) / 2 + GAP > middle - _width(group) / 2:
            before, other = groups.pop()
            share = len(before) / (len(before) + len(group))
            group, middle = [*before, *group], share * other + (1 - share) * middle
        groups.append((group, middle))
    for group, middle in groups:
        edge = middle - _width(group) / 2
        for box in group:
            box.x = edge + box.width / 2
            edge += box.width + GAP


def _width(group: Sequence[_Box]) -> float:
    return sum(box.width for box in group) + GAP * (len(group) - 1)


def _top(box: _Box) -> float:
    return MARGIN + box.layer * (HEIGHT + LAYER_GAP)


def _arrow(way: Sequence[_Box]) -> str:
    x, y = way[0].x, _top(way[0]) + HEIGHT
    drawn = f"M{x:.1f} {y:.1f}"
    for box in way[1:]:
        top, half = _top(box), LAYER_GAP / 2
        end = top - (1.0 if box.seen is not None else 0.0)
        drawn += f"C{x:.1f} {y + half:.1f} {box.x:.1f} {end - half:.1f} {box.x:.1f} {end:.1f}"
        if box.seen is None:
            drawn += f"V{top + HEIGHT:.1f}"
        x, y = box.x, top + HEIGHT
    return f'<path d="{drawn}" marker-end="url(#tip)"/>'


def _label(way: Sequence[_Box], text: str) -> str:
    x, y = (way[-2].x + way[-1].x) / 2, _top(way[-1]) - LAYER_GAP / 2 + 4
    return f'<text class="label halo" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _drawn(box: _Box, seen: Seen) -> str:
    x, y = box.x - box.width / 2, _top(box)
    lines = f'<text class="name" x="{box.x:.1f}" y="{y + 22:.1f}" text-anchor="middle">{escape(seen.step.name)}</text>'
    lines += f'<text class="about" x="{box.x:.1f}" y="{y + 39:.1f}" text-anchor="middle">{escape(_about(seen))}</text>'
    rect = f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{HEIGHT:.0f}" rx="7"/>'
    return f'<g class="{seen.state.replace(" ", "")}">{rect}{lines}</g>'


def _about(seen: Seen) -> str:
    """The second line of a box."""
    if seen.record is not None and seen.state == "done":
        how = "done" if seen.record.exit_code == 0 else codes_in_words((seen.record.exit_code,))
        return f"{seen.verb} · {how} in {seen.record.seconds:,.1f} s"
    return f"{seen.verb} · {seen.state}"
