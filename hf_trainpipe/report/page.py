"""The report of a run: ``report.html`` in its directory."""

from __future__ import annotations

from pathlib import Path

from hf_trainpipe.package.write import without_home
from hf_trainpipe.report import behave_page, plots, sections, slices_page
from hf_trainpipe.report.blocks import Page, Paragraph
from hf_trainpipe.report.facts import Facts, read
from hf_trainpipe.report.sentences import headline
from hf_trainpipe.utils.atomic import write_bytes
from hf_trainpipe.utils.secrets import scrub

NAME = "report.html"


def write(run: Path, *, mask_texts: bool = False, plots_to: Path | None = None) -> Path:
    """Write the report of a run, complete or not; an earlier one is replaced.

    Args:
        run: Its directory.
        mask_texts: Show how long texts are instead of what they say.
        plots_to: Where the pictures are written too, as SVG and PNG; None: nowhere.

    Raises:
        DataError: there is no run, or what it recorded is damaged.
        MissingExtra: ``plots_to`` is given and matplotlib is not installed.
    """
    page = report(read(run), mask_texts=mask_texts)
    if plots_to is not None:
        if not page.drawn():
            with plots.style():  # says what is missing, if it is
                pass
        for picture in page.drawn():
            picture.save(plots_to)
    save(page, run / NAME)
    return run / NAME


def save(page: Page, file: Path) -> None:
    """Write a page, without secrets that a recipe or a text may hold, and without the name of the home folder: pages are shown
    to others."""
    write_bytes(file, scrub(without_home(page.html())).encode(), durable=False)


def report(facts: Facts, *, mask_texts: bool = False) -> Page:
    """The report as a page. Without matplotlib it has no pictures, and says how to get them."""
    hint, evaluated = plots.missing(), list(facts.result.get("report") or {})
    notes = [] if hint is None else [Paragraph(f"Without pictures, since matplotlib is not installed: {hint}", "note")]
    return Page(
        title=facts.name,
        badge=facts.state,
        lead=headline(facts),
        notes=notes,
        sections=[
            sections.scores(facts),
            sections.baselines(facts),
            *([sections.curves(facts)] if hint is None else []),
            sections.overfitting(facts),
            *(
                sections.split_details(facts, split, mask_texts=mask_texts, pictures=hint is None)
                for split in sorted(evaluated, key=("test", "validation").index)
            ),
            slices_page.section(facts.slices, mask_texts=mask_texts),
            behave_page.section(facts.behaviour, mask_texts=mask_texts),
            sections.forecast(facts),
            sections.data(facts),
            sections.recipe(facts),
            sections.environment(facts),
            sections.reproduce(facts),
        ],
        foot="Written by hf-trainpipe report. The numbers are in result.json and ledger.jsonl beside this file.",
    )
