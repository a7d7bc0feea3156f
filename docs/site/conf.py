"""The documentation site: README, ARCHITECTURE and docs/ as they are, and the Python API from docstrings. See scripts/docs.

The repository itself is the folder of sources, so that a relative link means the same here and on GitHub.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

import hf_trainpipe

ROOT = Path(hf_trainpipe.__file__).parents[1]

project = "hf_trainpipe"
version = release = hf_trainpipe.__version__
copyright = "the authors of hf_trainpipe; Apache-2.0"
root_doc = "docs/site/index"
include_patterns = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "markdown"}
highlight_language = "text"

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "exclude-members": "__init__"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"

html_theme = "furo"
html_title = "hf_trainpipe"
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["index.html"]
html_static_path = ["static"]
html_css_files = ["site.css"]


FOLDERS = {
    "recipes": "docs/site/recipes",
    "docs/results": "docs/results/README",
    "docs/notebooks": "docs/notebooks/train-and-look",
}
"""What the site shows for a link to a folder, which GitHub lists. To others the words stay, without a link."""


def link_folders(_app: Sphinx, tree: nodes.document) -> None:
    """Point links to folders at pages."""
    for link in list(tree.findall(addnodes.pending_xref)):
        place = ROOT / link.get("refdoc", "")
        if link.get("reftype") == "myst" and (folder := place.parent / link["reftarget"]).is_dir():
            page = FOLDERS.get(folder.resolve().relative_to(ROOT).as_posix())
            if page is None:
                link.replace_self(link.children)
            else:
                link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, None


BADGE = re.compile(r"!\[([^]]*)\]\(https?:[^)]*\)")
"""A picture from elsewhere, which no page loads: its words stay."""


def read_notebook(app: Sphinx, name: str, source: list[str]) -> None:
    """A notebook as Markdown: its texts, its code and what that gave when scripts/notebooks executed it."""
    if not str(app.env.doc2path(name)).endswith(".ipynb"):
        return
    parts = []
    for cell in json.loads(source[0])["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(BADGE.sub(r"\1", text))
        else:
            parts += [f"~~~python\n{text}\n~~~", *(_output(output) for output in cell["outputs"])]
    source[0] = "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    """What a cell gave: the richest form of it."""
    data = {
        kind: "".join(text) for kind, text in {"text/plain": output.get("text", ""), **output.get("data", {})}.items()
    }
    if "text/html" in data:
        return f'~~~{{raw}} html\n<div class="output">{data["text/html"]}</div>\n~~~'
    if "image/png" in data:
        words = html.escape(data["text/plain"].partition("about=")[2].partition(", figure=")[0].strip("'\""))
        return f'~~~{{raw}} html\n<img alt="{words}" src="data:image/png;base64,{data["image/png"].strip()}">\n~~~'
    return f"~~~text\n{data['text/plain']}\n~~~"


SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Examples?|Note):$")


def read_sections(_app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings in the house's form: Google's sections, and indented text is code. Those of fields have no sections, and
    napoleon would take what is before a colon for a type."""
    read: list[str] = []
    for line in lines:
        before = next((line for line in reversed(read) if line), " ")
        is_code = line.startswith("    ") and bool(read) and not read[-1]
        if (
            is_code
            and not before.startswith((" ", "-", "*"))
            and not before.endswith("::")
            and not SECTION.match(before)
        ):
            read += ["::", ""]
        read.append(line)
    is_field = what == "attribute"
    lines[:] = read if is_field else GoogleDocstring(read, what=what, name=name, obj=thing, options=options).lines()


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read_notebook)
    app.connect("doctree-read", link_folders)
    app.connect("autodoc-process-docstring", read_sections)
