"""B12: evaluation, and a package's answers, on a GPU.

    python scripts/bench/gpu_predict.py
    python scripts/bench/gpu_predict.py --cases predict --minutes 3 --repeats 1

20,000 texts made by code, as long as SST-2's sentences, and BERT-base with random weights and a head under which about half of
the texts get either label. Each side runs in a process of its own, answers some texts first that are not counted, then all of
them three times; the best of those counts. Tokenising counts for `predict`, not for `evaluation`, whose texts both sides have
tokenised before.

`evaluation`: an evaluation of a run, from the end of a step to the scores. Sides: `ours` (bf16, as runs on a GPU evaluate while
they train), `ours-fp32` (as they score at their end), `trainer` (`Trainer.evaluate` as it comes: fp32, batches of 8),
`tuned-fp32` and `tuned-bf16` (batches of 64 grouped by length; `bf16_full_eval`). `predict`: texts in, labels with scores out.
Sides: `ours-fp32`, `ours-bf16`, `ours-fp16` (`hf_trainpipe.load(PACKAGE, precision=...)`, behind its gate), `pipeline`
(`transformers.pipeline` as it comes: fp32, text by text), `tuned-fp32` and `tuned-bf16` (batches of 64 of the texts sorted by
length). `trainer` and `pipeline` do a part of the texts, so many as the table says; their speed is that part's.

Labels are compared with those of `ours-fp32`: `elsewhere` counts texts whose label differs though its two probabilities were
more than 0.04 apart in fp32. Accuracies of `evaluation` may differ by 0.02. Without a GPU it prints a line and exits; `--smoke`
runs on a CPU with a tiny model.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu import LONG_TOKENS, VOCABULARY, made_texts
from processes import BENCH, FP32, INTERRUPTED, last_json, ledger_of, run_process, series, train_command
from public_data import Row, model_folder
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import Workload, random_model, scratch, smoke_model, write_workload

SIDES = {
    "evaluation": ("ours", "ours-fp32", "trainer", "tuned-fp32", "tuned-bf16"),
    "predict": ("ours-fp32", "ours-bf16", "ours-fp16", "pipeline", "tuned-fp32", "tuned-bf16"),
}
TEXTS, SMOKE_TEXTS = 20_000, 96
PART = {"trainer": 5_000, "pipeline": 1_000}
TIMES = 3
MARGIN = 0.04
"""Two probabilities that are nearer may change places in 16 bits: twice what a package's gate allows."""
ACCURACY = 0.02
HEAD = 64
"""Texts by which the head is set."""


def precision_of(side: str) -> str:
    """What a side multiplies in."""
    return side.rpartition("-")[2] if "-" in side else "bf16" if side == "ours" else "fp32"


def make_workload(options: Any, folder: Path) -> Workload:
    """The texts, as the validation split of a run, and the model."""
    rows = made_texts(HEAD + (SMOKE_TEXTS if options.smoke else options.texts))
    names = {0: "negative", 1: "positive"}
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    model = folder / "model"
    if options.smoke:
        words = smoke_model(folder / "words")
        tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        random_model("bert", model, words, initializer_range=0.2, **tiny, **labels)
    else:
        words = str(tokenizer_folder(folder))
        random_model("bert", model, words, vocab_size=VOCABULARY, longest=LONG_TOKENS, initializer_range=0.05, **labels)
    decide(model, [row["text"] for row in rows[:HEAD]])
    return write_workload(
        "sst2", folder, model=str(model), train=rows[:HEAD], validation=rows[HEAD:], smoke=options.smoke
    )


def tokenizer_folder(folder: Path) -> Path:
    """MiniLM's, where it is installed; else one of words made by code."""
    from hf_trainpipe.testing import tiny_model

    try:
        return model_folder()
    except ImportError:
        return tiny_model(folder / "words")


def decide(folder: Path, texts: list[str]) -> None:
    """Set the head so that the difference of the two logits has mean 0 and deviation 0.3 over some texts."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    apart = logits[:, 1] - logits[:, 0]
    times = float(0.3 / apart.std())
    with torch.no_grad():
        model.classifier.weight.mul_(times)
        model.classifier.bias.mul_(times)
        model.classifier.bias[1] -= times * float(apart.mean())
    model.save_pretrained(folder)


def write_package(workload: Workload, folder: Path) -> Path:
    """A package of the model as it is, with recorded predictions beside it; returns it."""
    import transformers

    from hf_trainpipe import TextClassification
    from hf_trainpipe.package.card import CardFacts
    from hf_trainpipe.package.verify import record
    from hf_trainpipe.package.write import write
    from hf_trainpipe.runtime.handler.predictor import Predictor

    package = write(
        folder / "package",
        model=transformers.AutoModelForSequenceClassification.from_pretrained(workload.model),
        tokenizer=transformers.AutoTokenizer.from_pretrained(workload.model),
        task=TextClassification(names=("negative", "positive")),
        tokens={"max_length": workload.max_length, "overflow": "truncate", "stride": 0},
        card=CardFacts(),
        name="bench",
    )
    texts = [row["text"] for row in workload.train]
    record(Predictor.load(package, precision="fp32").record(texts), texts, folder / "recorded.jsonl")
    return package


def evaluate_ours(workload: Workload, side: str) -> Row:
    """Steps of a single text that change nothing, an evaluation after each; the first is the warm-up."""
    with scratch() as folder:
        run, steps = folder / "run", TIMES + 2
        arguments = [
            "--budget.max-steps", str(steps), "--budget.evaluate-every", "1", "--budget.log-every", "1",
            "--budget.save-every", str(steps), "--budget.examples-per-step", "1", "--optim.peak-lr", "1e-12",
            "--optim.graphs", "false", "--planned-stop", f"stop:{steps}",
            *(FP32 if side == "ours-fp32" else ()),
        ]  # fmt: skip
        run_process(train_command(workload, run, *arguments), folder=folder, exit_code=INTERRUPTED)
        ledger = ledger_of(run)
    starts, ends = series(ledger, "train/lr"), series(ledger, "validation/loss")
    spans = [end["time"] - start["time"] for start, end in zip(starts, ends, strict=False)]
    return {"seconds": spans[1 : 1 + TIMES], "accuracy": series(ledger, "validation/accuracy")[0]["value"]}


def measured(case: str, side: str, workload: Workload, package: Path | None, options: Any) -> Row:
    """One side's figures: ``examples``, ``seconds`` (the best), ``texts_per_second``, and its answers in brief."""
    total = SMOKE_TEXTS if options.smoke else options.texts
    count = min(PART.get(side, total), total)
    device = ["--device", "cpu" if options.smoke else "cuda"]
    if case == "evaluation" and side.startswith("ours"):
        found = evaluate_ours(workload, side)
    else:
        who = "gpu_predict_ours.py" if side.startswith("ours") else "gpu_predict_peer.py"
        command = [sys.executable, str(BENCH / who), case, "--folder", str(workload.folder), "--way", side]
        command += ["--package", str(package)] if side.startswith("ours") else []
        with scratch() as folder:
            command += [
                *device,
                "--count",
                str(count),
                "--times",
                str(TIMES),
                "--answers",
                str(folder / "answers.json"),
            ]
            found = last_json(run_process(command, folder=folder))
            if case == "predict":
                found["answers"] = json.loads((folder / "answers.json").read_text())
    seconds = min(found.pop("seconds"))
    return {**found, "examples": count, "seconds": seconds, "texts_per_second": count / seconds}


def agreement(answers: list[Any], reference: list[Any]) -> Row:
    """``same``: the share of texts with the label of the reference; ``elsewhere``: others beyond :data:`MARGIN`."""
    differ = [place for place, (label, _) in enumerate(answers) if label != reference[place][0]]
    far = [place for place in differ if 2 * reference[place][1] - 1 > MARGIN]
    return {"same": 1 - len(differ) / len(answers), "elsewhere": len(far)}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        mine = [side for side in sides if side.startswith("ours")]
        rows = []
        for side, found in sides.items():
            if not found:
                continue
            cells = []
            for one in mine:
                against = ratios[f"{case}: {one} / {side}"] = ratio(sides, one, side, "texts_per_second")
                cells.append(against.text() if against else "-")
            speed = spread([one["texts_per_second"] for one in found]).text(",.0f")
            rows.append((side, precision_of(side), f"{found[0]['examples']:,}", speed, *cells, told(found[0])))
        if rows:
            header = ("side", "in", "texts", "texts/s", *(f"{one} / it" for one in mine), "answers")
            tables.append(Table(f"{case}, each side in its precision", header, rows))
    return ratios, tables


def told(found: Row) -> str:
    if "accuracy" in found:
        return f"accuracy {found['accuracy']:.4f}"
    return f"{found['same']:.2%} as ours-fp32, {found['elsewhere']} elsewhere" if "same" in found else "-"


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-gpu-predict.json", repeats=2, data=False)
    parser.add_argument("--cases", default=",".join(SIDES), help=f"among {', '.join(SIDES)}")
    parser.add_argument("--sides", help="those of the cases; by default all")
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument(
        "--minutes", type=float, help="begin no case or repeat that would likely end later; default: all"
    )
    options = parser.parse_args(argv)
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print("gpu_predict.py: there is no CUDA device here; nothing was measured.")
        return
    options = parse(parser, argv)
    cases = names_of(options.cases, tuple(SIDES), parser)[: 1 if options.quick else None]
    known = tuple(dict.fromkeys(side for case in cases for side in SIDES[case]))
    asked = names_of(options.sides, known, parser) if options.sides else known
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    device = "CPU (smoke)" if options.smoke else torch.cuda.get_device_name()
    reference: list[Any] = []
    with scratch() as place:
        workload = make_workload(options, place)
        package = write_package(workload, place) if "predict" in cases else None
        accuracies: dict[str, float] = {}

        def measure(case: str, side: str) -> Row:
            found = measured(case, side, workload, package if case == "predict" else None, options)
            if "accuracy" in found and side not in PART:  # those are of other texts
                accuracies[side] = found["accuracy"]
                apart = max(accuracies.values()) - min(accuracies.values())
                assert options.smoke or apart <= ACCURACY, f"the sides' accuracies differ: {accuracies}"
            if (answers := found.pop("answers", None)) is not None:
                assert len(answers) == found["examples"], (len(answers), found["examples"])
                if side == "ours-fp32" and not reference:
                    reference.extend(answers)
                if reference:
                    found |= agreement(answers, reference)
                    exact = precision_of(side) == "fp32"
                    assert not (exact and found["elsewhere"]), f"{side} gives other labels: {found}"
            return found

        compare(
            options, cases, lambda case: [side for side in SIDES[case] if side in asked], measure, summary,
            benchmark="B12", title="evaluation and a package's answers on a GPU", doc=__doc__,
            settings={"texts": options.texts, "times": TIMES, "device": device},
            notes=[f"Device: {device}."], until=end,
        )  # fmt: skip


if __name__ == "__main__":
    main()
