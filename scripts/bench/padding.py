"""B4: computed tokens over real tokens, for several architectures.

    python scripts/bench/padding.py --data-dir ../shared/data

Each architecture is a small model with random weights (padding does not depend on its size), trained for a few steps
of 32 SST-2 sentences. This project's figure is the mean of `train/padding` in its ledger, if it is there. The Trainer's
figure does not depend on the architecture: tokens of its batches over the sum of their attention masks, with random
batches and with length grouping.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import FP32, peer, timed_steps
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, spread
from workloads import Workload, make_workload, random_model, scratch, text_lengths

BERT_LIKE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 514, "pad_token_id": 0,
}  # fmt: skip
SEQ2SEQ = {"pad_token_id": 0, "eos_token_id": 102, "bos_token_id": 101, "decoder_start_token_id": 0}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE,
    "xlm-roberta": BERT_LIKE,
    "electra": {**BERT_LIKE, "embedding_size": 32},
    "distilbert": {
        "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 514, "pad_token_id": 0,
    },
    "modernbert": {
        **BERT_LIKE, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102,
        "local_attention": 16, "global_attn_every_n_layers": 2,
    },
    "mpnet": BERT_LIKE,
    "deberta-v2": {**BERT_LIKE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "bart": {
        **SEQ2SEQ, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 514,
    },
    "t5": {**SEQ2SEQ, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
}  # fmt: skip
UNPADDED = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert")
"""Those that are to come without padding; the others with micro-batches of similar length."""
SMOKE = ("bert",)
WAYS = ("trainer", "tuned")
SMOKE_WAYS = ("trainer",)


def ours(workload: Workload, lengths: list[int], *, steps: int) -> Row:
    """Tokens computed over real ones; ``failed`` holds the last line of a run that did not end well."""
    try:
        found = timed_steps(workload, lengths, *FP32, steps=steps)
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {"failed": lines[-1][:200] if lines else "?", "examples": None}
    said = found["computed"] is not None
    return {"padding": found["computed"] / found["tokens"] if said else None, "examples": found["examples"]}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    rows = []
    for case, sides in runs.items():
        for side, found in sides.items():
            said = [one["padding"] for one in found if one.get("padding") is not None]
            failed = [one["failed"] for one in found if one.get("failed")]
            name = case if side == "ours" else f"{side} (any architecture)"
            if said:
                ratios[name] = spread(said)
            limit = ("1.02" if case in UNPADDED else "1.10") if side == "ours" else ""
            missing = f"failed: {failed[0]}" if failed else "the ledger has no train/padding"
            rows.append((name, "hf_trainpipe" if side == "ours" else "Trainer",
                         spread(said).text(".3f") if said else missing, limit))  # fmt: skip
    return ratios, [Table("", ("architecture", "side", "computed / real tokens", "to be at most"), rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-padding.json", repeats=1)
    parser.add_argument("--only", default=",".join(ARCHITECTURES), help="architectures, separated by commas")
    parser.add_argument("--steps", type=int, default=50)
    options = parse(parser, argv)
    cases = names_of(options.only, list(ARCHITECTURES), parser)
    if options.smoke:
        cases = list(SMOKE)
    steps = 6 if options.smoke else options.steps
    with scratch() as place:
        first = make_workload("sst2", options, place / "trainer", score_rows=64)
        workloads = {"trainer": first}
        for kind in cases:
            model = random_model(kind, place / f"{kind}-model", first.model, **ARCHITECTURES[kind])
            workloads[kind] = make_workload("sst2", options, place / kind, model=model, score_rows=64)
        if not options.smoke:  # the weights do not matter, so the smallest model
            small = workloads[cases[0]]
            workloads["trainer"] = make_workload("sst2", options, place / "trainer", model=small.model, score_rows=64)
        lengths = text_lengths(workloads["trainer"])

        def sides(case: str) -> tuple[str, ...]:
            return (SMOKE_WAYS if options.smoke else WAYS) if case == "trainer" else ("ours",)

        def measure(case: str, side: str) -> Row:
            if side == "ours":
                return ours(workloads[case], lengths, steps=steps)
            found = peer("train", workloads[case].folder, "--way", side, "--steps", str(steps), "--warmup", "0")
            return {"padding": found["computed"] / found["tokens"], "examples": found["examples"]}

        compare(
            options, ["trainer", *cases], sides, measure, summary,
            benchmark="B4", title="padding", doc=__doc__, settings={"steps": steps},
        )  # fmt: skip


if __name__ == "__main__":
    main()
