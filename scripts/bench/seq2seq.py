"""Multi30k, English to German, from random weights: this project beside Seq2SeqTrainer, on one thread, in fp32.

    python scripts/bench/seq2seq.py prepare --data-dir ../shared/data --folder FOLDER
    python scripts/bench/seq2seq.py ours --folder FOLDER
    python scripts/bench/seq2seq.py trainer --folder FOLDER
    python scripts/bench/seq2seq.py page --folder FOLDER

Both begin with the same weights and tokenizer, take the same number of steps of the same number of pairs, with the same
schedule, dropout and label smoothing, and translate the test split with the last weights, the most probable token each time.
The Trainer is as its documentation has it: random batches, padded to their longest by DataCollatorForSeq2Seq. Speed is target
tokens a second of the process's own CPU time in the middle step, so that a busy machine does not count. Each side may be
stopped and started again: it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads import read_rows

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
SPLITS = {"train": "train", "test": "test_2016_flickr"}
SIZES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
         "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "d_model": 128}  # fmt: skip
VOCABULARY, PAIRS, RATE, WARMUP, SMOOTHING, LENGTH, WRITTEN = 4000, 64, 3e-3, 0.1, 0.1, 64, 48
SEED = 17


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    return read_rows(folder / f"{split}.jsonl")


def prepare(data: Path, folder: Path) -> None:
    """Rows as JSON, a tokenizer of both languages, and a model with random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        sides = []
        for language in ("en", "de"):
            with gzip.open(data / "multi30k" / f"{name}.{language}.gz", "rt", encoding="utf-8") as stream:
                sides.append(list(stream))
        pairs = [{"en": en.strip(), "de": de.strip()} for en, de in zip(*sides, strict=True)]
        lines = [json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    backend.train_from_iterator((pair[name] for pair in rows_of(folder, "train") for name in ("en", "de")), trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=LENGTH
    )
    tokenizer.save_pretrained(folder / "model")
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    torch.manual_seed(SEED)
    config = MarianConfig(
        vocab_size=len(tokenizer), max_position_embeddings=LENGTH, scale_embedding=True, dropout=0.1, **SIZES, **ids
    )
    MarianMTModel(config).save_pretrained(folder / "model")


def note(folder: Path, side: str, **told: Any) -> None:
    with (folder / f"{side}.jsonl").open("a") as stream:
        stream.write(json.dumps(told) + "\n")


def ours(folder: Path, steps: int) -> None:
    from hf_trainpipe import Budget, Files, Optim, Pretrained, Recipe, Tokens, Translation
    from hf_trainpipe import execute as run
    from hf_trainpipe.training import execute
    from hf_trainpipe.training.loop import train

    def watched(*args: Any) -> Iterator[Any]:
        since = time.process_time()
        for report in train(*args):
            note(folder, "ours-steps", step=report.step, cpu=time.process_time() - since, targets=report.count)
            yield report
            since = time.process_time()

    execute.train = watched
    result = run(
        Recipe(
            name="multi30k",
            model=Pretrained(str(folder / "model")),
            data=Files(train="train.jsonl", test="test.jsonl", root=str(folder)),
            task=Translation("en", "de", label_smoothing=SMOOTHING, target_max_length=LENGTH, max_new_tokens=WRITTEN),
            tokens=Tokens(max_length=LENGTH),
            optim=Optim(peak_lr=RATE, warmup=WARMUP, weight_decay=0.0, precision="fp32"),
            budget=Budget(epochs=1000, max_steps=steps, examples_per_step=PAIRS, save_every=50, log_every=50),
            seed=SEED,
        ),
        run_dir=folder / "ours",
    )
    (folder / "ours.json").write_text(json.dumps(result.scores["test"]))


def trainer(folder: Path, steps: int) -> None:
    import torch
    import transformers
    from datasets import Dataset
    from sacrebleu.metrics import BLEU, CHRF

    transformers.set_seed(SEED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.MarianMTModel.from_pretrained(folder / "model")

    def encoded(split: str) -> Dataset:
        rows = rows_of(folder, split)
        options = {"truncation": True, "max_length": LENGTH}
        labels = tokenizer(text_target=[row["de"] for row in rows], **options).input_ids
        ids = tokenizer([row["en"] for row in rows], **options).input_ids
        return Dataset.from_dict(
            {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": labels}
        )

    collate = transformers.DataCollatorForSeq2Seq(tokenizer, model=model)
    targets: list[int] = []

    def collated(features: list[Any]) -> Any:
        batch = collate(features)
        targets.append(int((batch["labels"] != -100).sum()))
        return batch

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        since = time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = time.process_time()
            note(folder, "trainer-steps", step=state.global_step, cpu=now - self.since, targets=targets[-1])
            self.since = now

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = time.process_time()

    torch.set_num_threads(1)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=steps, per_device_train_batch_size=PAIRS, learning_rate=RATE,
        warmup_steps=int(WARMUP * steps), weight_decay=0.0, label_smoothing_factor=SMOOTHING, save_steps=50,
        save_total_limit=1, logging_steps=50, seed=SEED, report_to=[], predict_with_generate=True, use_cpu=True,
        per_device_eval_batch_size=32, disable_tqdm=True,
    )  # fmt: skip
    one = transformers.Seq2SeqTrainer(
        model, arguments, data_collator=collated, train_dataset=encoded("train"), processing_class=tokenizer,
        callbacks=[Watch()],
    )  # fmt: skip
    begun = any((folder / "trainer").glob("checkpoint-*"))
    one.train(resume_from_checkpoint=begun)
    found = one.predict(encoded("test"), max_new_tokens=WRITTEN, num_beams=1, do_sample=False)
    ids = [[token for token in row if token >= 0] for row in found.predictions.tolist()]
    written = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    right = [[row["de"] for row in rows_of(folder, "test")]]
    scores = {
        "bleu": BLEU(force=True).corpus_score(written, right).score,
        "chrf": CHRF().corpus_score(written, right).score,
    }
    (folder / "trainer.json").write_text(json.dumps({name: {"value": value} for name, value in scores.items()}))


def speed(folder: Path, side: str) -> tuple[float, int, str]:
    """Target tokens a CPU-second in the middle step, steps, and nine tenths of the steps; one taken twice counts once."""
    lines = [json.loads(line) for line in (folder / f"{side}-steps.jsonl").read_text().splitlines()]
    steps = {line["step"]: line["targets"] / line["cpu"] for line in lines}
    tenths = statistics.quantiles(steps.values(), n=20)
    return statistics.median(steps.values()), len(steps), f"{tenths[0]:,.0f} to {tenths[-1]:,.0f}"


def page(folder: Path) -> str:
    """The page, of what both sides left in the folder."""
    import transformers

    found = {side: json.loads((folder / f"{side}.json").read_text()) for side in ("trainer", "ours")}
    rates = {side: speed(folder, side) for side in found}
    rows = [
        f"| {name} | {rates[side][1]:,} | {rates[side][0]:,.0f} | {rates[side][2]} | {found[side]['bleu']['value']:.2f} | {found[side]['chrf']['value']:.2f} |"
        for side, name in (("trainer", f"Seq2SeqTrainer {transformers.__version__}"), ("ours", "hf_trainpipe"))
    ]
    bleu = found["ours"]["bleu"]
    gap = bleu["value"] - found["trainer"]["bleu"]["value"]
    return f"""# Multi30k from random weights, beside Seq2SeqTrainer

```
python scripts/bench/seq2seq.py prepare --data-dir ../shared/data --folder FOLDER
python scripts/bench/seq2seq.py ours --folder FOLDER
python scripts/bench/seq2seq.py trainer --folder FOLDER
python scripts/bench/seq2seq.py page --folder FOLDER
```

English to German, 29,000 pairs; a Marian of {SIZES["encoder_layers"]} + {SIZES["decoder_layers"]} layers, {SIZES["d_model"]} wide, {VOCABULARY:,} tokens, {PAIRS} pairs a step; one thread, fp32. Both
begin with the same weights and translate the 1,000 pairs of test_2016_flickr with the last ones, greedily. Target tokens
are real ones, a second of the process's own CPU time, in the middle step.

|  | steps | target tokens / CPU-s | nine tenths of the steps | BLEU | chrF2 |
|---|---|---|---|---|---|
{chr(10).join(rows)}

- BLEU differs by {gap:+.2f}; the 95 % interval of ours over the test pairs is {bleu["low"]:.2f} to {bleu["high"]:.2f}. `{bleu["signature"]}`
- {rates["ours"][0] / rates["trainer"][0]:.2f} times the target tokens a second.
- The machine was busy with other work, one side ran after the other, and both were stopped and continued several times.
- One seed, and few steps for this data: the scores are those of a beginner, and say only that both learn alike.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "ours", "trainer", "page"))
    parser.add_argument("--folder", type=Path, required=True, help="what is made, and both runs")
    parser.add_argument("--data-dir", type=Path, help="folder of the public data sets, for prepare")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.what == "prepare":
        if options.data_dir is None:
            parser.error("expected --data-dir")
        prepare(options.data_dir, folder)
    elif options.what == "page":
        (RESULTS / "seq2seq.md").write_text(page(folder), encoding="utf-8")
    else:
        (ours if options.what == "ours" else trainer)(folder, options.steps)


if __name__ == "__main__":
    main()
