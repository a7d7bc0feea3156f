"""The part of a card that holds a model against simpler ones, also of a package that is there already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.package import layout
from hf_trainpipe.package.card_merge import block
from hf_trainpipe.package.card_tables import table
from hf_trainpipe.package.in_words import beside_baselines, interval, number
from hf_trainpipe.utils import atomic

NAME, TITLE = "baselines", "Beside simpler models"


def section(told: Mapping[str, Any]) -> str:
    """The verdict, and each baseline's selected score; empty without any.

    Args:
        told: A run's ``baselines.json``.
    """
    if not told.get("baselines"):
        return ""
    verdict = beside_baselines(told)
    text = table(*scores(told))
    return f"{f'**{verdict}.**' if verdict else ''}\n\n{text}\n\nEach is learnt from the training split alone.".strip()


def scores(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: the selected score of each baseline on each split, the model's own in the first row."""
    name, found = told["select"], told["baselines"]
    splits = list(found[0]["scores"])
    rows = []
    if any(split in told["held"] for split in splits):
        own = [number(told["held"].get(split, {}).get("model")) for split in splits]
        rows.append(["this model", *own, "", ""])
    for one in found:
        cells = []
        for split in splits:
            score = one["scores"][split].get(name) or {}
            between = interval(score)
            cells.append(number(score.get("value")) + (f" ({between})" if between else ""))
        learnt = f"{one['rows']:,}" if one["rows"] == one["of"] else f"{one['rows']:,} of {one['of']:,}"
        rows.append([one["title"], *cells, learnt, f"{one['seconds']:.1f}"])
    return ["", *(f"{name} on {split}" for split in splits), "rows learnt from", "seconds"], rows


def tell(package: Path, told: Mapping[str, Any]) -> None:
    """Write the section to the card of a package, behind its scores, and the card's new hash to the manifest."""
    readme, manifest = package / "README.md", package / layout.MANIFEST
    if not readme.is_file() or readme.is_symlink():
        return
    card = with_section(readme.read_text(encoding="utf-8"), told)
    atomic.write_bytes(readme, card.encode())
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["files"]["README.md"] = {"size": readme.stat().st_size, "sha256": layout.hash_file(readme)}
    layout.write_json(manifest, content)


def with_section(card: str, told: Mapping[str, Any]) -> str:
    """A card with the section, in place of an earlier one."""
    made = block(NAME, f"## {TITLE}\n\n{section(told)}")
    card = re.sub(rf"(?ms)^<!-- trainpipe:begin {NAME} -->.*?^<!-- trainpipe:end {NAME} -->\n*", "", card)
    end = "<!-- trainpipe:end scores -->\n"
    before, found, after = card.partition(end)
    return f"{before}{found}\n{made}{after}" if found else f"{card.rstrip()}\n\n{made}"
