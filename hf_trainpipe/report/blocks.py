"""What pages are made of, and how they are written: one template, one style, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, ClassVar

from hf_trainpipe.report.plots import Picture


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: str = ""
    """``warning``, ``note`` or nothing."""


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers stand to the right."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    shades: Sequence[Sequence[float]] | None = None
    """Of each cell how dark its ground is, in [0, 1]."""

    @property
    def numeric(self) -> list[bool]:
        """Of each column whether all its cells are numbers."""
        return [all(_is_number(row[at]) for row in self.rows) for at in range(len(self.head))]


@dataclass(frozen=True)
class Pictures:
    """Drawn pictures, side by side where there is room."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Quotes:
    """Texts with a line about each."""

    kind: ClassVar[str] = "quotes"
    quotes: Sequence[tuple[str, str]]
    """The line, and the text."""


@dataclass(frozen=True)
class Code:
    """Lines as they are typed or printed."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line, shown on request."""

    kind: ClassVar[str] = "folded"
    line: str
    blocks: Sequence[Block]


Block = Paragraph | Table | Pictures | Quotes | Code | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page: first what matters, then its parts."""

    title: str
    lead: str
    """The result, in a sentence."""
    notes: Sequence[Paragraph] = ()
    badge: str = ""
    """The state, in a word."""
    sections: Sequence[Section] = field(default_factory=tuple)
    foot: str = ""

    def html(self) -> str:
        """The page as one file."""
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup

        folder = files("hf_trainpipe.report")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
        style = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))
        shown: list[Any] = [section for section in self.sections if section.blocks]
        return template.render(page=self, sections=shown, style=style, safe=Markup) + "\n"

    def drawn(self) -> list[Picture]:
        """All its pictures."""
        return [picture for section in self.sections for block in section.blocks for picture in _pictures(block)]


def _pictures(block: Block) -> list[Picture]:
    if isinstance(block, Folded):
        return [picture for inner in block.blocks for picture in _pictures(inner)]
    return list(block.pictures) if isinstance(block, Pictures) else []


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").strip("%"))
    except ValueError:
        return text in ("", "-")
    return True
