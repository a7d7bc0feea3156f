"""B2: real tokens a second when fine-tuning on a GPU.

    python scripts/bench/gpu.py --data-dir ../shared/data
    python scripts/bench/gpu.py --cases bert-base-long --sides ours,tuned-bf16 --minutes 4    # texts made by code

Cases: BERT-base, MiniLM-L6 and ModernBERT-base, with random weights, which take the same time, over `short` texts (SST-2
sentences, or texts as long made by code, 32 a step; of MiniLM 256) and `long` ones (documents of 8 to 512 tokens, 250 in
the mean, 64 a step). Each side trains the same number of optimizer steps in a process of its own, after some warm-up
steps (20 of the Trainer; of ours 100, or 300 with short texts, in which most shapes are recorded as CUDA graphs). Sides: `ours` (defaults),
`ours-compiled` (`--optim.compile true`, which long runs choose by themselves), `trainer` (the Trainer as it comes: fp32,
random batches), `tuned-bf16` (`bf16=True` and length grouping) and `tuned-bf16-compiled` (that with
`torch_compile=True`). The sides of a case, and of all cases of short texts, start, compile and warm up beside each other;
while steps are timed, nothing else runs. TFLOP/s are those of the real tokens: 6 for each weight of the layers and token,
and 12 for each pair of tokens, layer and hidden unit; beside them what a product of two 8192 x 8192 matrices in bf16
reaches on the same card. Without a GPU it prints a line and exits; `--smoke` runs on a CPU with a tiny model.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import train_side
from public_data import WORKLOADS, Row, model_folder
from results import Runs, Spread, Table, Together, compare, make_parser, names_of, parse, ratio, spread
from turns import shared_lock
from workloads import EXAMPLES_PER_STEP, Workload, make_workload, random_model, scratch, text_lengths, write_workload

SIZES: dict[str, tuple[str, dict[str, int]]] = {
    "bert-base": ("bert", {}),
    "minilm": (
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
    "modernbert-base": ("modernbert", {}),
}
"""The kind of model, and what of its sizes differs from a base model's."""
CASES = tuple(f"{size}-{texts}" for size in SIZES for texts in ("short", "long"))
SIDES = ("ours", "ours-compiled", "trainer", "tuned-bf16", "tuned-bf16-compiled")
ASKED = ("ours-fp32", "ours-tf32", "ours-pure", "ours-pure-compiled")
"""Sides that are measured where they are named: other values of ``--optim.precision``."""
LONG_ROWS = 8_000
LONG_TOKENS = 512
LONG_EXAMPLES, MANY_EXAMPLES = 64, 256
"""A step, of long texts and of short ones of the small model."""
VOCABULARY = 30_522
"""Rows of the embeddings, whatever the tokenizer knows."""


def made_texts(count: int, *, long: bool = False) -> list[Row]:
    """Texts of 3 to 45 common words, 20 in the mean, as SST-2's sentences have; long: of 6 to 510, evenly."""
    from hf_trainpipe.testing import BAD, GOOD, PLAIN

    generator = random.Random(5)
    rows = []
    for _ in range(count):
        label = generator.choice(("negative", "positive"))
        words = generator.randint(6, LONG_TOKENS - 2) if long else min(45, max(3, round(generator.gauss(20, 9))))
        kinds = [*PLAIN, *(GOOD if label == "positive" else BAD)]
        rows.append({"text": " ".join(generator.choices(kinds, k=words)), "label": label})
    return rows


def workload_of(case: str, options: Any, folder: Path) -> Workload:
    from hf_trainpipe.testing import tiny_model

    size, _, texts = case.rpartition("-")
    if options.smoke:
        return make_workload("sst2", options, folder, score_rows=64)
    long, made = texts == "long", options.data_dir is None
    words = tiny_model(folder / "words") if made else model_folder()
    kind, sizes = SIZES[size]
    model = random_model(kind, folder / "model", str(words), vocab_size=VOCABULARY, longest=LONG_TOKENS, **sizes)
    many = LONG_EXAMPLES if long else MANY_EXAMPLES if size == "minilm" else EXAMPLES_PER_STEP
    if made or long:
        rows = made_texts(LONG_ROWS if long else 7000, long=long)
    else:
        rows = WORKLOADS["sst2"](options.data_dir)[0]
    whole = (len(rows) - 64) // many * many  # each step is a whole one, whatever a side has done before it is timed
    return write_workload(
        "sst2", folder, model=model, train=rows[64 : 64 + whole], validation=rows[:64], smoke=False,
        steps_larger=many // EXAMPLES_PER_STEP, max_length=LONG_TOKENS if long else 128,
    )  # fmt: skip


def flops_of(workload: Workload, lengths: list[int]) -> float:
    """Floating-point operations of a training over texts of these lengths, as the plan counts them."""
    from hf_trainpipe import Pretrained, TextClassification
    from hf_trainpipe.model.facts import model_facts
    from hf_trainpipe.plan import training_flops

    facts = model_facts(Pretrained(workload.model), TextClassification(), num_labels=2)
    return sum(count * training_flops(length, 1, facts) for length, count in Counter(lengths).items())


def groups_of(cases: Sequence[str], *, all_at_once: bool) -> list[list[str]]:
    """Cases whose sides prepare beside each other: those of long texts need much of a card's memory."""
    if all_at_once:
        return [list(cases)]
    short = [case for case in cases if not case.endswith("-long")]
    return [*([short] if short else []), *([case] for case in cases if case not in short)]


def product_speed() -> float:
    """FLOP/s of products of two random 8192 x 8192 matrices in bf16."""
    import torch

    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        one @ other
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - started)


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        examples = sorted({one["examples"] for found in sides.values() for one in found})
        rows = []
        for side, found in sides.items():
            if not found:
                continue
            cells = []
            for mine in ("ours", "ours-compiled"):
                against = ratio(sides, mine, side, "tokens_per_second")
                ratios[f"{case}: {mine} / {side}"] = against
                cells.append(against.text() if against else "-")
            speed = spread([one["tokens_per_second"] for one in found]).text(",.0f")
            flops = spread([one["flops"] / one["seconds"] / 1e12 for one in found]).text(".3g")
            rows.append((side, speed, flops, *cells))
        caption = (
            f"{case}: {' to '.join(f'{n:,}' for n in dict.fromkeys(examples[:1] + examples[-1:]))} examples, each side"
        )
        if rows:
            header = ("side", "real tokens/s", "TFLOP/s", "ours / it", "ours-compiled / it")
            tables.append(Table(caption, header, rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-gpu.json", repeats=3)
    parser.add_argument("--cases", default=",".join(CASES), help=f"among {', '.join(CASES)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"among {', '.join((*SIDES, *ASKED))}")
    parser.add_argument("--steps", type=int, default=200, help="of short texts; of long ones a quarter")
    parser.add_argument(
        "--minutes", type=float, help="begin no case or repeat that would likely end later; default: all"
    )
    parser.add_argument("--one-by-one", action="store_true", help="let each side prepare alone: less memory, more time")
    parser.add_argument("--all-at-once", action="store_true", help="those of long texts too: 140 GB, less time")
    options = parser.parse_args(argv)
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print("gpu.py: there is no CUDA device here; nothing was measured.")
        return
    made = options.data_dir is None
    options = parse(parser, [*(argv if argv is not None else sys.argv[1:]), *(["--data-dir", "."] if made else [])])
    options.data_dir = None if made else options.data_dir
    cases = names_of(options.cases, CASES, parser)[: 1 if options.quick or options.smoke else None]
    chosen = names_of(options.sides, (*SIDES, *ASKED), parser)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    device = "CPU (smoke)" if options.smoke else torch.cuda.get_device_name()
    reached = (
        ""
        if options.smoke
        else f" A product of two 8192 x 8192 matrices in bf16: {product_speed() / 1e12:,.0f} TFLOP/s."
    )
    with scratch() as place:
        groups = partial(groups_of, all_at_once=options.all_at_once)
        workloads: dict[str, tuple[Workload, list[int]]] = {}
        failed: list[str] = []

        def measure(case: str, side: str, turn: int | None = None) -> Row:
            workload, lengths = workloads[case]
            warmup, device = (4, "cpu") if options.smoke else (20, "auto")
            steps = 6 if options.smoke else options.steps // (4 if case.endswith("-long") else 1)
            found = train_side(
                side,
                workload,
                lengths,
                steps=steps,
                warmup=warmup,
                warmup_ours=5 if options.smoke else 100 if case.endswith("-long") else 300,
                window=5 if options.smoke else 10,
                device=device,
                turn=turn,
            )
            return {**found, "flops": flops_of(workload, found.pop("lengths"))}

        def tried(case: str, side: str, turn: int | None = None) -> Row | None:
            try:
                return measure(case, side, turn)
            except RuntimeError as error:  # the others go on
                failed.append(f"{case} {side}")
                print(f"{failed[-1]}: {error}", file=sys.stderr, flush=True)
                return None

        def measure_all(pairs: Sequence[tuple[str, str]]) -> list[Row | None]:
            for case, _ in pairs:
                if case not in workloads:
                    workload = workload_of(case, options, place / case)
                    workloads[case] = workload, text_lengths(workload)
            if options.one_by_one:
                return [tried(case, side) for case, side in pairs]
            turns = [shared_lock(place / "turns") for _ in pairs]
            with ThreadPoolExecutor(len(pairs)) as pool:
                return list(pool.map(tried, *zip(*pairs, strict=True), turns))

        compare(
            options, cases, lambda case: chosen, measure, summary,
            benchmark="B2", title="a training step on a GPU", doc=__doc__,
            settings={"steps": options.steps, "device": device, "texts": "made by code" if made else "SST-2 sentences"},
            notes=[f"Device: {device}.{reached}"], until=end, together=Together(groups, measure_all),
        )  # fmt: skip

    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
