"""B2: real tokens a second when fine-tuning on a GPU: MiniLM and encoders of 110 to 150 M parameters, at bf16.

    python scripts/bench/gpu.py --data-dir ../shared/data
    python scripts/bench/gpu.py                           # texts made by code, as long as SST-2's sentences

Each side trains 200 optimizer steps of 32 texts in its own process, after some warm-up steps. The sizes are those of
MiniLM-L6, BERT-base and ModernBERT-base; the latter two have random weights, which take the same time. Sides: `ours`
(defaults), `ours-compiled` (`--optim.compile true`, without the time of compiling), `trainer` (defaults: fp32, random
batches), `trainer-bf16` (`bf16=True`), `tuned-bf16` (`bf16=True` and length grouping). Without a GPU it prints a line and
exits; `--smoke` runs on a CPU with a tiny model.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import train_side
from public_data import Row, model_folder
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import make_workload, random_model, scratch, text_lengths, write_workload

SPECIAL = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
SIZES: dict[str, dict[str, Any]] = {
    "minilm": {},
    "bert-base": {"pad_token_id": 0},
    "modernbert-base": SPECIAL,
}
SIDES = ("ours", "ours-compiled", "trainer", "trainer-bf16", "tuned-bf16")


def made_texts(count: int) -> list[Row]:
    """Texts of 3 to 45 common words, 20 in the mean, as SST-2's sentences have."""
    from hf_trainpipe.testing import BAD, GOOD, PLAIN

    generator = random.Random(5)
    rows = []
    for _ in range(count):
        label = generator.choice(("negative", "positive"))
        words = min(45, max(3, round(generator.gauss(20, 9))))
        kinds = [*PLAIN, *(GOOD if label == "positive" else BAD)]
        rows.append({"text": " ".join(generator.choices(kinds, k=words)), "label": label})
    return rows


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        examples = {one["examples"] for found in sides.values() for one in found}
        assert len(examples) <= 1, f"the sides saw different numbers of examples: {examples}"
        rows = []
        for side, found in sides.items():
            ratios[f"{case}: ours / {side}"] = against = ratio(sides, "ours", side, "tokens_per_second")
            speed = spread([one["tokens_per_second"] for one in found]).text(",.0f")
            rows.append((side, speed, against.text() if against else "-"))
        caption = f"{case}: {''.join(f'{n:,}' for n in examples)} examples, each side"
        tables.append(Table(caption, ("side", "real tokens/s", "ours / it"), rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-gpu.json")
    parser.add_argument("--cases", default=",".join(SIZES), help=f"among {', '.join(SIZES)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"among {', '.join(SIDES)}")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args(argv)
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print("gpu.py: there is no CUDA device here; nothing was measured.")
        return
    made = options.data_dir is None
    options = parse(parser, [*(argv if argv is not None else sys.argv[1:]), *(["--data-dir", "."] if made else [])])
    cases = names_of(options.cases, list(SIZES), parser)[: 1 if options.quick or options.smoke else None]
    chosen = names_of(options.sides, SIDES, parser)
    steps = 6 if options.smoke else options.steps
    with scratch() as place:
        workloads = {}
        for case in cases:
            model = None
            if not options.smoke and case != "minilm":
                model = random_model(
                    case.removesuffix("-base"), place / f"{case}-model", str(model_folder()), **SIZES[case]
                )
            if made and not options.smoke:
                rows = made_texts(7000)
                workloads[case] = write_workload(
                    "sst2", place / case, model=model or str(model_folder()), train=rows[64:], validation=rows[:64],
                    smoke=False,
                )  # fmt: skip
            else:
                workloads[case] = make_workload("sst2", options, place / case, model=model, score_rows=64)
        lengths = {case: text_lengths(workload) for case, workload in workloads.items()}

        def measure(case: str, side: str) -> Row:
            warmup, device = (4, "cpu") if options.smoke else (20, "auto")
            found = train_side(side, workloads[case], lengths[case], steps=steps, warmup=warmup, device=device)
            found.pop("lengths")
            return found

        device = "CPU (smoke)" if options.smoke else torch.cuda.get_device_name()
        compare(
            options, cases, lambda case: chosen, measure, summary,
            benchmark="B2", title="a training step on a GPU", doc=__doc__,
            settings={"steps": steps, "device": device, "texts": "made by code" if made else "SST-2 sentences"},
            notes=[f"Device: {device}."],
        )  # fmt: skip


if __name__ == "__main__":
    main()
