"""A package's model in torch, in ONNX Runtime and in int8: throughput on one core and on two, and accuracy.

    .venv/bin/python scripts/bench/onnx_speed.py --data-dir FOLDER [--package PACKAGE] [--out docs/results]

MiniLM is fine-tuned on SST-2's sentences by recipes/sst2.py:files for one epoch (or --package names the result),
`hf-trainpipe package --onnx --int8` writes and checks the models, and one process for each number of threads answers
the 872 sentences of the dev split (6 to 66 tokens) with each backend in turn, several rounds; the best round counts.
`pipeline` is a plain transformers.pipeline; `torch bf16` the same model in bfloat16, for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import environment, markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
MODES = {"one by one": 1, "in batches of 4,096 tokens": 4096}
BACKENDS = ("torch", "torch bf16", "onnx", "onnx-int8")
ONE_BY_ONE = 8
"""Every n-th sentence is asked alone: it takes long enough."""
IN_BATCHES = 6
"""And every n-th in batches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds sst2/sentences/")
    parser.add_argument("--package", type=Path, help="a package of recipes/sst2.py:files; else one is trained")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--measure", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.package, arguments.data_dir, arguments.measure, arguments.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        package = arguments.package or train(arguments.data_dir, Path(folder))
        manifest = json.loads((package / "trainpipe.json").read_text())
        if "onnx-int8" not in manifest.get("backends", {}):
            recipe = f"{ROOT}/recipes/sst2.py:files"
            run(
                "hf_trainpipe",
                "package",
                str(package),
                "--onnx",
                "--int8",
                "--recipe",
                recipe,
                cwd=arguments.data_dir / "sst2",
            )
        speeds = {str(threads): measured(arguments, package, threads) for threads in arguments.threads}
        manifest = json.loads((package / "trainpipe.json").read_text())
        result = {
            "environment": {**environment(), "onnxruntime": manifest["versions"]["onnxruntime"]},
            "accuracy": accuracies(package, arguments.data_dir),
            "gate": manifest["backends"],
            "bytes": {
                name: (package / file).stat().st_size
                for name, file in (
                    ("torch", "model.safetensors"), ("onnx", "onnx/model.onnx"), ("onnx-int8", "onnx/model_int8.onnx")
                )
            },
            "texts_per_s": speeds,
        }  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "onnx.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "onnx.md").write_text(report(result))
    print(report(result))


def run(module: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def train(data: Path, folder: Path) -> Path:
    recipe = f"{ROOT}/recipes/sst2.py:files"
    run(
        "hf_trainpipe",
        "train",
        recipe,
        "--data.root",
        str(data / "sst2"),
        "--budget.epochs",
        "1",
        "--run-dir",
        str(folder),
    )
    return folder / "package"


def measured(arguments: argparse.Namespace, package: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--package", str(package), "--data-dir", str(arguments.data_dir)]
    done = subprocess.run(
        [*command, "--measure", str(threads), "--rounds", str(arguments.rounds)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_TRAINPIPE_THREADS": str(threads),
             "TOKENIZERS_PARALLELISM": "false"},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def sentences(data: Path) -> list[str]:
    text = (data / "sst2/sentences/stsa.binary.dev").read_text(encoding="utf-8")
    return [line.split(" ", 1)[1] for line in text.splitlines() if line.strip()]


def measure(package: Path, data: Path, threads: int, rounds: int) -> dict[str, Any]:
    """``{mode: {way: {"wall", "cpu": texts a second}}}`` of this process; cpu: had it had the cores for itself."""
    import torch

    from hf_trainpipe.runtime.handler.predictor import Predictor

    torch.set_num_threads(threads)
    affinity = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, affinity)
    texts = sentences(data)
    result: dict[str, Any] = {}
    ways: dict[str, Predictor] = {}
    for name in BACKENDS:
        backend, _, precision = name.partition(" ")
        ways[name] = Predictor.load(
            package, device="cpu", backend=backend, threads=threads, precision=precision or "fp32"
        )
    for mode, budget in MODES.items():
        asked = texts[:: ONE_BY_ONE if budget == 1 else IN_BATCHES]
        jobs: dict[str, Callable[[], Any]] = {}
        for name, predictor in ways.items():
            features = predictor.features(asked)
            jobs[name] = lambda p=predictor, f=features, b=budget: p.predictions(f, batch_tokens=b)
        if budget == 1:
            from transformers import pipeline

            classify = pipeline("text-classification", model=str(package), device="cpu")
            jobs["pipeline"] = lambda c=classify, a=asked: [c(text) for text in a]
        best = dict.fromkeys(jobs, (float("inf"), float("inf")))
        for job in jobs.values():
            job()
        for _ in range(rounds):
            for name, job in jobs.items():
                wall, cpu = time.perf_counter(), time.process_time()
                job()
                taken = time.perf_counter() - wall, (time.process_time() - cpu) / threads
                best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1])
        result[mode] = {
            name: {"wall": len(asked) / wall, "cpu": len(asked) / cpu} for name, (wall, cpu) in best.items()
        }
    return result


def accuracies(package: Path, data: Path) -> dict[str, float]:
    import dataclasses

    from hf_trainpipe.api.package import load as load_package
    from hf_trainpipe.recipe_file import load

    recipe, _ = load(f"{ROOT}/recipes/sst2.py:files")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, root=str(data / "sst2")))
    packages = {name: load_package(package, device="cpu", backend=name) for name in ("torch", "onnx", "onnx-int8")}
    return {name: one.evaluate(recipe=recipe)["scores"]["accuracy"]["value"] for name, one in packages.items()}


def report(result: dict[str, Any]) -> str:
    rows = []
    for threads, modes in result["texts_per_s"].items():
        for mode, ways in modes.items():
            for name, speed in ways.items():
                ratios = [
                    f"{speed['cpu'] / ways[other]['cpu']:.2f}" if other in ways else ""
                    for other in ("torch", "pipeline")
                ]
                rows.append((threads, mode, name, f"{speed['wall']:,.0f}", f"{speed['cpu']:,.0f}", *ratios))
    accuracy = result["accuracy"]
    scores = [
        (
            name,
            f"{100 * value:.2f}",
            f"{100 * (value - accuracy['torch']):+.2f}",
            f"{result['bytes'][name] / 1e6:.0f} MB",
        )
        for name, value in accuracy.items()
    ]
    facts = ", ".join(f"{name} {value}" for name, value in result["environment"].items())
    return (
        "\n\n".join(
            (
                "# ONNX: throughput and accuracy",
                "`.venv/bin/python scripts/bench/onnx_speed.py --data-dir FOLDER`: MiniLM (22.7 M parameters) fine-tuned for one "
                "epoch on SST-2's 6,920 sentences; the forward pass over the 872 sentences of the dev split (6 to 66 tokens), best "
                "round of several; tokenising is not in it, but in `pipeline`, which is a bare transformers.pipeline.",
                "texts/s: by the clock, and by the process's CPU time over its threads, which another process on the machine does "
                "not change much; ratios are of the latter.",
                markdown_table(("threads", "texts", "way", "clock", "CPU time", "/ torch", "/ pipeline"), rows),
                markdown_table(("backend", "accuracy, %", "points", "file"), scores),
                f"int8: {result['gate']['onnx-int8']['scheme']}. {facts}.",
            )
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
