"""The cost of checkpoints: time that a save blocks training, and total time, compared with the Trainer.

    python scripts/bench/save.py [--repeats 5] [--report]

Both sides fine-tune MiniLM (22.7 M parameters, AdamW: 272 MB a checkpoint) on the quickstart's messages, 32 a step,
and save three times, on the same disk, each in its own process, one after the other. *Blocked* is the time that the
training thread spends in a save. *In all* is a third of what three saves add to the wall-clock time of the same steps:
background writing takes CPU time too. The Trainer's save ends when the files are handed to the system; this project's
ends, in the background, when they are on disk and were read back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from public_data import model_folder  # noqa: E402
from results import environment, markdown_table  # noqa: E402

STEPS, EVERY, EXAMPLES = 24, 8, 32
SIDES = ("trainer", "ours", "trainer-unsaved", "ours-unsaved")


def trainer(folder: Path, *, saves: bool) -> dict[str, Any]:
    """The HF Trainer with its defaults."""
    import transformers

    from hf_trainpipe.quickstart import SupportMessages

    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=8)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    messages = SupportMessages().messages()["train"]
    names = sorted({intent for _, intent in messages})
    rows = [
        {**tokenizer(text, truncation=True, max_length=128), "labels": names.index(intent)} for text, intent in messages
    ]
    blocked = []

    class Timed(transformers.Trainer):  # type: ignore[misc]
        def _save_checkpoint(self, *args: Any, **options: Any) -> None:
            started = time.perf_counter()
            super()._save_checkpoint(*args, **options)
            blocked.append(time.perf_counter() - started)

    training = Timed(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=STEPS,
            per_device_train_batch_size=EXAMPLES,
            save_strategy="steps" if saves else "no",
            save_steps=EVERY,
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=rows,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    started = time.perf_counter()
    training.train()
    return {"blocked": blocked, "seconds": time.perf_counter() - started}


def ours(folder: Path, *, saves: bool) -> dict[str, Any]:
    """The same steps here; the last save is waited for, so that its writing is paid for, too."""
    from hf_trainpipe.recipe_file import load, override
    from hf_trainpipe.training.checkpointing import Checkpointing
    from hf_trainpipe.training.loop import train
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.options import RunOptions
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    recipe, source = load(str(ROOT / "recipes/quickstart.py"))
    recipe = override(recipe, ["--budget.max-steps", str(STEPS), "--budget.examples-per-step", str(EXAMPLES)])
    blocked = []
    with set_up(recipe, RunOptions(source=source, resume="never"), run_dir=folder) as ready:
        run = Run(ready)
        with TrainingLog(run) as log, Checkpointing(run, log) as checkpoints:
            checkpoints.restore()
            started = time.perf_counter()
            for report in train(run):
                log.log_step(report)
                if saves and report.step % EVERY == 0:
                    before = time.perf_counter()
                    checkpoints.save()
                    blocked.append(time.perf_counter() - before)
            if saves:
                checkpoints.save(wait=True)
            seconds = time.perf_counter() - started
    return {"blocked": blocked, "seconds": seconds}


def measure(side: str) -> dict[str, Any]:
    """One side in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--side", side], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def summarize(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Milliseconds a save: blocked (median, least, most over all saves), and in all (median over the repeats)."""
    saves = STEPS // EVERY
    result = {}
    for side in ("trainer", "ours"):
        blocked = [1000 * seconds for one in found[side] for seconds in one["blocked"]]
        added = [
            1000 * (one["seconds"] - without["seconds"]) / saves
            for one, without in zip(found[side], found[f"{side}-unsaved"], strict=True)
        ]
        result[side] = {
            "blocked_ms": statistics.median(blocked),
            "blocked_least_ms": min(blocked),
            "blocked_most_ms": max(blocked),
            "in_all_ms": statistics.median(added),
            "in_all_least_ms": min(added),
            "in_all_most_ms": max(added),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="write docs/results/save.json and save.md")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory(prefix=".bench-save-", dir=ROOT) as folder:
            side = trainer if options.side.startswith("trainer") else ours
            found = side(Path(folder) / "run", saves=not options.side.endswith("-unsaved"))
        print(json.dumps(found))
        return
    every: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(options.repeats):
        for side in SIDES:
            every[side].append(measure(side))
        print(f"repeat {repeat + 1} of {options.repeats} done", file=sys.stderr, flush=True)
    sides = summarize(every)
    table = markdown_table(
        ("a save, ms", "blocked: median", "least to most", "in all: median", "least to most"),
        [
            (
                name,
                f"{one['blocked_ms']:.0f}",
                f"{one['blocked_least_ms']:.0f} to {one['blocked_most_ms']:.0f}",
                f"{one['in_all_ms']:.0f}",
                f"{one['in_all_least_ms']:.0f} to {one['in_all_most_ms']:.0f}",
            )
            for name, one in (("HF Trainer", sides["trainer"]), ("hf_trainpipe", sides["ours"]))
        ],
    )
    ratio = sides["ours"]["blocked_ms"] / sides["trainer"]["blocked_ms"]
    text = f"{table}\n\nBlocked time, hf_trainpipe / Trainer: {ratio:.2f}"
    print(text)
    if options.report:
        place = ROOT / "docs/results"
        document = {"ratio_blocked": ratio, "sides": sides, "runs": every, "environment": environment()}
        (place / "save.json").write_text(json.dumps(document, indent=1) + "\n")
        command = f"python scripts/bench/save.py --repeats {options.repeats} --report"
        machine = ", ".join(f"{name} {value}" for name, value in environment().items())
        page = f"# What a checkpoint costs\n\n```\n{command}\n```\n\n{machine}.\n\n{__doc__.split(chr(10) * 2, 2)[2]}\n{text}\n"
        (place / "save.md").write_text(page)


if __name__ == "__main__":
    main()
