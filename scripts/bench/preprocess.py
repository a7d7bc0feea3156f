"""B6: tokenizing raw texts for training, cold and warm, compared with `datasets.map` and the tokenizer alone.

    python scripts/bench/preprocess.py --data-dir ../shared/data

The texts of the largest data sets; each side in its own process, without the time of imports and of reading files.
Sides: `bare`, one `encode_batch_fast` of the tokenizer (the lower limit of a cold start); `map`, `datasets.map` with the
fast tokenizer, batched, with defaults; `map-processes`, that with one process per core; `ours`, this project's token
cache (`hf_trainpipe.data.encode`); `prepared`, all of `hf_trainpipe.data.prepare` after reading: audit, labels, targets
and tokens. *Cold*: without a cache; *warm*: a second call with the cache of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, last_json, run_process
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import Workload, make_workload, open_workload, scratch

CASES = ("sst2-phrases", "go_emotions", "ag_news", "sst2")
SIDES = ("bare", "map", "map-processes", "ours", "prepared")


def load_tokenizer(workload: Workload) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(workload.model)


def bare(workload: Workload, texts: list[str], caches: Path) -> Any:
    backend = load_tokenizer(workload).backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(workload.max_length)
    return lambda: sum(len(one.ids) for one in backend.encode_batch_fast(texts))


def mapped(workload: Workload, texts: list[str], caches: Path, processes: int | None) -> Any:
    import datasets

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(workload)
    file = caches / "texts.arrow"
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(file))
    rows = datasets.load_from_disk(str(file))

    def tokens(batch: Any) -> Any:
        return tokenizer(batch["text"], truncation=True, max_length=workload.max_length)

    def act() -> int:
        found = rows.map(tokens, batched=True, num_proc=processes)
        return sum(len(ids) for ids in found.select(range(min(10, len(found))))["input_ids"]) and -1

    return act


def ours(workload: Workload, texts: list[str], caches: Path) -> Any:
    from hf_trainpipe import TextClassification
    from hf_trainpipe.data.encode import content_digest, encode_cached
    from hf_trainpipe.runtime.tokens.encoder import Encoder

    encoder = Encoder(load_tokenizer(workload), max_length=workload.max_length, overflow="truncate")

    def act() -> int:
        inputs = {"text": texts}
        features = encode_cached(
            inputs, task=TextClassification(), encoder=encoder, split="train", content=content_digest(inputs),
            root=caches, place=str, say=lambda _: None,
        )  # fmt: skip
        return features.num_tokens

    return act


def prepared(workload: Workload, texts: list[str], caches: Path) -> Any:
    from hf_trainpipe.data.prepare import prepare
    from hf_trainpipe.recipe_file import load, override

    recipe, _ = load(str(workload.folder / "recipe.py"))
    recipe = override(recipe, ["--data.root", str(workload.folder)])
    tokenizer = load_tokenizer(workload)
    rows = {"train": recipe.data.splits()["train"]}

    def act() -> int:
        found = prepare(
            recipe, tokenizer=tokenizer, max_length=workload.max_length, vocab_size=None, root=caches,
            say=lambda _: None, splits=rows,
        )  # fmt: skip
        return int(found.train.lengths.sum())

    return act


def timed(side: str, workload: Workload) -> Row:
    """Seconds of the first and of the second call; ``tokens`` is -1 where a side does not count them."""
    texts = [row["text"] for row in workload.train]
    with scratch() as caches:
        if side.startswith("map"):
            processes = len(os.sched_getaffinity(0)) if side == "map-processes" else None
            act = mapped(workload, texts, caches, processes)
        else:
            act = {"bare": bare, "ours": ours, "prepared": prepared}[side](workload, texts, caches)
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            tokens = act()
            seconds.append(time.perf_counter() - started)
    size = sum(len(text.encode()) for text in texts)
    return {"examples": len(texts), "bytes": size, "tokens": tokens, "cold": seconds[0], "warm": seconds[1]}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        rows = []
        examples = {one["examples"] for found in sides.values() for one in found}
        tokens = {one["tokens"] for found in sides.values() for one in found if one["tokens"] >= 0}
        assert len(examples) == 1, f"the sides saw different numbers of examples: {examples}"
        assert len(tokens) <= 1, f"the sides made different numbers of tokens: {tokens}"
        for side, found in sides.items():
            over_bare = ratio(sides, side, "bare", "cold")
            of_map = ratio(sides, "map", side, "cold")
            ratios[f"{case}: {side} / bare, cold"] = over_bare
            ratios[f"{case}: map / {side}, cold"] = of_map
            if side != "bare":
                ratios[f"{case}: {side}, warm seconds"] = spread([one["warm"] for one in found])
            rows.append(
                (
                    side,
                    spread([one["cold"] for one in found]).text(),
                    spread([one["bytes"] / 1e6 / one["cold"] for one in found]).text(".1f"),
                    over_bare.text() if over_bare else "-",
                    of_map.text() if of_map else "-",
                    "-" if side == "bare" else spread([one["warm"] for one in found]).text(".3f"),
                )
            )
        header = ("side", "cold, s", "MB/s", "it / bare", "map / it", "warm, s")
        tables.append(Table(f"{case}: {''.join(f'{n:,}' for n in examples)} texts, each side", header, rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-preprocess.json")
    parser.add_argument("--cases", default=",".join(CASES), help=f"among {', '.join(CASES)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"among {', '.join(SIDES)}")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.side:
        print(json.dumps(timed(options.side, open_workload(options.folder))))
        return
    options = parse(parser, argv)
    cases = names_of(options.cases, CASES, parser)[: 1 if options.quick or options.smoke else None]
    chosen = names_of(options.sides, SIDES, parser)
    with scratch() as place:
        workloads = {case: make_workload(case, options, place / case, score_rows=64) for case in cases}

        def measure(case: str, side: str) -> Row:
            folder = workloads[case].folder
            command = [sys.executable, str(BENCH / "preprocess.py"), "--side", side, "--folder", str(folder)]
            return last_json(run_process(command, folder=folder))

        compare(
            options, cases, lambda case: chosen, measure, summary,
            benchmark="B6", title="raw texts to tokens", doc=__doc__, settings={},
        )  # fmt: skip


if __name__ == "__main__":
    main()
