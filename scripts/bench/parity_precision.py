"""Does a precision of the training steps cost anything in the scores? SST-2 with MiniLM, the same seeds in each precision.

    python scripts/bench/parity_precision.py prepare FOLDER --data-dir ../shared/data
    python scripts/bench/parity_precision.py run FOLDER --precisions bf16,bf16-pure --seeds 1,2,3

`prepare` writes all that a machine without a network needs into a folder of 32 MB: the sentences, and the model with its
weights rounded to fp16 and its vocabulary cut to what the sentences use, so that their ids are others but their tokens the same.
`run` trains all at the same time, each in a process of its own, on the device that there is, as the recipe trains them otherwise
(peak rate 5e-5, 32 examples a step), and appends each result to FOLDER/results.jsonl, from which the table is made; what is there
already is not trained again. Scores are those of the package, in fp32, after the last step.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import last_json, ledger_of, series
from public_data import Row, model_folder, text_of
from results import append_jsonl, markdown_table, read_jsonl

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ("stsa.binary.train.gz", "stsa.binary.dev", "stsa.binary.test")
MEASURES = {"test": "test accuracy, points", "validation": "validation accuracy, points", "loss": "validation loss"}


def prepare(folder: Path, data_dir: Path, rows: int | None) -> None:
    """Write the sentences and the model.

    Args:
        rows: Sentences of the training split; None: all.
    """
    texts = []
    (folder / "sentences").mkdir(parents=True, exist_ok=True)
    for name in SENTENCES:
        lines = list(text_of(data_dir / "sst2" / "sentences" / name))
        lines = lines[:rows] if name.endswith(".gz") else lines
        content = "".join(f"{line}\n" for line in lines).encode()
        path = folder / "sentences" / name
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        texts += [line.split(" ", 1)[1] for line in lines]
    cut_model(folder / "model", texts)


def cut_model(folder: Path, texts: list[str]) -> None:
    """The pretrained model in fp16, with the special tokens and those of some texts alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertTokenizerFast

    source = model_folder()
    whole = AutoTokenizer.from_pretrained(source)
    used = {one for ids in whole(texts, add_special_tokens=False)["input_ids"] for one in ids}
    kept = sorted(used | set(whole.all_special_ids))
    folder.mkdir(parents=True, exist_ok=True)
    words = [whole.convert_ids_to_tokens(one) for one in kept]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=512)
    tokens, found = (one(texts, add_special_tokens=False)["input_ids"] for one in (whole, tokenizer))
    assert [[kept[one] for one in ids] for ids in found] == tokens, "the cut vocabulary gives other tokens"
    model = AutoModel.from_pretrained(source, dtype=torch.float32)
    table = model.get_input_embeddings()
    table.weight = torch.nn.Parameter(table.weight[torch.tensor(kept)].clone())
    table.num_embeddings = model.config.vocab_size = len(kept)
    table.padding_idx = model.config.pad_token_id = int(tokenizer.pad_token_id or 0)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def begin(folder: Path, precision: str, seed: int, options: argparse.Namespace, threads: int) -> subprocess.Popen[str]:
    """Start one training; its run directory is inside the folder."""
    run_dir = folder / "runs" / f"{precision}-{seed}"
    run_dir.parent.mkdir(exist_ok=True)
    command = [
        sys.executable, str(Path(__file__).with_name("parity_ours.py")), "--",
        "train", f"{ROOT / 'recipes/sst2.py'}:files",
        "--run-dir", str(run_dir), "--resume", "never", "--seed", str(seed),
        "--data.root", str(folder), "--model.name", str(folder / "model"), "--model.sha256", "none",
        "--optim.precision", precision, "--budget.epochs", str(options.epochs),
        "--budget.evaluate-every", "1000000",  # once, after the last step
        "--evaluation.resamples", "20", "--json",
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "HF_TRAINPIPE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    own |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_TRAINPIPE_CACHE": str(folder / "cache")}
    with (folder / "runs" / f"{precision}-{seed}.log").open("w") as log:
        return subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=log, text=True)


def result_of(folder: Path, precision: str, seed: int, said: str, epochs: float) -> Row:
    scores = last_json(said)["scores"]
    losses = series(ledger_of(folder / f"runs/{precision}-{seed}"), "validation/loss")
    accuracy = {split: 100 * scores[split]["accuracy"]["value"] for split in ("test", "validation")}
    return {"precision": precision, "seed": seed, "epochs": epochs, **accuracy, "loss": losses[-1]["value"]}


def table_of(found: list[Row], precisions: list[str]) -> str:
    """Mean and spread of each measure by precision, and each seed; differences are to the first precision."""
    rows = []
    for measure, title in MEASURES.items():
        values = {one: [row[measure] for row in found if row["precision"] == one] for one in precisions}
        base = values[precisions[0]]
        for precision, scores in values.items():
            spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
            off = statistics.mean(scores) - statistics.mean(base)
            each = " ".join(f"{score:.4g}" for score in scores)
            rows.append([title, precision, f"{statistics.mean(scores):.4g}", f"{spread:.2g}", f"{off:+.2g}", each])
    return markdown_table(["score", "precision", "mean", "sd", "difference", "each seed"], rows)


def run(options: argparse.Namespace) -> int:
    folder, precisions = options.folder.resolve(), options.precisions.split(",")
    seeds, results = [int(seed) for seed in options.seeds.split(",")], folder / "results.jsonl"
    wanted = [(precision, seed) for seed in seeds for precision in precisions]

    def known() -> dict[tuple[str, int], Row]:
        rows = read_jsonl(results)
        return {(row["precision"], row["seed"]): row for row in rows if row["epochs"] == options.epochs}

    missing = [one for one in wanted if one not in known()]
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, min(len(missing), options.at_once)))
    started, failed = time.monotonic(), 0
    for at in range(0, len(missing), options.at_once):
        some = missing[at : at + options.at_once]
        running = {one: begin(folder, *one, options, threads) for one in some}
        for one, process in running.items():
            said, _ = process.communicate()
            if process.returncode != 0:
                failed += 1
                log = folder / "runs" / f"{one[0]}-{one[1]}.log"
                print(f"{one}: exit {process.returncode}\n{log.read_text()[-2000:]}", file=sys.stderr)
                continue
            append_jsonl(results, result_of(folder, *one, said, options.epochs))
    there = known()
    print(f"{len(missing) - failed} trainings in {time.monotonic() - started:.0f} s\n")
    lacking = [one for one in wanted if one not in there]
    print(f"not complete: {lacking}" if lacking else table_of([there[one] for one in wanted], precisions))
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("prepare")
    second = verbs.add_parser("run")
    for one in (first, second):
        one.add_argument("folder", type=Path)
    first.add_argument("--data-dir", type=Path, required=True, help="folder of the public data sets")
    first.add_argument("--rows", type=int, help="sentences to train on; default: all 6,920")
    second.add_argument("--precisions", default="bf16,bf16-pure", help="of optim.precision; the first is compared with")
    second.add_argument("--seeds", default="1,2,3")
    second.add_argument("--epochs", type=float, default=2.0)
    second.add_argument("--at-once", type=int, default=6, help="trainings at the same time")
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(options.folder, options.data_dir, options.rows)
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
