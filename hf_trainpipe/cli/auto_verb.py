"""The verb that makes a package of a file within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.audit_verb import FILES, guessed
from hf_trainpipe.cli.parser import Argument, busy, print_result, verb
from hf_trainpipe.cli.study_options import STUDY, seconds
from hf_trainpipe.utils.tables import facts

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.studies.auto_study import Study


@verb(
    "auto",
    "make a package of a file within a budget",
    Argument("FILE", "rows: .csv, .jsonl, .parquet, ..."),
    Argument("[FILE ...]", "further files: test.csv is the split test by its name", dest="files", nargs="*"),
    Argument("--budget TIME", "of work: 90s, 30m, 2h; 30m by default", default="30m"),
    Argument("--model NAME", "a Hub id, a folder or package:NAME/folder; all-MiniLM-L6-v2 by default"),
    *FILES,
    *STUDY,
    "--json",
)
def auto(arguments: argparse.Namespace) -> int:
    budget = seconds(arguments.budget, "auto: --budget")
    assert budget is not None, "it has a default"
    found = guessed(arguments, [arguments.file, *arguments.files])
    with busy("starting"):
        from hf_trainpipe.studies.auto import auto as make
        from hf_trainpipe.studies.runs import Launch
        from hf_trainpipe.tracking.console import Console

    folder = arguments.study_dir or Path("studies") / f"auto-{Path(arguments.file).name.partition('.')[0]}"
    study = make(
        found,
        folder,
        budget=budget,
        console=Console(0),
        model=arguments.model,
        launch=Launch(ranks=arguments.ranks),
    )
    print_result({**study.to_json(), "study": str(folder)}, arguments, lambda _: _shown(study))
    return 0


def _shown(study: Study) -> str:
    best = study.best
    assert best is not None, "a study without a run ends with an error"
    runs = f"{len(study.tried)} runs in {study.spent / 60:.1f} of {study.budget / 60:g} minutes"
    lines = [
        ("result", study.verdict),
        ("best", f"{' '.join(study.portfolio[best.candidate])}, {best.steps:,} steps; {runs}"),
        ("package", f"{study.folder / 'best' / 'package'}"),
        ("recipe", f"hf-trainpipe train {study.folder / 'recipe.py'}"),
    ]
    return facts(lines)
