"""The pages: links and anchors lead somewhere, commands parse, code compiles and runs, quoted messages are the code's. Blocks that are
neither commands, code nor JSON show what is printed and where files lie."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import hf_trainpipe
from hf_trainpipe import pipelines
from hf_trainpipe.cli.completion import known_fields
from hf_trainpipe.cli.parser import UsageError, split_fields
from hf_trainpipe.cli.verbs import VERBS
from hf_trainpipe.codec import from_json, to_json

ROOT = Path(hf_trainpipe.__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]}
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
PARTS = {"data", "task", "preprocessing", "augmentation", "trackers"}
"""Parts of a recipe whose fields depend on it."""


@cache
def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(page))


@cache
def anchors_of(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def links_of(page: str) -> list[tuple[str, Path, str]]:
    """Relative links of a page: as written, the path that they lead to, the anchor."""
    found = []
    for target in ("".join(pair) for pair in LINK.findall(re.sub(r"(`+).+?\1", "code", prose_of(page)))):
        if not re.match(r"\w+:", target):
            path, _, anchor = target.partition("#")
            found.append((target, (PAGES[page].parent / path).resolve() if path else PAGES[page], anchor))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for written, path, anchor in links_of(page):
        assert path.exists(), written
        assert path.is_relative_to(ROOT), written
        if anchor:
            assert anchor in anchors_of(path.relative_to(ROOT).as_posix()), written


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, pending = {"README.md"}, ["README.md"]
    while pending:
        for _, path, _ in links_of(pending.pop()):
            page = (path / "README.md" if path.is_dir() else path).relative_to(ROOT).as_posix()
            if page in PAGES and page not in reached:
                reached.add(page)
                pending.append(page)
    assert set(PAGES) - reached == set()


def words_of(line: str) -> list[str]:
    """What a line calls hf-trainpipe with; empty where it does not, or only says how it is called."""
    call = re.match(
        r"\s*(?:\$ |\w+=\S+ )*(?:hf-trainpipe|(?:accelerate launch|python) -m hf_trainpipe) +([^-].*)", line
    )
    lexer = shlex.shlex(call[1] if call else "", posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    words = list(takewhile(lambda word: not set(word) <= set("|&;>"), lexer))
    is_usage = call is not None and re.search(r"^(VERB|COMMAND)|\.\.\.|(?<!\S)\[|[a-z]\|[a-z]", call[1])
    return [] if is_usage else words


@cache
def commands_of(page: str) -> list[tuple[list[str], bool]]:
    """Commands of a page, and whether each stands in a block; what stands for a value stays as it is written."""
    blocks = [line for *_, block in FENCE.findall(text_of(page)) for line in block.replace("\\\n", " ").splitlines()]
    inline = [code.replace("\n", " ") for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose_of(page))]
    return [
        (words, in_block)
        for lines, in_block in ((blocks, True), (inline, False))
        for line in lines
        if "hf" in line and (words := words_of(line))
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_commands_are_as_the_parser_takes_them(page: str) -> None:
    for (name, *rest), in_block in commands_of(page):
        verb = VERBS.get(name)
        assert verb is not None, f"hf-trainpipe {name}"
        if verb.raw or "--help" in rest:
            continue
        parser, fields = verb.parser(), list[str]()
        if verb.takes_fields:
            rest, fields = split_fields(rest, set(parser._option_string_actions))
        try:
            parser.parse_args(rest)
        except UsageError as error:
            if in_block or not re.search(
                "arguments are required|expected one argument", error.message
            ):  # text may name a part of a command
                raise
        for option in (word.partition("=")[0] for word in fields if word.startswith("--")):
            is_known = any(option == known or option.startswith(f"{known}.") for known in known_fields())
            assert is_known or option[2:].partition(".")[0] in PARTS, f"hf-trainpipe {name}: {option}"


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in text_of(page)])
def test_blocks_of_python_compile_and_import_what_is_there(page: str) -> None:
    for _, language, block in FENCE.findall(text_of(page)):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module in ("hf_trainpipe", "hf_trainpipe.pipelines"):
                there = hf_trainpipe.__all__ if node.module == "hf_trainpipe" else pipelines.__all__
                assert {alias.name for alias in node.names} <= set(there)


SCRIPT = re.compile(r"^(?:\./|python )?(scripts/[\w/]+(?:\.py)?)(?= |$)(.*)")


@cache
def source_of(script: str) -> str:
    """A script, what it hands over to, and, where it lies in a folder, what lies beside it."""
    path = ROOT / script
    texts = [path, path.with_suffix(".py"), *(path.parent.glob("*.py") if path.parent.name != "scripts" else ())]
    handed = re.findall(r"-m (\w+) ", path.read_text(encoding="utf-8"))
    texts += [file for package in handed for file in (ROOT / "scripts" / package).glob("*.py")]
    return "".join(text.read_text(encoding="utf-8") for text in texts if text.is_file())


@pytest.mark.parametrize("page", [page for page in PAGES if "scripts/" in text_of(page) and page != "CHANGELOG.md"])
def test_commands_of_scripts_name_scripts_and_options_that_are_there(page: str) -> None:
    blocks = [line for *_, block in FENCE.findall(text_of(page)) for line in block.replace("\\\n", " ").splitlines()]
    inline = [code.replace("\n", " ") for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose_of(page))]
    for script, rest in (found.groups() for line in (*blocks, *inline) if (found := SCRIPT.match(line.strip()))):
        assert (ROOT / script).exists(), script
        if (ROOT / script).is_file():
            for option in re.findall(r"(?<!\S)--[\w-]+", rest.partition(" #")[0]):
                assert f'"{option}"' in source_of(script) or option in (ROOT / script).read_text(), f"{script} {option}"


@pytest.mark.parametrize("page", [page for page in PAGES if "```json" in text_of(page)])
def test_blocks_of_json_are_json(page: str) -> None:
    for _, language, block in FENCE.findall(text_of(page)):
        assert language != "json" or json.loads(block)


BEYOND = re.compile(
    r"\b(hf_trainpipe\.load|Run\.open|package\.predict|facts_of|np|open|peft|mlflow)\b|(from|import) (kfp|transformers|kubeflow|tensorflow)"
)
"""What a block needs a run, a package, files or another library for. All other blocks of Python run."""
CHEAP = {
    page: blocks
    for page in PAGES
    if (blocks := [code for _, of, code in FENCE.findall(text_of(page)) if of == "python" and not BEYOND.search(code)])
}


@pytest.mark.parametrize("page", CHEAP)
def test_blocks_of_python_run_and_their_recipes_are_whole(page: str) -> None:
    for block in CHEAP[page]:
        made: dict[str, Any] = {"__name__": __name__}
        for module in (pipelines, hf_trainpipe):  # blocks that are a part of a file name what it imports
            made |= {name: getattr(module, name) for name in module.__all__}
        exec(block, made)
        if "def recipe()" in block:
            recipe = made["recipe"]()
            assert from_json(to_json(recipe)) == recipe
        for name in {"pipeline", "space"} & made.keys():
            assert made[name]()


def test_messages_of_troubleshooting_are_in_the_code() -> None:
    quoted = re.findall(r"^### `(.+)`$", text_of("docs/troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 20
    for path in sorted((ROOT / "hf_trainpipe").rglob("*.py")):
        joined = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # a text of several lines
        texts = re.sub(r"\{[^{}]*\}", "…", joined)
        quoted = [message for message in quoted if message not in texts]
    assert quoted == []


def test_the_site_has_every_page_notebook_recipe_and_public_name() -> None:
    site = ROOT / "docs" / "site"
    index = (site / "index.rst").read_text(encoding="utf-8")
    notebooks = {f"docs/notebooks/{path.stem}" for path in (ROOT / "docs/notebooks").glob("*.ipynb")}
    pages = notebooks | {page.removesuffix(".md") for page in PAGES if not page.startswith("docs/results/")}
    assert {page for page in pages if not re.search(rf"^   (.* <)?/{re.escape(page)}>?$", index, re.MULTILINE)} == set()
    recipes = re.findall(
        r"^\.\. literalinclude:: /recipes/(.+)$", (site / "recipes.rst").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(recipes) == sorted(path.name for path in (ROOT / "recipes").glob("*.py"))
    names = re.findall(r"^\.\. auto\w+:: (\w+)$", (site / "api.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted([*hf_trainpipe.__all__, *pipelines.__all__])
